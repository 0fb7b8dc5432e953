"""A network's parameters as one vector that shares their storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from synergy.errors import UsageError

NetT = TypeVar("NetT", bound=nn.Module)

FEWEST_CHANNELS = 16
"""Fewest output channels for channels_last."""


class Flat:
    """The trained parameters of a network as one vector `values` `[P]`, their gradients as another, `grads` `[P]`.

    Trained are the parameters that ask for a gradient; the others are frozen and stay outside. The trained ones become
    views of `values` and their `.grad` views of `grads`. So an average, a penalty or an optimiser step over the whole
    network is one operation. `parameter` is `values` with `grads` as its gradient, for an optimiser.

    The order is that of `net.parameters()`. A parameter with new storage (`net.to`, a new layer) is no view any more:
    call `follow` then. `load_state_dict` copies in place and is safe.

    Args:
        net: its trained parameters share one dtype and one device; there is at least one.
        with_grads: whether to keep gradients too; an averaged network needs none.

    Attributes:
        parameters: the trained ones, in their order.

    Examples:
        >>> from torch import nn
        >>> net = nn.Linear(2, 1)
        >>> weights = Flat(net)
        >>> _ = weights.values.fill_(0.5)
        >>> net.weight.tolist(), net.bias.tolist()
        ([[0.5, 0.5]], [0.5])
    """

    def __init__(self, net: nn.Module, with_grads: bool = True) -> None:
        self._net = net
        self.with_grads = with_grads
        self._flatten()

    def _flatten(self) -> None:
        with_grads = self.with_grads
        self.parameters = trained(self._net)
        kinds = {(p.dtype, p.device) for p in self.parameters}
        assert len(kinds) == 1, f"parameters of one dtype on one device are required, found {kinds}"
        first = self.parameters[0]
        total = sum(p.numel() for p in self.parameters)
        self.values = torch.empty(total, dtype=first.dtype, device=first.device)
        self.grads = torch.zeros_like(self.values) if with_grads else self.values.new_empty(0)
        self.parameter = nn.Parameter(self.values, requires_grad=with_grads)
        self.parameter.grad = self.grads if with_grads else None
        with torch.no_grad():
            for parameter, view in zip(self.parameters, self.views(self.values), strict=True):
                view.copy_(parameter)
                parameter.data = view
        if with_grads:
            for parameter, view in zip(self.parameters, self.views(self.grads), strict=True):
                parameter.grad = view

    def follow(self) -> Tensor:
        """Take over the network's present parameters, after some were replaced by longer ones.

        Every old parameter has a successor in its place. The first values of the successor, in row-major order, are
        those of the old one; memory layouts may differ.

        Returns:
            The position of each element of the old vector in the new one, `int64 [P]`.
        """
        before = self._places()
        self._flatten()
        positions = torch.empty(sum(map(len, before)), dtype=torch.int64, device=self.values.device)
        for old, new in zip(before, self._places(), strict=True):
            positions[old] = new[: len(old)]
        return positions

    def _places(self) -> list[Tensor]:
        """The positions of each parameter's elements, in row-major order, in the vector: `int64`."""
        numbers = torch.arange(len(self.values), device=self.values.device)
        return [view.reshape(-1) for view in self.views(numbers)]

    def backward(self, loss: Tensor) -> None:
        """`grads <- d loss / d values`."""
        self.grads.zero_()
        torch.autograd.backward(loss)

    def views(self, vector: Tensor) -> Iterator[Tensor]:
        """A vector `[P]` as tensors of the parameters' shapes and memory layouts, sharing its storage."""
        start = 0
        for parameter in self.parameters:
            segment = vector[start : start + parameter.numel()]
            start += parameter.numel()
            yield _shaped_like(segment, parameter)

    def gather(self, tensors: Sequence[Tensor], out: Tensor) -> Tensor:
        """Write a tensor for each parameter, of its shape or broadcastable to it, into the vector `out` `[P]`."""
        for view, tensor in zip(self.views(out), tensors, strict=True):
            view.copy_(tensor)
        return out


