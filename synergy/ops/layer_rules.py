"""Sums of squared per-sample gradients, layer by layer, from a layer's inputs and output gradients.

For each sample n the gradient of a layer's weights is a product of what went in and what came back; its square,
weighted and summed over samples, has a form that avoids the gradient of a single sample where that can be. Each
rule is exact. `RULES` says which layer has one; every other layer is left to the general fallback in `ops.fisher`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

Squares: TypeAlias = dict[str, Tensor]
"""For each parameter of a layer, by its name in the layer: the weighted sum over samples of its squared gradient."""


CACHE_BYTES = 4 * 2**20
"""What a convolution's samples may take at a time on a CPU: more is no faster, since it leaves the cache in between."""


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
    """With `U_n` the unfolded input and `d_n` the output gradient, the gradient is `d_n U_n^T`. U itself is never made.

    For the filter means only a filter's squared norm is needed, and `|d U^T|^2 = d (U^T U) d^T`, where the Gram matrix
    is a sum of parts of that of the padded input: each layer takes the cheaper way. The gradients themselves come from
    the CPU's library as those of one convolution with a group for each sample; where positions are few, and on other
    devices, from a product for each position of the kernel, which sees a stretch of the padded input.
    """
    assert isinstance(layer, nn.Conv2d)
    padded = _padded(layer, inputs).unflatten(1, (layer.groups, -1))
    grads = grads.unflatten(1, (layer.groups, -1))
    if inputs.device.type == "cpu":
        budget = min(budget, CACHE_BYTES)
    if filter_means and gram_is_cheaper(layer, padded.shape[-2:], grads.shape[-2:]):
        squares = {"weight": _means_by_gram(layer, padded, grads, weights, budget)}
    else:
        by_library = inputs.device.type == "cpu" and math.prod(grads.shape[-2:]) >= padded.shape[2]
        way = _squares_by_library if by_library else _squares_by_stretches
        single = way(layer, padded, grads, weights, budget)
        squares = {"weight": single.mean((1, 2, 3), keepdim=True) if filter_means else single}
    if layer.bias is not None:
        squares["bias"] = weights @ grads.sum((-2, -1)).square().flatten(1)
    return squares


@dataclass(frozen=True)
class Phase:
    """The pixels of a padded input, every so many by the stride, that some positions of a kernel see.

    Attributes:
        rows, columns: which pixels.
        positions: of the kernel, each with the row and column of the first pixel it sees, counted within the phase.
    """

    rows: slice
    columns: slice
    positions: Sequence[tuple[int, int, int, int]]


def phases(layer: nn.Conv2d) -> list[Phase]:
    """All phases that a position of the kernel sees. Within a phase the stride is 1."""
    found: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
    for down, right in product(*map(range, layer.kernel_size)):
        row, above = divmod(down * layer.dilation[0], layer.stride[0])
        column, left = divmod(right * layer.dilation[1], layer.stride[1])
        found.setdefault((above, left), []).append((down, right, row, column))
    strides = layer.stride
    return [
        Phase(slice(above, None, strides[0]), slice(left, None, strides[1]), positions)
        for (above, left), positions in found.items()
    ]


def gram_is_cheaper(layer: nn.Conv2d, padded: Sequence[int], positions: Sequence[int]) -> bool:
    """Whether the filters' squared norms cost fewer multiplications through the Gram matrix of the input.

    Args:
        layer: the convolution.
        padded: height and width of its padded input.
        positions: height and width of its output.
    """
    n, kernel = math.prod(positions), math.prod(layer.kernel_size)
    filters, channels = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    pixels = [len(range(*p.rows.indices(padded[0]))) * len(range(*p.columns.indices(padded[1]))) for p in phases(layer)]
    through_gram = channels * sum(count**2 for count in pixels) + n**2 * (kernel + filters)
    return through_gram < filters * n * channels * kernel


def _squares_by_library(layer: nn.Conv2d, padded: Tensor, grads: Tensor, weights: Tensor, budget: int) -> Tensor:
    """`[N, G, C, H, W]`, `[N, G, O, h, w]` and `[N]` -> the weighted sum of squares, `[G * O, C, *kernel]`."""
    squares = torch.zeros_like(layer.weight)
    values = padded[0].numel() + grads[0].numel() + 2 * squares.numel()
    for part in _chunks(len(weights), values * grads.element_size(), budget):
        n = len(weights[part])
        # Contiguous: with channels last and few of them the library (torch 2.13) corrupts memory.
        gradients = conv2d_weight(
            padded[part].reshape(1, -1, *padded.shape[-2:]).contiguous(),
            [n * layer.out_channels, *layer.weight.shape[1:]],
            grads[part].reshape(1, -1, *grads.shape[-2:]).contiguous(),
            layer.stride,
            dilation=layer.dilation,
            groups=n * layer.groups,
        )
        squares += _weighted_sum(weights[part], gradients.reshape(n, *squares.shape).square_())
    return squares


def _squares_by_stretches(layer: nn.Conv2d, padded: Tensor, grads: Tensor, weights: Tensor, budget: int) -> Tensor:
    """The same."""
    (groups, filters, height, width), channels = grads.shape[1:], padded.shape[2]
    squares = grads.new_zeros(*layer.kernel_size, groups * filters, channels)
    pixels = math.prod(padded.shape[-2:])
    values = groups * (pixels * (filters + channels) + 2 * filters * channels)
    for part, phase in product(_chunks(len(weights), values * grads.element_size(), budget), phases(layer)):
        seen = padded[part, ..., phase.rows, phase.columns]
        # As wide as the input, with zeros where a row goes on beyond what a position sees: then that is one stretch.
        stretch = (height - 1) * seen.shape[-1] + width
        wide = F.pad(grads[part], (0, seen.shape[-1] - width)).flatten(-2)[..., :stretch]
        flat = seen.flatten(-2)
        for down, right, row, column in phase.positions:
            start = row * seen.shape[-1] + column
            gradient = wide @ flat[..., start : start + stretch].mT
            squares[down, right] += _weighted_sum(weights[part], gradient.square_()).flatten(0, 1)
    return squares.permute(2, 3, 0, 1)


def _means_by_gram(layer: nn.Conv2d, padded: Tensor, grads: Tensor, weights: Tensor, budget: int) -> Tensor:
    """The mean of the same over each filter, `[G * O, 1, 1, 1]`."""
    groups, filters, height, width = grads.shape[1:]
    positions = height * width
    means = grads.new_zeros(groups * filters)
    values = groups * (math.prod(padded.shape[-2:]) ** 2 + positions * (positions + filters))
    for part in _chunks(len(weights), values * grads.element_size(), budget):
        gram = grads.new_zeros(len(weights[part]), groups, height, width, height, width)
        for phase in phases(layer):
            seen = padded[part, ..., phase.rows, phase.columns]
            products = (seen.flatten(-2).mT @ seen.flatten(-2)).view(*gram.shape[:2], *2 * seen.shape[-2:])
            for _, _, row, column in phase.positions:
                rows, columns = slice(row, row + height), slice(column, column + width)
                gram += products[..., rows, columns, rows, columns]
        flat = grads[part].flatten(-2)
        norms = torch.linalg.vecdot(flat @ gram.view(*gram.shape[:2], positions, positions), flat).clamp_(min=0)
        means += weights[part] @ norms.flatten(1)
    return means.div_(layer.weight[0].numel()).view(-1, 1, 1, 1)


def _padded(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    left_right_top_bottom = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(inputs, left_right_top_bottom, mode=mode) if any(left_right_top_bottom) else inputs


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
