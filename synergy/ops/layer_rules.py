"""Sums of squared per-sample gradients, layer by layer, from a layer's inputs and output gradients.

The gradient of a layer's weights for one sample is a product of its input and its output gradient. A rule computes the
weighted sum over samples of its square, where it can without the gradient of any single sample. Each rule is exact.
`RULES` lists the layers that have one; all others take the general way of `ops.fisher`.
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
"""The weighted sum over samples of the squared gradient of each parameter, by its name in the layer."""

CACHE_BYTES = 4 * 2**20
"""Bytes of a convolution's samples in one chunk on a CPU: larger chunks leave the cache between two operations."""


class LayerRule(Protocol):
    """A layer's rule.

    Args:
        layer: the module.
        inputs: of the layer, `[N, ...]`.
        grads: the gradient of each sample's own log-likelihood by the layer's output, `[N, ...]`.
        weights: factor of each sample's square, `[N]`.
        filter_means: a convolution returns the mean over each filter of its weight, `[O, 1, 1, 1]`.
        budget: bound on intermediate results, in bytes.
    """

    def __call__(
        self, layer: nn.Module, inputs: Tensor, grads: Tensor, weights: Tensor, *, filter_means: bool, budget: int
    ) -> Squares: ...


def linear(
    layer: nn.Module, inputs: Tensor, grads: Tensor, weights: Tensor, *, filter_means: bool, budget: int
) -> Squares:
    """`sum_n p_n (d_n a_n^T)^2 = (p d^2)^T (a^2)`: one matrix product. Inputs with positions take one per sample."""
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
    """The affine parameters of BatchNorm, where every sample is normalised by its own statistics over positions."""
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
    """The gradient `d_n U_n^T` of each sample, with `U_n` its unfolded input and `d_n` its output gradient.

    On a CPU U is never built. There are three ways, and each layer takes the cheapest:

    - Filter means need only a filter's squared norm `|d U^T|^2 = d (U^T U) d^T`. The Gram matrix `U^T U` is a sum of
      parts of the Gram matrix of the padded input.
    - The library computes all gradients as those of one convolution with a group for each sample.
    - With few positions each position of the kernel takes one matrix product with a stretch of the padded input.

    On other devices every operation costs a launch, and large ones cost no cache. There U is built, for as many samples
    as the budget allows, so that a layer takes a handful of operations.
    """
    assert isinstance(layer, nn.Conv2d)
    padded = _padded(layer, inputs).unflatten(1, (layer.groups, -1))
    grads = grads.unflatten(1, (layer.groups, -1))
    way = _by_unfolding if launches_cost(inputs.device) else _without_unfolding
    squares = {"weight": way(layer, padded, grads, weights, budget, filter_means=filter_means)}
    if layer.bias is not None:
        squares["bias"] = weights @ grads.sum((-2, -1)).square().flatten(1)
    return squares


@dataclass(frozen=True)
class Phase:
    """Every s-th pixel of a padded input, with s the stride, from one offset; some positions of the kernel see these.

    Attributes:
        rows, columns: the pixels.
        positions: those of the kernel: row and column in the kernel, then row and column within the phase of the first
            pixel they see.
    """

    rows: slice
    columns: slice
    positions: Sequence[tuple[int, int, int, int]]


def phases(layer: nn.Conv2d) -> list[Phase]:
    """All phases that some position of the kernel sees. Within a phase the stride is 1."""
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


def launches_cost(device: torch.device) -> bool:
    """Whether few large operations are quicker there than many that stay in a cache."""
    return device.type != "cpu"


def _without_unfolding(
    layer: nn.Conv2d, padded: Tensor, grads: Tensor, weights: Tensor, budget: int, *, filter_means: bool
) -> Tensor:
    """As `_by_unfolding`, by the cheapest way of a CPU; samples in a chunk stay in its cache."""
    budget = min(budget, CACHE_BYTES)
    if filter_means and gram_is_cheaper(layer, padded.shape[-2:], grads.shape[-2:]):
        return _means_by_gram(layer, padded, grads, weights, budget)
    by_library = math.prod(grads.shape[-2:]) >= padded.shape[2]
    way = _squares_by_library if by_library else _squares_by_stretches
    squares = way(layer, padded, grads, weights, budget)
    return squares.mean((1, 2, 3), keepdim=True) if filter_means else squares


