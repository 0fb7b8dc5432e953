"""Strict JSON, and what it says as the dataclasses and types it was written from."""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
import types
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from synergy.errors import UsageError, unknown


def parse(text: bytes) -> Any:
    """Strict JSON: unlike Python's own reader this one refuses NaN, infinity and numbers too large for a float."""
    try:
        return json.loads(text.decode(), parse_float=_parse_float, parse_constant=_parse_float)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not strict JSON: {error}") from error


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(text)[1:-1]} is not a finite number")
    return value


def decode(kind: Any, value: Any, at: str) -> Any:
    """`value`, read from JSON, as the type `kind` a field was declared with; `at` names the field in errors."""
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _decode_dataclass(kind, value, at)
    form, parts = get_origin(kind), get_args(kind)
    if form is types.UnionType:
        (inner,) = (part for part in parts if part is not types.NoneType)
        return None if value is None else decode(inner, value, at)
    if form is Literal:
        return value if value in parts else _refuse(at, value, "one of " + ", ".join(parts))
    if form is tuple:
        items = value if isinstance(value, list) else _refuse(at, value, "a list")
        return tuple(decode(parts[0], item, f"{at}[{index}]") for index, item in enumerate(items))
    if form in (dict, Mapping):
        table = value if isinstance(value, dict) else _refuse(at, value, "an object")
        return {key: decode(parts[1], item, f"{at}[{reprlib.repr(key)}]") for key, item in table.items()}
    return _decode_scalar(kind, value, at)


def _decode_dataclass(kind: type, value: Any, at: str) -> Any:
    table = value if isinstance(value, dict) else _refuse(at, value, "an object")
    hints = get_type_hints(kind)
    prefix = f"{at}." if at else ""
    for name in table:
        if name not in hints:
            raise unknown(f"field of {at or 'a record'}", reprlib.repr(name)[1:-1], hints)
    for field in dataclasses.fields(kind):
        if field.name not in table and not _has_default(field):
            raise UsageError(f"{prefix}{field.name}: this field is missing")
    values = {name: decode(hints[name], item, prefix + name) for name, item in table.items()}
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{prefix}{error}") from None


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)


def _decode_scalar(kind: type, value: Any, at: str) -> Any:
    """A bool is no number here, whatever Python says; a whole number may stand for a float, if a float can hold it."""
    is_bool = isinstance(value, bool)
    if kind is float and isinstance(value, int) and not is_bool and abs(value) < 2**1023:
        return float(value)
    if isinstance(value, kind) and is_bool == (kind is bool):
        return value
    return _refuse(at, value, {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind])


def _refuse(at: str, value: Any, allowed: str) -> NoReturn:
    raise UsageError(f"{at}: given {reprlib.repr(value)}; allowed: {allowed}")
