"""What a step decides on the host, as a tree: frozen dataclasses whose leaves are tensors, flags and numbers.

A tensor may differ from step to step. Everything else (None, a bool, a whole number, a tensor's shape) is a branch:
steps that agree in all of it do the same work on the device, so that one recording serves them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator
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


def static_copy(decided: Any, device: torch.device) -> Any:
    """The same decisions with tensors of their own on `device`, to be overwritten by later ones of the same branch."""
    return _mapped(decided, lambda tensor: tensor.to(device, copy=True))


def _mapped(decided: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(decided, Tensor):
        return change(decided)
    if dataclasses.is_dataclass(decided) and not isinstance(decided, type):
        fields = {field.name: _mapped(vars(decided)[field.name], change) for field in dataclasses.fields(decided)}
        return dataclasses.replace(decided, **fields)
    if isinstance(decided, tuple):
        return tuple(_mapped(item, change) for item in decided)
    return decided