def _by_unfolding(
    layer: nn.Conv2d, padded: Tensor, grads: Tensor, weights: Tensor, budget: int, *, filter_means: bool
) -> Tensor:
    """The weighted sum of squares, `[G * O, C, *kernel]`, or its filter means, `[G * O, 1, 1, 1]`."""
    (groups, filters), kernel = grads.shape[1:3], layer.weight[0].numel()
    positions = math.prod(grads.shape[-2:])
    # Filter means need products of positions with positions, or of filters with inputs, whatever are fewer.
    by_positions = filter_means and positions * (kernel + filters) < filters * kernel
    products = positions * (positions + filters) if by_positions else 2 * filters * kernel
    values = groups * (positions * (kernel + filters) + products)
    total = grads.new_zeros(groups * filters, 1 if filter_means else kernel)
    for part in _chunks(len(weights), values * grads.element_size(), budget):
        unfolded, flat = _unfolded(layer, padded[part]), grads[part].flatten(-2)
        if by_positions:
            sums = torch.linalg.vecdot(flat @ (unfolded.mT @ unfolded), flat).clamp_(min=0)
        else:
            single = flat @ unfolded.mT
            sums = torch.linalg.vecdot(single, single) if filter_means else single.square_()
        total += _weighted_sum(weights[part], sums).view(total.shape)
    return total.div_(kernel).view(-1, 1, 1, 1) if filter_means else total.view(layer.weight.shape)


def _unfolded(layer: nn.Conv2d, padded: Tensor) -> Tensor:
    """The inputs that each position sees: `[N, G, C, H, W]` -> `[N, G, C * kernel, h * w]`."""
    (height, width), (down, right) = layer.kernel_size, layer.dilation
    seen = padded.unfold(3, down * (height - 1) + 1, layer.stride[0])
    seen = seen.unfold(4, right * (width - 1) + 1, layer.stride[1])[..., ::down, ::right]
    return seen.permute(0, 1, 2, 5, 6, 3, 4).flatten(2, 4).flatten(-2)


def _squares_by_library(layer: nn.Conv2d, padded: Tensor, grads: Tensor, weights: Tensor, budget: int) -> Tensor:
    """`[N, G, C, H, W]`, `[N, G, O, h, w]` and `[N]` -> the weighted sum of squares, `[G * O, C, *kernel]`."""
    squares = torch.zeros_like(layer.weight)
    values = padded[0].numel() + grads[0].numel() + 2 * squares.numel()
    for part in _chunks(len(weights), values * grads.element_size(), budget):
        n = len(weights[part])
        # Contiguous: the library (torch 2.13) corrupts memory where channels are last and few.
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
    """As `_squares_by_library`, with one matrix product for each position of the kernel."""
    (groups, filters, height, width), channels = grads.shape[1:], padded.shape[2]
    squares = grads.new_zeros(*layer.kernel_size, groups * filters, channels)
    pixels = math.prod(padded.shape[-2:])
    values = groups * (pixels * (filters + channels) + 2 * filters * channels)
    for part, phase in product(_chunks(len(weights), values * grads.element_size(), budget), phases(layer)):
        seen = padded[part, ..., phase.rows, phase.columns]
        # Rows of the gradient are padded with zeros to the width of the input, so that a position sees one stretch.
        stretch = (height - 1) * seen.shape[-1] + width
        wide = F.pad(grads[part], (0, seen.shape[-1] - width)).flatten(-2)[..., :stretch]
        flat = seen.flatten(-2)
        for down, right, row, column in phase.positions:
            start = row * seen.shape[-1] + column
            gradient = wide @ flat[..., start : start + stretch].mT
            squares[down, right] += _weighted_sum(weights[part], gradient.square_()).flatten(0, 1)
    return squares.permute(2, 3, 0, 1)


def _means_by_gram(layer: nn.Conv2d, padded: Tensor, grads: Tensor, weights: Tensor, budget: int) -> Tensor:
    """The mean of the squares over each filter, `[G * O, 1, 1, 1]`; arguments as in `_squares_by_library`."""
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
"""Exact types only: a subclass may compute something else and takes the general way."""
