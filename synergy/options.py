"""Typed options: frozen dataclasses whose fields know their help, their range and their choices.

Every configuration in the library (of a run, a method, a scenario) is one of these. Flags, help texts, TOML files and
error messages are derived from the fields, so that a new method or scenario gets them without writing any.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Self

from synergy.errors import UsageError, unknown

TOML_INTEGERS = range(-(2**63), 2**63)
"""What a configuration file can hold."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a value may be: inclusive bounds, or one of `choices`."""

    low: float | None = None
    high: float | None = None
    choices: tuple[str | int, ...] = ()

    def complaint(self, value: object) -> str | None:
        """What is allowed, if `value` is not; otherwise None."""
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        if not math.isfinite(value):
            return "a finite number"
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            bounds = {"at least": self.low, "at most": self.high}
            return " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        return None


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str | int] = (),
) -> Any:
    """A dataclass field with its meaning (say the unit there) and its limits."""
    limits = Limits(low, high, tuple(choices))
    return dataclasses.field(default=default, metadata={"help": help, "limits": limits})


@dataclasses.dataclass(frozen=True)
class Option:
    """One field of an `Options` class, as the command line needs to see it."""

    name: str
    kind: type[int] | type[float] | type[str] | type[bool]
    optional: bool
    many: bool
    default: Any
    help: str
    limits: Limits


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of every configuration. Checks its values when made.

    Raises:
        UsageError: a value has the wrong type or lies outside its limits.
    """

    def __post_init__(self) -> None:
        for spec in self.specs():
            value = _coerced(spec, vars(self)[spec.name])
            object.__setattr__(self, spec.name, value)

    @classmethod
    def specs(cls) -> tuple[Option, ...]:
        """All options, in the order of their definition."""
        hints = typing.get_type_hints(cls)
        return tuple(_spec(field, hints[field.name]) for field in dataclasses.fields(cls))

    @classmethod
    def names(cls) -> frozenset[str]:
        return frozenset(field.name for field in dataclasses.fields(cls))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str) -> Self:
        """Build from a mapping such as a TOML table; `where` names it in errors.

        Raises:
            UsageError: a key is unknown or a value is not allowed.
        """
        for name in values:
            if name not in cls.names():
                raise unknown(f"option in {where}", name, cls.names())
        return cls(**values)

    def as_mapping(self) -> dict[str, Any]:
        """The values that are set (not None), as TOML and JSON can hold them."""
        pairs = ((spec.name, vars(self)[spec.name]) for spec in self.specs())
        return {name: list(v) if isinstance(v, tuple) else v for name, v in pairs if v is not None}


def _spec(field: dataclasses.Field[Any], hint: Any) -> Option:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    optional = type(None) in parts
    (kind,) = [part for part in parts if part is not type(None)]
    many = typing.get_origin(kind) is tuple
    if many:
        kind = typing.get_args(kind)[0]
    assert kind in (int, float, str, bool), f"{field.name}: an option cannot be {hint}"
    meta = field.metadata
    return Option(field.name, kind, optional, many, field.default, meta["help"], meta["limits"])


def _coerced(spec: Option, value: Any) -> Any:
    if value is None and spec.optional:
        return None
    if spec.many:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise UsageError(f"{spec.name}: given {value!r}; allowed: a list of {spec.kind.__name__} values")
        return tuple(_coerced_one(spec, item) for item in value)
    return _coerced_one(spec, value)


def _coerced_one(spec: Option, value: Any) -> Any:
    value = _plain(value)
    if spec.kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    complaint = _unstorable(value)
    if complaint is None and spec.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if complaint is None and (not isinstance(value, spec.kind) or (spec.kind is int and isinstance(value, bool))):
        of_choices = spec.limits.complaint(value) if spec.limits.choices else None
        complaint = of_choices or f"a value of type {spec.kind.__name__}"
    complaint = complaint or spec.limits.complaint(value)
    if complaint is not None:
        raise UsageError(f"{spec.name}: given {reprlib.repr(value)}; allowed: {complaint}")
    return value


def _plain(value: Any) -> Any:
    """A number of numpy's as Python's own: searches over parameters draw such."""
    if isinstance(value, bool | int | float):
        return float(value) if isinstance(value, float) else value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _unstorable(value: object) -> str | None:
    """What is allowed, if a configuration file cannot hold `value` or no path."""
    if isinstance(value, int) and value not in TOML_INTEGERS:
        return "a whole number below 2^63"
    if isinstance(value, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        return "text in UTF-8 without zero bytes"
    return None
