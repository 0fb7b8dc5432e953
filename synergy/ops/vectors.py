"""A network's parameters as one vector, and back, without copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from synergy.errors import UsageError

FEWEST_CHANNELS = 16
"""Of a convolution with channels last."""


class Flat:
    """The parameters of a network as one vector `values` `[P]` and their gradients as another, `grads` `[P]`.

    The network's parameters become views of `values` and their `.grad` views of `grads`, so that an average, a penalty
    or an optimiser step over the whole network is one operation instead of one per layer. `parameter` is `values` with
    `grads` as its gradient, for an optimiser.

    The order is that of `net.parameters()`. Replacing a parameter's storage (`net.to`, a new layer) breaks the tie:
    `follow` the network then. `load_state_dict` copies in place and is safe.

    Args:
        net: its parameters must share one dtype and one device.
        with_grads: whether to keep gradients too. A network that is only averaged needs none.
    """

    def __init__(self, net: nn.Module, with_grads: bool = True) -> None:
        self._net = net
        self._with_grads = with_grads
        self._take_up()

    def _take_up(self) -> None:
        with_grads = self._with_grads
        self._parameters = list(self._net.parameters())
        kinds = {(p.dtype, p.device) for p in self._parameters}
        assert len(kinds) == 1, f"parameters of one dtype on one device are needed, found {kinds}"
        first = self._parameters[0]
        total = sum(p.numel() for p in self._parameters)
        self.values = torch.empty(total, dtype=first.dtype, device=first.device)
        self.grads = torch.zeros_like(self.values) if with_grads else self.values.new_empty(0)
        self.parameter = nn.Parameter(self.values, requires_grad=with_grads)
        self.parameter.grad = self.grads if with_grads else None
        with torch.no_grad():
            for parameter, view in zip(self._parameters, self.views(self.values), strict=True):
                view.copy_(parameter)
                parameter.data = view
        if with_grads:
            for parameter, view in zip(self._parameters, self.views(self.grads), strict=True):
                parameter.grad = view

    def follow(self) -> Tensor:
        """Take up the parameters that the network has now, after some were replaced by longer ones.

        Every old parameter must have a successor in its place, whose first values, in row-major order, are its own. How
        the two are laid out in memory does not matter.

        Returns:
            Where each element of the old vector is in the new one, `int64 [P]`.
        """
        before = self._places()
        self._take_up()
        positions = torch.empty(sum(map(len, before)), dtype=torch.int64, device=self.values.device)
        for old, new in zip(before, self._places(), strict=True):
            positions[old] = new[: len(old)]
        return positions

    def _places(self) -> list[Tensor]:
        """For each parameter where its elements, in row-major order, are in the vector: `int64`."""
        numbers = torch.arange(len(self.values), device=self.values.device)
        return [view.reshape(-1) for view in self.views(numbers)]

    def backward(self, loss: Tensor) -> None:
        """`grads <- d loss / d values`."""
        self.grads.zero_()
        torch.autograd.backward(loss)

    def views(self, vector: Tensor) -> Iterator[Tensor]:
        """A vector `[P]` as tensors of the parameters' shapes and memory layouts, sharing its storage."""
        start = 0
        for parameter in self._parameters:
            segment = vector[start : start + parameter.numel()]
            start += parameter.numel()
            yield _shaped_like(segment, parameter)

    def gather(self, tensors: Sequence[Tensor], out: Tensor) -> Tensor:
        """Write one tensor for each parameter (of its shape, or broadcastable to it) into the vector `out` `[P]`."""
        for view, tensor in zip(self.views(out), tensors, strict=True):
            view.copy_(tensor)
        return out


class PerParameter:
    """A number for each parameter of a network, such as its importance, in the order of the network's `Flat`.

    It follows the network when that grows, and is saved with the method that holds it.

    Args:
        weights: of the network.
        values: the first ones, `[P]`; without them they are zeros that nobody has set yet.

    Attributes:
        values: `[P]`.
        is_set: whether the numbers mean something. It is decided on the host, with the step that sets them.
    """

    def __init__(self, weights: Flat, values: Tensor | None = None) -> None:
        self.weights = weights
        self.is_set = values is not None
        self.values = torch.zeros_like(weights.values) if values is None else values

    def carry(self, positions: Tensor) -> None:
        """Follow `weights`, whose old elements are now at `positions`, `int64 [P]`; new elements are 0."""
        self.values = carried(self.values, positions, len(self.weights.values))

    def saved(self) -> Tensor | None:
        """The values; None if nobody has set them."""
        return self.values if self.is_set else None

    def restore(self, saved: Tensor | None) -> None:
        """Take up what `saved` gave. Raises ValueError if it belongs to another network."""
        if saved is not None and (saved.shape, saved.dtype) != (self.values.shape, self.values.dtype):
            raise ValueError(f"a tensor of {saved.dtype} {list(saved.shape)}, which no network here has")
        self.is_set = saved is not None
        self.values.zero_() if saved is None else self.values.copy_(saved)


def carried(vector: Tensor, positions: Tensor, size: int) -> Tensor:
    """A vector with an element for each parameter `[P]`, as one of `size` elements, 0 where there was none.

    Args:
        vector: `[P]`.
        positions: `int64 [P]`, where each element goes.
        size: of the result.
    """
    return vector.new_zeros(size).index_copy_(0, positions, vector)


def channels_last(net: nn.Module) -> nn.Module:
    """Lay out the weights of 2-d convolutions with channels last, in place; activations follow them.

    Raises:
        UsageError: a convolution has so few channels that the CPU's library (torch 2.13) corrupts memory on it.
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
    # Such as a convolution's weight in channels-last order: the view keeps the order of the dimensions in memory. A
    # parameter with gaps or overlaps gets the layout that torch gives its copies, which have none.
    strides = torch.empty_like(parameter, device="meta").stride()
    order = sorted(range(parameter.dim()), key=lambda dimension: -strides[dimension])
    in_memory = segment.view([parameter.shape[dimension] for dimension in order])
    return in_memory.permute([order.index(dimension) for dimension in range(parameter.dim())])


def parameter_vector(net: nn.Module) -> Tensor:
    """A copy of all parameters as one vector `[P]`, in the order of `net.parameters()`, each in row-major order."""
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])
