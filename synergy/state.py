"""What an object must keep to go on exactly where it stopped, collected from its attributes.

Anything in the library with state is made of tensors, numbers, generators and parts that have a `state_dict`
themselves. `collect` walks them, so that no attribute can be forgotten, and refuses what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

State: TypeAlias = dict[str, Any]
"""A nested mapping whose leaves are tensors, numbers, strings, booleans or None; lists hold leaves only."""


@runtime_checkable
class Stateful(Protocol):
    """A network, an optimiser, a memory, a method: anything that saves and restores itself."""

    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State, /) -> object: ...


def collect(attributes: Mapping[str, object]) -> State:
    """The state of all attributes, as a mapping that shares no storage with them.

    Raises:
        TypeError: an attribute is of a kind that cannot be saved.
    """
    return {name: _saved(value, name) for name, value in attributes.items()}


def restore(attributes: dict[str, Any], state: State) -> None:
    """Put `state` (from `collect`) back: parts load themselves in place, tensors and numbers are replaced.

    Raises:
        ValueError: the state does not have the same parts as the attributes.
    """
    if attributes.keys() != state.keys():
        raise ValueError(f"state has parts {sorted(state)}, expected {sorted(attributes)}")
    for name, saved in state.items():
        current = attributes[name]
        if isinstance(current, np.random.Generator):
            current.bit_generator.state = saved
        elif isinstance(current, Stateful):
            current.load_state_dict(saved)
        elif isinstance(saved, Tensor) and isinstance(current, Tensor):
            if current.shape == saved.shape:
                current.copy_(saved)
            else:  # one that grows: it stays where it lives
                attributes[name] = saved.to(current)
        else:
            attributes[name] = saved


def _saved(value: object, name: str) -> Any:
    match value:
        case Tensor():
            return value.detach().clone()
        case np.random.Generator():
            return dict(value.bit_generator.state)
        case Stateful():
            return _copied(value.state_dict())
        case bool() | int() | float() | str() | None:
            return value
        case list() | tuple():
            return [_saved(item, name) for item in value]
        case dict():
            return {str(key): _saved(item, f"{name}.{key}") for key, item in value.items()}
        case _:
            raise TypeError(f"cannot save '{name}': a {type(value).__name__} has no state_dict")


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_copied(value) for value in state]
    return state


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal bit by bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
