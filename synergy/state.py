"""The state of an object, collected from its attributes: all it needs to go on exactly where it stopped.

Objects with state are made of tensors, numbers, generators and parts with a `state_dict` of their own. `collect` walks
all attributes and refuses other kinds, so that nothing is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from synergy.errors import UsageError

State: TypeAlias = dict[str, Any]
"""A nested mapping whose leaves are tensors, numbers, strings, booleans or None, and lists of them."""


@runtime_checkable
class Stateful(Protocol):
    """An object that saves and restores itself, such as a network, an optimiser, a memory or a method."""

    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State, /) -> object: ...


def collect(attributes: Mapping[str, object]) -> State:
    """The state of all attributes, as a mapping that shares no storage with them.

    Raises:
        TypeError: an attribute is of a kind that cannot be saved.

    Examples:
        >>> import torch
        >>> collect({"steps": 3, "scores": torch.zeros(2)})
        {'steps': 3, 'scores': tensor([0., 0.])}
    """
    return {name: _saved(value, name) for name, value in attributes.items()}


def restore(attributes: dict[str, Any], state: State) -> None:
    """Put `state` (from `collect`) back: parts load themselves in place, tensors and numbers are replaced.

    A tensor keeps its dtype and shape. One that grows may be empty or None before or afterwards. A number keeps its
    kind, and so do the numbers of a list. Whole numbers have at most 64 bits, those of generators 128.

    Args:
        attributes: of the object; changed in place.
        state: of an object with the same attributes.

    Raises:
        ValueError: the state has other parts than the attributes, or a part of another kind.

    Examples:
        >>> attributes = {"steps": 0}
        >>> restore(attributes, {"steps": 3})
        >>> attributes
        {'steps': 3}
        >>> restore(attributes, {"steps": "three"})
        Traceback (most recent call last):
        ValueError: 'steps' is of type str, expected of type int
    """
    _check_parts(attributes, state, "state")
    for name, saved in state.items():
        current = attributes[name]
        if isinstance(current, np.random.Generator):
            _check_like(dict(current.bit_generator.state), saved, name, bits=128)
            current.bit_generator.state = saved
        elif isinstance(current, Stateful):
            if isinstance(current, nn.Module | torch.optim.Optimizer):
                # Torch's own parts would cast numbers of another kind.
                _check_like(current.state_dict(), saved, name)
                if isinstance(current, torch.optim.Optimizer):
                    _check_unset(current.state_dict(), saved, name)
            elif not isinstance(saved, Mapping):
                raise _misfit(name, saved, "a mapping")
            current.load_state_dict(saved)
        else:
            _check_like(current, saved, name)
            if isinstance(current, Tensor) and isinstance(saved, Tensor) and current.shape == saved.shape:
                current.copy_(saved)
            else:  # a tensor that grows stays on its device
                attributes[name] = saved.to(current) if isinstance(current, Tensor) and saved is not None else saved


def check_sizes(state: object, name: str) -> None:
    """Raises ValueError if a whole number in a state needs more than 64 bits, as only those of generators may."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            check_sizes(value, f"{name}.{key}")
    elif isinstance(state, list | tuple):
        for number, value in enumerate(state):
            check_sizes(value, f"{name}[{number}]")
    else:
        _check_size(state, name)


def restore_fresh(part: Stateful, state: State, what: str) -> None:
    """Restore a fresh part from a state that may be anything, such as one from a file.

    Args:
        part: drop it if this raises.
        state: of any origin.
        what: the name of the state in errors, such as "checkpoint runs/a/checkpoint/b".

    Raises:
        UsageError: the state does not fit the part.
    """
    try:
        _check_nothing_lost(part.state_dict(), state, "state")
        part.load_state_dict(state)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        # Errors of torch's own parts, numpy's generators and users' methods at a state of something else.
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"{what}: it does not fit this run: {reason}; use one of the same configuration") from error


def _check_parts(current: Mapping[Any, Any], saved: object, name: str) -> None:
    if not isinstance(saved, Mapping):
        raise _misfit(name, saved, "a mapping")
    if current.keys() != saved.keys():
        raise ValueError(f"{name} has parts {sorted(map(str, saved))}, expected {sorted(map(str, current))}")


