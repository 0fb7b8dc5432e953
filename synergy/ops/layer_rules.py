"""Sums of squared per-sample gradients, layer by layer, from a layer's inputs and output gradients.

For each sample n the gradient of a layer's weights is a product of what went in and what came back; its square,
weighted and summed over samples, has a form that avoids the gradient of a single sample where that can be. Each
rule is exact. `RULES` says which layer has one; every other layer is left to the general fallback in `ops.fisher`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

Squares: TypeAlias = dict[str, Tensor]
"""For each parameter of a layer, by its name in the layer: the weighted sum over samples of its squared gradient."""


class LayerRule(Protocol):
    """A layer's rule.

    Args:
        layer: the module.
        inputs: what its parameters acted on, `[N, ...]`.
        grads: the gradient of each sample's own log-likelihood by the layer's output, `[N, ...]`.
        weights: `[N]`, the factor of each sample's square.
        filter_means: a convolution's weight may answer with the mean over each filter, `[O, 1, 1, 1]`.
        budget: bytes that intermediate results may take.
    """

    def __call__(
        self, layer: nn.Module, inputs: Tensor, grads: Tensor, weights: Tensor, *, filter_means: bool, budget: int
    ) -> Squares: ...


def linear(
    layer: nn.Module, inputs: Tensor, grads: Tensor, weights: Tensor, *, filter_means: bool, budget: int
) -> Squares:
    """`sum_n p_n (d_n a_n^T)^2 = (p d^2)^T (a^2)`: one matrix product. With positions, a product per sample first."""
    assert isinstance(layer, nn.Linear)
    if inputs.dim() == 2:
        weighted = grads.square().mul_(weights[:, None])
        squares = {"weight": weighted.T @ inputs.square(), "bias": weighted.sum(0)}
    else:
        inputs, grads = inputs.flatten(1, -2), grads.flatten(1, -2)
        squares = {
            "weight": _sum_of_squared_products(grads.mT, inputs.mT, weights, budget),
            "bias": weights @ grads.sum(1).square(),
        }
    return squares if layer.bias is not None else {"weight": squares["weight"]}


def batch_norm(
    layer: nn.Module, inputs: Tensor, grads: Tensor, weights: Tensor, *, filter_means: bool, budget: int
) -> Squares:
    """The affine parameters of a normalisation in which every sample has its own statistics over positions."""
    assert isinstance(layer, BatchNorm)
    if inputs[0, 0].numel() > 1:
        normalised = F.group_norm(inputs, inputs.shape[1], eps=layer.eps)
    else:
        normalised = F.batch_norm(inputs, layer.running_mean, layer.running_var, eps=layer.eps)
    samples_and_channels = inputs.shape[:2]
    normalised = normalised.reshape(*samples_and_channels, -1)
    grads = grads.reshape(*samples_and_channels, -1)
    return {
        "weight": weights @ torch.linalg.vecdot(grads, normalised).square(),
        "bias": weights @ grads.sum(2).square(),
    }


def convolution(
    layer: nn.Module, inputs: Tensor, grads: Tensor, weights: Tensor, *, filter_means: bool, budget: int
) -> Squares:
    """With `U_n` the unfolded input `[K, L]` and `d_n` the output gradient `[O, L]`, the gradient is `d_n U_n^T`.

    Only its squared norm per filter is needed for the filter means, and `|d U^T|^2 = d (U^T U) d^T`: where positions
    are few the Gram matrix `U^T U` `[L, L]` costs less than the gradient `[O, K]`; each layer takes the cheaper.
    """
    assert isinstance(layer, nn.Conv2d)
    inputs = _padded(layer, inputs)
    groups, out = layer.groups, layer.out_channels // layer.groups
    grads = grads.reshape(len(weights), groups, out, -1)
    size, positions = layer.weight[0].numel(), grads.shape[-1]
    by_gram = filter_means and gram_is_cheaper(out, size, positions)
    per_sample = groups * (size * positions + (positions * (positions + out) if by_gram else out * size * 2))
    total: Tensor | None = None
    for part in _chunks(len(weights), per_sample * inputs.element_size(), budget):
        unfolded = _unfolded(layer, inputs[part]).reshape(-1, groups, size, positions)
        if by_gram:
            gram = unfolded.mT @ unfolded
            norms = torch.linalg.vecdot(grads[part] @ gram, grads[part]).clamp_(min=0)
            term = (weights[part] @ norms.flatten(1)).div_(size)
        elif filter_means:
            norms = (grads[part] @ unfolded.mT).square_().sum(-1)
            term = (weights[part] @ norms.flatten(1)).div_(size)
        else:
            term = _weighted_sum(weights[part], (grads[part] @ unfolded.mT).square_())
        total = term if total is None else total.add_(term)
    assert total is not None
    shape = (layer.out_channels, 1, 1, 1) if filter_means else layer.weight.shape
    squares = {"weight": total.reshape(shape)}
    if layer.bias is not None:
        squares["bias"] = weights @ grads.sum(-1).square().flatten(1)
    return squares


def gram_is_cheaper(out: int, size: int, positions: int) -> bool:
    """Whether a filter's squared norm costs fewer multiplications through the Gram matrix of the unfolded input.

    Args:
        out: filters of a group.
        size: weights of one filter.
        positions: output positions.
    """
    through_gram = positions * positions * (size + out)
    through_gradient = out * positions * size
    return through_gram < through_gradient


def _padded(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    left_right_top_bottom = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(inputs, left_right_top_bottom, mode=mode) if any(left_right_top_bottom) else inputs


def _unfolded(layer: nn.Conv2d, padded: Tensor) -> Tensor:
    """`[N, C, H, W]` -> `[N, C * kernel, positions]`, the values under the kernel at each output position."""
    if layer.weight.shape[2:] == (1, 1):
        down, right = layer.stride
        return padded[:, :, ::down, ::right].flatten(2)
    return F.unfold(padded, layer.weight.shape[2:], dilation=layer.dilation, stride=layer.stride)


def _sum_of_squared_products(left: Tensor, right: Tensor, weights: Tensor, budget: int) -> Tensor:
    """`sum_n p_n (left_n right_n^T)^2` for `[N, O, L]` and `[N, I, L]`, a few samples at a time."""
    total = left.new_zeros(left.shape[1], right.shape[1])
    for part in _chunks(len(weights), 2 * total.numel() * total.element_size(), budget):
        total += _weighted_sum(weights[part], (left[part] @ right[part].mT).square_())
    return total


def _weighted_sum(weights: Tensor, values: Tensor) -> Tensor:
    """`[N]` and `[N, ...]` -> `[...]`."""
    return (weights @ values.flatten(1)).view(values.shape[1:])


def _chunks(n: int, bytes_each: int, budget: int) -> Iterator[slice]:
    size = max(1, min(n, budget // max(1, bytes_each)))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


RULES: Mapping[type[nn.Module], Callable[..., Squares]] = {
    nn.Linear: linear,
    nn.Conv2d: convolution,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm3d: batch_norm,
}
"""Exact types only: a subclass may compute something else, and goes through the fallback."""
