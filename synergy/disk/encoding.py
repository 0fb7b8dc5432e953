"""A state as the content of two files, and back: tensors as safetensors, everything else as JSON. Nothing is ever run.

In the JSON an object with a single key that begins with "$" stands for what JSON lacks:

- `{"$tensor": name}`: a tensor in the other file;
- `{"$float": "nan"}` (or "inf", "-inf"): a float that is not finite;
- `{"$map": [[key, value], ...]}`: a mapping with keys that are whole numbers or begin with "$".
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from synergy.disk.sealed import DamageError, parsed
from synergy.state import State

TENSORS, STATE = "tensors.safetensors", "state.json"

MAX_JSON_BYTES = 1 << 24
"""Most bytes of `state.json` and of the header of the tensors. What is larger belongs into a tensor."""
MAX_DEPTH = 64
"""Most mappings and lists inside each other."""

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
DTYPES = frozenset((*FLOATS, *INTEGERS, torch.bool))

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encoded(state: State) -> dict[str, bytes]:
    """The content of the two files, by name.

    Raises:
        TypeError: the state holds a value, key or tensor that the format does not have.
        ValueError: the JSON is larger than `MAX_JSON_BYTES`, or deeper than `MAX_DEPTH`.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encoded(state, "", tensors, 0), allow_nan=False).encode()
    contents = {TENSORS: safetensors.torch.save(tensors), STATE: text}
    if max(len(text), _header_bytes(contents[TENSORS])) > MAX_JSON_BYTES:
        raise ValueError(f"a state of {len(text)} bytes beside its tensors; allowed: {MAX_JSON_BYTES}")
    return contents


def decoded(contents: Mapping[str, bytes], device: torch.device | str) -> State:
    """The state that `encoded` was given, its tensors on `device`.

    Raises:
        DamageError: the contents are something else.
    """
    return _Decoder(contents, device).state()


def _encoded(value: Any, path: str, tensors: dict[str, Tensor], depth: int) -> Any:
    """`value` as JSON. Its tensors go into `tensors`."""
    if depth > MAX_DEPTH:
        raise ValueError(f"'{path}' is nested more than {MAX_DEPTH} deep")
    match value:
        case Tensor():
            name = f"{len(tensors)}:{path}"
            tensors[name] = _plain(value, path)
            return {"$tensor": name}
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": str(float(value))}
        case list() | tuple():
            return [_encoded(item, f"{path}/{number}", tensors, depth + 1) for number, item in enumerate(value)]
        case Mapping():
            pairs = [[key, _encoded(item, _below(path, key), tensors, depth + 1)] for key, item in value.items()]
            direct = all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs)
            return dict(pairs) if direct else {"$map": pairs}
        case _:
            raise TypeError(f"cannot save '{path}': a {type(value).__name__}")


def _plain(tensor: Tensor, path: str) -> Tensor:
    if tensor.dtype not in DTYPES or tensor.layout is not torch.strided:
        raise TypeError(f"cannot save '{path}': a tensor of {tensor.dtype}, {tensor.layout}")
    # Always a copy: the format stores no two tensors that share memory.
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _below(path: str, key: object) -> str:
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise TypeError(f"cannot save '{path}': a key of type {type(key).__name__}")
    # The name is for human readers. The state's own keys decide.
    name = str(key).encode("ascii", "backslashreplace").decode()
    return f"{path}/{name}" if path else name


def _header_bytes(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _tensors(data: bytes) -> dict[str, Tensor]:
    size = _header_bytes(data)
    if size > min(MAX_JSON_BYTES, len(data)):
        raise DamageError(f"{TENSORS} has no header")
    header = parsed(data[8 : 8 + size], f"the header of {TENSORS}")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AssertionError, OverflowError) as error:
        raise DamageError(f"{TENSORS} holds tensors that cannot be read") from error
    if not isinstance(header, dict) or header.keys() != tensors.keys():
        raise DamageError(f"{TENSORS} holds something else than tensors")
    return tensors


class _Decoder:
    """Makes the state out of its files. It uses every tensor once."""

    def __init__(self, contents: Mapping[str, bytes], device: torch.device | str) -> None:
        self._content = parsed(contents[STATE], STATE)
        self._tensors = _tensors(contents[TENSORS])
        self._device = device

    def state(self) -> State:
        state = self._decoded(self._content, 0)
        if not isinstance(state, dict):
            raise DamageError(f"{STATE} is not a state")
        if self._tensors:
            raise DamageError(f"{TENSORS} holds {reprlib.repr(min(self._tensors))}, which {STATE} does not name")
        return state

    def _decoded(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise DamageError(f"{STATE} is nested too deep")
        if isinstance(value, list):
            return [self._decoded(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        tag, content = next(iter(value.items()), ("", None))
        if not any(key.startswith("$") for key in value):
            return {key: self._decoded(item, depth + 1) for key, item in value.items()}
        if len(value) > 1:
            raise DamageError(f"{STATE} holds what no state holds")
        if tag == "$tensor" and isinstance(content, str):
            return self._tensor(content)
        if tag == "$float" and isinstance(content, str) and content in _NOT_FINITE:
            return _NOT_FINITE[content]
        if tag == "$map" and isinstance(content, list):
            return {key: self._decoded(item, depth + 1) for key, item in _pairs(content)}
        raise DamageError(f"{STATE} holds what no state holds")

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise DamageError(f"{STATE} names the tensor {reprlib.repr(name)}, which {TENSORS} does not hold")
        tensor = self._tensors.pop(name)
        if tensor.dtype not in DTYPES:
            raise DamageError(f"the tensor {reprlib.repr(name)} is of a type that is never saved")
        return tensor.to(self._device)


def _pairs(content: list[Any]) -> Iterator[tuple[int | str, Any]]:
    keys = set()
    for pair in content:
        if not isinstance(pair, list) or len(pair) != 2:
            raise DamageError(f"{STATE} holds what no state holds")
        key = pair[0]
        if isinstance(key, bool) or not isinstance(key, int | str) or key in keys:
            raise DamageError(f"{STATE} holds what no state holds")
        keys.add(key)
        yield key, pair[1]