class PerParameter:
    """A number for each trained parameter of a network, such as its importance, in the order of the network's `Flat`.

    It follows the network when that grows, and is saved with the method that holds it.

    Args:
        weights: of the network.
        values: the first ones, `[P]`. By default they are zeros and count as not set.

    Attributes:
        values: `[P]`.
        is_set: whether the values were set. The host decides it, with the step that sets them.

    Examples:
        >>> from torch import nn
        >>> importance = PerParameter(Flat(nn.Linear(2, 1)))
        >>> importance.values, importance.is_set
        (tensor([0., 0., 0.]), False)
    """

    def __init__(self, weights: Flat, values: Tensor | None = None) -> None:
        self.weights = weights
        self.is_set = values is not None
        self.values = torch.zeros_like(weights.values) if values is None else values

    def carry(self, positions: Tensor) -> None:
        """Follow `weights`, whose old elements are now at `positions`, `int64 [P]`; new elements are 0."""
        self.values = carried(self.values, positions, len(self.weights.values))

    def saved(self) -> Tensor | None:
        """The values; None if they are not set."""
        return self.values if self.is_set else None

    def restore(self, saved: Tensor | None) -> None:
        """Take over the result of `saved`. Raises ValueError if it belongs to another network."""
        if saved is not None and (saved.shape, saved.dtype) != (self.values.shape, self.values.dtype):
            raise ValueError(f"a tensor of {saved.dtype} {list(saved.shape)}, which no network here has")
        self.is_set = saved is not None
        self.values.zero_() if saved is None else self.values.copy_(saved)


def carried(vector: Tensor, positions: Tensor, size: int) -> Tensor:
    """A vector of `size` elements: those of `vector` at `positions`, 0 elsewhere.

    Args:
        vector: `[P]`.
        positions: of its elements in the result, `int64 [P]`.
        size: elements of the result.

    Examples:
        >>> import torch
        >>> carried(torch.tensor([7, 8]), torch.tensor([0, 2]), 4)
        tensor([7, 0, 8, 0])
    """
    return vector.new_zeros(size).index_copy_(0, positions, vector)


def trained(net: nn.Module) -> list[nn.Parameter]:
    """The parameters that ask for a gradient, in the order of `net.parameters()`.

    Examples:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(2, 3).requires_grad_(False), nn.Linear(3, 1))
        >>> [list(parameter.shape) for parameter in trained(net)]
        [[1, 3], [1]]
    """
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def twin(net: NetT) -> NetT:
    """A copy of a network that shares its frozen parameters: they are in memory once.

    Examples:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(2, 3).requires_grad_(False), nn.Linear(3, 1))
        >>> copy = twin(net)
        >>> copy[0].weight is net[0].weight, copy[1].weight is net[1].weight
        (True, False)
    """
    shared = {id(parameter): parameter for parameter in net.parameters() if not parameter.requires_grad}
    return deepcopy(net, dict[int, object](shared))


def gains_by_channels_last(net: nn.Module) -> bool:
    """Whether a network has 2-d convolutions, whose layout makes a difference."""
    return any(isinstance(module, nn.Conv2d) for module in net.modules())


def channels_last(net: nn.Module) -> nn.Module:
    """Lay out the weights of 2-d convolutions with channels last, in place. Activations follow their layout.

    Raises:
        UsageError: a convolution has fewer than 16 output channels, where the CPU's library (torch 2.13) corrupts
            memory.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            if module.out_channels < FEWEST_CHANNELS:
                raise UsageError(
                    f"memory_format: given channels_last for a convolution of {module.out_channels} channels; allowed: "
                    f"from {FEWEST_CHANNELS} channels on (use --memory_format contiguous, or --width {FEWEST_CHANNELS})"
                )
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return net


def _shaped_like(segment: Tensor, parameter: Tensor) -> Tensor:
    if parameter.is_contiguous():
        return segment.view(parameter.shape)
    # A convolution's weight with channels last keeps the order of its dimensions in memory. A parameter with gaps or
    # overlaps gets the dense layout of its copies.
    strides = torch.empty_like(parameter, device="meta").stride()
    order = sorted(range(parameter.dim()), key=lambda dimension: -strides[dimension])
    in_memory = segment.view([parameter.shape[dimension] for dimension in order])
    return in_memory.permute([order.index(dimension) for dimension in range(parameter.dim())])


def parameter_vector(net: nn.Module) -> Tensor:
    """A copy of all parameters as one vector `[P]`, in the order of `net.parameters()`, each in row-major order."""
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])
