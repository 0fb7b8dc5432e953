"""Networks of several named inputs and outputs: their samples are packed into one tensor, their logits taken out.

Streams, memories and methods know one tensor for the samples and one for the outputs. The network itself unpacks the
samples before it runs, and gives its logits afterwards; its parameters keep their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from synergy.errors import UsageError

NetT = TypeVar("NetT", bound=nn.Module)
LARGEST_EXACT = 2**24
"""Whole numbers up to here are exact in float32."""


@dataclass(frozen=True)
class Column:
    """One named input: its name, the shape of a sample's part, and the type of its numbers."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Packing:
    """How samples of several named tensors lie in one tensor `[B, N]`: one after the other, each row by row.

    Whole numbers stay whole if all columns are; beside floats they become float32.

    Examples:
        >>> texts = {"input_ids": torch.tensor([[5, 6, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
        >>> packing = Packing.of(texts)
        >>> packing.pack(texts)
        tensor([[5, 6, 0, 1, 1, 0]])
        >>> packing.unpack(packing.pack(texts))["attention_mask"]
        tensor([[1, 1, 0]])
    """

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """The packing of samples like these, each `[B, ...]`. Raises UsageError if there are none."""
        if not tensors:
            raise UsageError("samples: given a mapping without entries; allowed: one tensor or more, by name")
        return cls(tuple(Column(name, tuple(value.shape[1:]), value.dtype) for name, value in tensors.items()))

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """All tensors `[B, ...]` as one, `[B, N]`.

        Raises:
            UsageError: a name is missing or new, a shape is another one, or a number is too large for float32.
        """
        names = [column.name for column in self.columns]
        if tensors.keys() != set(names):
            raise UsageError(f"samples: given {', '.join(tensors)}; allowed: {', '.join(names)}, as in the first batch")
        if len(sizes := {len(value) for value in tensors.values()}) > 1:
            raise UsageError(f"samples: given tensors for {sorted(sizes)} samples; allowed: for equally many")
        parts = [self._part(column, tensors[column.name]) for column in self.columns]
        dtype = parts[0].dtype
        for part in parts[1:]:
            dtype = torch.promote_types(dtype, part.dtype)
        return torch.cat([part.to(dtype) for part in parts], 1)

    def _part(self, column: Column, value: Tensor) -> Tensor:
        if value.shape[1:] != column.shape:
            allowed = ", ".join(["B", *map(str, column.shape)])
            raise UsageError(
                f"samples: '{column.name}' has shape {list(value.shape)}; allowed: [{allowed}], as in the first batch "
                "(pad texts to one length)"
            )
        mixed = any(other.dtype.is_floating_point for other in self.columns)
        if mixed and not value.is_floating_point() and value.numel() and int(value.abs().max()) > LARGEST_EXACT:
            raise UsageError(f"samples: '{column.name}' beside floats holds whole numbers above {LARGEST_EXACT}")
        return value.reshape(len(value), prod(column.shape))

    def unpack(self, packed: Tensor) -> dict[str, Tensor]:
        """The tensors in `[B, N]`, by name. Pixels (uint8) stay as the view has made them."""
        parts = packed.split([prod(column.shape) for column in self.columns], 1)
        found = {}
        for column, part in zip(self.columns, parts, strict=True):
            shaped = part.reshape(len(packed), *column.shape)
            whole = not column.dtype.is_floating_point and column.dtype is not torch.uint8
            found[column.name] = shaped.to(column.dtype) if whole else shaped
        return found

    def state(self) -> list[list[Any]]:
        """For a file."""
        return [[each.name, list(each.shape), str(each.dtype).removeprefix("torch.")] for each in self.columns]

    @classmethod
    def restored(cls, state: list[list[Any]]) -> Self:
        """From `state`."""
        return cls(tuple(Column(name, tuple(shape), vars(torch)[dtype]) for name, shape, dtype in state))


@dataclass(frozen=True)
class Unpacked:
    """Before a network runs: one packed tensor becomes its named inputs."""

    packing: Packing

    def __call__(self, net: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        (packed,) = arguments
        return (), self.packing.unpack(packed)


@dataclass(frozen=True)
class Logits:
    """After a network has run: of several named outputs the `logits` count; another output stays."""

    def __call__(self, net: nn.Module, arguments: Any, outputs: Any) -> Any:
        return outputs["logits"] if has_logits(outputs) else outputs


def has_logits(outputs: object) -> bool:
    """Whether an output is a mapping, as those of transformers are, with a tensor `logits`."""
    return isinstance(outputs, Mapping) and isinstance(outputs.get("logits"), Tensor)


def taking(net: NetT, packing: Packing) -> NetT:
    """Let a network take packed samples, in place.

    Examples:
        >>> class Sum(nn.Module):
        ...     def forward(self, left, right):
        ...         return left + right
        >>> samples = {"left": torch.ones(1, 2), "right": torch.ones(1, 2)}
        >>> packing = Packing.of(samples)
        >>> taking(Sum(), packing)(packing.pack(samples))
        tensor([[2., 2.]])
    """
    if not any(isinstance(hook, Unpacked) for hook in net._forward_pre_hooks.values()):
        net.register_forward_pre_hook(Unpacked(packing), with_kwargs=True)
    return net


def giving_logits(net: NetT) -> NetT:
    """Let a network give the `logits` of its outputs, in place; one that gives a tensor goes on to do so.

    Examples:
        >>> class Named(nn.Linear):
        ...     def forward(self, inputs):
        ...         return {"logits": super().forward(inputs), "hidden": inputs}
        >>> giving_logits(Named(2, 3))(torch.zeros(1, 2)).shape
        torch.Size([1, 3])
    """
    if not any(isinstance(hook, Logits) for hook in net._forward_hooks.values()):
        net.register_forward_hook(Logits())
    return net