def _check_like(current: object, saved: object, name: str, bits: int = 63) -> None:
    """Raises ValueError if `saved` is no later value of `current`. Whole numbers have at most `bits` bits."""
    match current:
        case Tensor():
            # A tensor that grows is empty at first.
            if isinstance(saved, Tensor):
                grows = (0,) in (current.shape, saved.shape)
                fits = saved.dtype == current.dtype and (grows or saved.shape == current.shape)
            else:
                fits = saved is None
            if not fits:
                raise _misfit(name, saved, _described(current))
        case Mapping():
            if not isinstance(saved, Mapping):
                raise _misfit(name, saved, "a mapping")
            if current and saved:
                _check_parts(current, saved, name)
            for key in current.keys() & saved.keys():
                _check_like(current[key], saved[key], f"{name}.{key}", bits)
        case list() | tuple():
            _check_list(current, saved, name)
        case None:
            if not isinstance(saved, Tensor | None):
                raise _misfit(name, saved, "a tensor or none")
        case _:
            if _kind(saved) is not _kind(current):
                raise _misfit(name, saved, _described(current))
            _check_size(saved, name, bits)


def _check_size(saved: object, name: str, bits: int = 63) -> None:
    if isinstance(saved, int) and saved.bit_length() > bits:
        raise ValueError(f"'{name}' is a whole number of {saved.bit_length()} bits, expected at most {bits}")


def _check_unset(current: Mapping[str, Any], saved: Mapping[str, Any], name: str) -> None:
    """Raises ValueError if an option of an optimiser that is None would change; such an option stays None."""
    for group, given in zip(current["param_groups"], saved["param_groups"], strict=True):
        for key, value in group.items():
            if value is None and given[key] is not None:
                raise _misfit(f"{name}.{key}", given[key], "none")


def _check_list(current: Sequence[Any], saved: object, name: str) -> None:
    if not isinstance(saved, list | tuple):
        raise _misfit(name, saved, "a list")
    for number, item in enumerate(saved):
        if current:
            _check_like(current[min(number, len(current) - 1)], item, f"{name}[{number}]")
        elif _kind(item) not in (int, float):
            raise _misfit(f"{name}[{number}]", item, "a number")
        else:
            _check_size(item, f"{name}[{number}]")


def _check_nothing_lost(fresh: object, saved: object, name: str) -> None:
    """Raises ValueError if a part that is there from the beginning is missing in `saved`."""
    if _is_nothing(saved) and not _is_nothing(fresh):
        raise _misfit(name, saved, _described(fresh))
    if isinstance(fresh, Mapping) and isinstance(saved, Mapping):
        for key in fresh.keys() & saved.keys():
            _check_nothing_lost(fresh[key], saved[key], f"{name}.{key}")


def _is_nothing(value: object) -> bool:
    return value.shape == (0,) if isinstance(value, Tensor) else value is None or value == {}


def _misfit(name: str, saved: object, expected: str) -> ValueError:
    return ValueError(f"'{name}' is {_described(saved)}, expected {expected}")


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return "none" if value is None else f"of type {type(value).__name__}"


def _kind(value: object) -> type:
    """The kind of a value: bool and int are two kinds here, and a numpy float is a float."""
    return next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), type(value))


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
    """Whether two states are equal bit by bit: NaN equals NaN, and 0 differs from -0.

    Examples:
        >>> same({"loss": float("nan")}, {"loss": float("nan")}), same([0.0], [-0.0]), same(1, True)
        (True, False, False)
    """
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and _bits(one) == _bits(other)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return repr(float(one)) == repr(float(other))
    return _kind(one) is _kind(other) and bool(one == other)


def _bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    """The dtype, shape and bytes of a tensor."""
    # A copy: a tensor with at most one element counts as contiguous whatever its strides, which `view` may refuse.
    plain = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)
    return tensor.dtype, tensor.shape, plain.numpy().tobytes()
