"""What a step decides on the host, as a tree: frozen dataclasses whose leaves are tensors, flags and numbers.

A tensor may differ from step to step. Everything else (None, a bool, a whole number, a tensor's shape) is a branch:
steps that agree in all of it do the same work on the device, so that one recording serves them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def leaves(decided: object) -> Iterator[object]:
    """All leaves of a tree of decisions, in the order of its fields."""
    if dataclasses.is_dataclass(decided):
        for field in dataclasses.fields(decided):
            yield from leaves(vars(decided)[field.name])
    elif isinstance(decided, tuple):
        for item in decided:
            yield from leaves(item)
    else:
        yield decided


def tensors(decided: object) -> list[Tensor]:
    """The tensors of a tree of decisions, in the order of its fields."""
    return [leaf for leaf in leaves(decided) if isinstance(leaf, Tensor)]


def branch(decided: object) -> Hashable:
    """What two steps share that do the same work: all leaves but tensors, and the shape and type of every tensor."""
    return tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves(decided))


def is_open(decided: object) -> bool:
    """Whether a part is decided only when the step is computed, as by an augmentation that is a user's own function."""
    return any(isinstance(leaf, np.random.Generator) for leaf in leaves(decided))


def on_device(decided: Any, device: torch.device) -> Any:
    """The same decisions with all tensors on `device`; the device is not waited for."""
    if device.type == "cpu":
        return decided
    return _mapped(decided, lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True)
class Row:
    """The decisions of one step, with all their tensors in one row of bytes on the device.

    Attributes:
        decided: the tree as it was decided, its tensors on the host.
        numbers: the bytes of its tensors, one after the other, `uint8 [N]`.

    Examples:
        >>> (row,) = rows([(torch.tensor([2, 0]), None)], torch.device("cpu"))
        >>> row.on_device()
        (tensor([2, 0]), None)
    """

    decided: Any
    numbers: Tensor

    def on_device(self) -> Any:
        """The tree with its tensors on the device; they share the storage of `numbers`."""
        start = 0

        def placed(tensor: Tensor) -> Tensor:
            nonlocal start
            segment = self.numbers[start : start + tensor.nbytes]
            start += _padded(tensor.nbytes)
            return segment.view(tensor.dtype).view(tensor.shape)

        return _mapped(self.decided, placed)


def rows(decided: Sequence[Any], device: torch.device) -> list[Row]:
    """The decisions of several steps, brought to `device` in one transfer that nobody waits for.

    Args:
        decided: trees with tensors on the host.
        device: of the steps.

    Examples:
        >>> first, second = rows([(torch.tensor([2, 0]), True), (torch.tensor(0.5), None)], torch.device("cpu"))
        >>> first.on_device(), second.on_device()
        ((tensor([2, 0]), True), (tensor(0.5000), None))
    """
    parts = [b"".join(map(_bytes, tensors(tree))) for tree in decided]
    everything = torch.frombuffer(bytearray(b"".join(parts)) or bytearray(1), dtype=torch.uint8)
    if device.type == "cuda":
        everything = everything.pin_memory()
    numbers = everything.to(device, non_blocking=True)
    found, start = [], 0
    for tree, part in zip(decided, parts, strict=True):
        found.append(Row(tree, numbers[start : start + len(part)]))
        start += len(part)
    return found


WIDEST = 8
"""Bytes of the widest number in a decision: every tensor in a row starts at a multiple of it."""


def _padded(size: int) -> int:
    return -(-size // WIDEST) * WIDEST


def _bytes(tensor: Tensor) -> bytes:
    data: bytes = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return data.ljust(_padded(len(data)), b"\0")


def _mapped(decided: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(decided, Tensor):
        return change(decided)
    if dataclasses.is_dataclass(decided) and not isinstance(decided, type):
        fields = {field.name: _mapped(vars(decided)[field.name], change) for field in dataclasses.fields(decided)}
        return dataclasses.replace(decided, **fields)
    if isinstance(decided, tuple):
        return tuple(_mapped(item, change) for item in decided)
    return decided
