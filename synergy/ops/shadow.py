"""One bfloat16 copy of a network's parameters, in place of a cast of every weight at each of its uses.

Within `torch.autocast` a convolution or a linear layer casts its weight and casts its gradient back. Here all weights
are cast in one operation when they have changed, and all gradients of a pass are cast back in one. The numbers are the
same, bit by bit: a cast is one of single elements, and gradients of several passes are added in float32 as before. Last
bits differ only where a forward pass uses a weight twice and there are several passes: they are added in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from synergy.ops.vectors import Flat

CASTING = frozenset(
    (F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
)
"""Operations whose weights autocast would cast."""
ALIGNED = 256
"""Elements: every tensor starts at a multiple, as one of its own would. Libraries choose their ways by that."""


class Shadowed(TorchFunctionMode):
    """Within, and within `torch.autocast` to bfloat16, layers use copies of their weights that are cast together.

    Parameters, their gradients and their states stay what they are. A weight that changed since it was copied is copied
    again, with all others of its network. What this does not know (other operations, a vector without gradients where
    gradients are asked for) is cast by autocast as ever.

    Args:
        flats: of the networks; those of another type than float32 are left alone.

    Examples:
        >>> net = nn.Linear(4, 2)
        >>> weights = Flat(net)
        >>> with torch.autocast("cpu", dtype=torch.bfloat16), Shadowed([weights]):
        ...     weights.backward(net(torch.ones(3, 4)).float().sum())
        >>> net.weight.dtype, net.weight.grad[0].tolist()
        (torch.float32, [3.0, 3.0, 3.0, 3.0])
    """

    def __init__(self, flats: Sequence[Flat]) -> None:
        super().__init__()
        copies = [_Copy(weights) for weights in flats if weights.values.dtype is torch.float32]
        self._device = copies[0].device if copies else "cpu"
        self._places = {id(p): (copy, number) for copy in copies for number, p in enumerate(copy.parameters)}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in CASTING and self._is_cast():
            args = tuple(map(self._stand_in, args))
            named = {name: self._stand_in(value) for name, value in named.items()}
        return func(*args, **named)

    def _is_cast(self) -> bool:
        kind = self._device
        return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) is torch.bfloat16

    def _stand_in(self, argument: Any) -> Any:
        place = self._places.get(id(argument))
        return argument if place is None else place[0].of(place[1])


class _Copy:
    """The bfloat16 copy of one network's parameters, as it is now."""

    def __init__(self, weights: Flat) -> None:
        self.weights = weights
        self.parameters = weights.parameters
        self.device = weights.values.device.type
        self._views: list[Tensor] = []
        self._versions: list[int] = []
        """Of the vector and of each parameter, when they were copied."""
        self._differentiable: Sequence[Tensor] = ()
        self._used: set[int] = set()

    def of(self, number: int) -> Tensor:
        """What stands in for a parameter."""
        parameter = self.parameters[number]
        differentiated = torch.is_grad_enabled() and parameter.requires_grad
        if differentiated and not self.weights.with_grads:
            return parameter
        if not self._versions or self._now(number) != (self._versions[0], self._versions[number + 1]):
            self._write()
        if not differentiated:
            return self._views[number]
        # A weight that is used again gets a gradient of its own, as by a cast of its own: they are added in float32.
        if not self._differentiable or number in self._used:
            cast: Any = _Cast.apply
            self._differentiable = cast(self.weights.parameter, self.weights, self._views)
            self._used = set()
        self._used.add(number)
        return self._differentiable[number]

    def _now(self, number: int) -> tuple[int, int]:
        return self.weights.values._version, self.parameters[number]._version

    @torch.no_grad()
    def _write(self) -> None:
        # A new buffer each time: a backward pass may still need the old one.
        self._views = list(_views(self.parameters))
        torch._foreach_copy_(self._views, list[Tensor](self.parameters))
        self._versions = [self.weights.values._version, *(parameter._version for parameter in self.parameters)]
        self._differentiable, self._used = (), set()


class _Cast(torch.autograd.Function):
    """The vector of a network's parameters -> all parameters in bfloat16."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, weights: Flat, views: Sequence[Tensor]) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.weights = weights
        return tuple(view.view_as(view) for view in views)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None, None]:
        weights: Flat = ctx.weights
        total = torch.zeros_like(weights.values)
        pairs = [(view, grad) for view, grad in zip(weights.views(total), grads, strict=True) if grad is not None]
        # One operation where the layouts agree.
        alike = [pair for pair in pairs if pair[0].stride() == pair[1].stride()]
        if alike:
            torch._foreach_copy_([view for view, _ in alike], [grad for _, grad in alike])
        for view, grad in pairs:
            if view.stride() != grad.stride():
                view.copy_(grad)
        return total, None, None


def _views(parameters: Sequence[Tensor]) -> Iterator[Tensor]:
    """Empty bfloat16 tensors like these, in one buffer."""
    sizes = [-(-parameter.numel() // ALIGNED) * ALIGNED for parameter in parameters]
    buffer = torch.empty(sum(sizes), dtype=torch.bfloat16, device=parameters[0].device)
    start = 0
    for parameter, size in zip(parameters, sizes, strict=True):
        yield buffer.as_strided(parameter.shape, parameter.stride(), start)
        start += size


def is_compiled(net: nn.Module) -> bool:
    """Whether a part of a network is compiled: it was traced without stand-ins."""
    return any(name.endswith("_orig_mod") or part._compiled_call_impl for name, part in net.named_modules())
