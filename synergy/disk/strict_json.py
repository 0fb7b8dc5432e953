"""Strict JSON, and the dataclasses and types that were written as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import reprlib
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from synergy.errors import UsageError, unknown

_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
_MANY_DIGITS, _LARGE_EXPONENT = b"0" * 300, re.compile(rb"e\+?000")
"""What the text of a number has that no float can hold, if every digit is written as 0 and every E as e."""
_BEFORE_A_NUMBER = b" \t\r\n:,[-"

_AS_THEY_ARE: Mapping[Any, frozenset[type]] = {
    float: frozenset((float,)),
    float | None: frozenset((float, types.NoneType)),
    int: frozenset((int,)),
    str: frozenset((str,)),
}
"""Of a declared type, the types of values that need no look and no change."""


def parse(data: bytes) -> Any:
    """The value that strict JSON in UTF-8 stands for.

    Python's own reader also takes NaN, infinity, numbers too large for a float, and two entries of one name.

    Raises:
        UsageError: it is not strict JSON, with the reason.
    """
    try:
        # A function for every float takes most of the time. Where no float can be too large, Python's own reader does.
        parse_float = _parse_float if _may_be_large(data) else None
        return json.loads(
            data.decode(), parse_float=parse_float, parse_constant=_parse_float, object_pairs_hook=_parse_object
        )
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not strict JSON: {error}") from error


def _may_be_large(data: bytes) -> bool:
    """Whether a text may hold a number that is too large for a float: its exponent or its digits are many."""
    plain = data.translate(_DIGITS_AS_ZEROS)
    return _MANY_DIGITS in plain or any(_ends_digits(plain, e.start()) for e in _LARGE_EXPONENT.finditer(plain))


def _ends_digits(plain: bytes, at: int) -> bool:
    """Whether a number may end at `at`. Most checksums have an `e` and digits behind it; before them are letters."""
    before = plain[max(0, at - 2 * len(_MANY_DIGITS)) : at].rstrip(b"0.")
    return not before or before[-1:] in _BEFORE_A_NUMBER


def _parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"the entry {reprlib.repr(name)} comes twice")
        entries[name] = value
    return entries


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(text)[1:-1]} is not a finite number")
    return value


def decode(kind: Any, value: Any, at: str) -> Any:
    """`value`, read from JSON, as the type `kind`.

    Args:
        kind: how a field is declared. Fields of a dataclass that have a default may be missing, as in what an older
            release wrote.
        value: what `parse` gave.
        at: names the field in errors.

    Raises:
        UsageError: `value` is of another type, a field without a default is missing, or there is an unknown field.
    """
    if kind is Any:
        return value
    form, parts = _form(kind)
    if form is dataclasses.dataclass:
        return _decode_dataclass(kind, value, at)
    if form is types.UnionType:
        (inner,) = (part for part in parts if part is not types.NoneType)
        return None if value is None else decode(inner, value, at)
    if form is Literal:
        return value if value in parts else _refuse(at, value, "one of " + ", ".join(parts))
    if form is tuple:
        items = value if isinstance(value, list) else _refuse(at, value, "a list")
        if _are_plain(parts[0], items):
            return tuple(items)
        return tuple(decode(parts[0], item, f"{at}[{index}]") for index, item in enumerate(items))
    if form in (dict, Mapping):
        table = value if isinstance(value, dict) else _refuse(at, value, "an object")
        if _are_plain(parts[1], table.values()):
            return table
        return {key: decode(parts[1], item, f"{at}[{reprlib.repr(key)}]") for key, item in table.items()}
    return _decode_scalar(kind, value, at)


def _decode_dataclass(kind: type, value: Any, at: str) -> Any:
    table = value if isinstance(value, dict) else _refuse(at, value, "an object")
    hints = _hints(kind)
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


@cache
def _form(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a declared type is made of, and its parts: `tuple` and `float` of a tuple of floats."""
    if dataclasses.is_dataclass(kind):
        return dataclasses.dataclass, ()
    return get_origin(kind), get_args(kind)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _are_plain(kind: Any, items: Iterable[Any]) -> bool:
    """Whether all items, read from JSON, are of the declared type already."""
    return kind in _AS_THEY_ARE and set(map(type, items)) <= _AS_THEY_ARE[kind]


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)


def _decode_scalar(kind: type, value: Any, at: str) -> Any:
    """A bool is not a number here. A whole number may stand for a float that can hold it."""
    is_bool = isinstance(value, bool)
    if kind is float and isinstance(value, int) and not is_bool and abs(value) < 2**1023:
        return float(value)
    if isinstance(value, kind) and is_bool == (kind is bool):
        return value
    return _refuse(at, value, {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind])


def _refuse(at: str, value: Any, allowed: str) -> NoReturn:
    raise UsageError(f"{at}: given {reprlib.repr(value)}; allowed: {allowed}")
