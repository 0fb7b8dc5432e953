"""Typed options: frozen dataclasses whose fields know their help, their range and their choices.

Every configuration in the library (of a run, a method, a scenario, a network) is one of these. Flags, help texts, TOML
files and error messages follow from the fields, so a new method gets them all for free.
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
"""Whole numbers that a configuration file can hold."""
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127
"""The largest number of float32, in which networks compute."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a value may be: inclusive bounds, or one of `choices`.

    Examples:
        >>> Limits(low=0, high=1).complaint(2)
        'at least 0 and at most 1'
    """

    low: float | None = None
    high: float | None = None
    choices: tuple[str | int, ...] = ()

    def complaint(self, value: object) -> str | None:
        """What is allowed, for a `value` outside the limits; None for one inside."""
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        if not math.isfinite(value):
            return "a finite number"
        if isinstance(value, float) and abs(value) > LARGEST_FLOAT:
            return f"a number of float32, up to {LARGEST_FLOAT:.1e}"
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
    formerly: Any = None,
) -> Any:
    """A dataclass field with its help text (name the unit there) and its limits.

    Args:
        default: the value without a flag; None where the option may be left open.
        help: what the option means, shown by `--help`.
        low, high: inclusive bounds of a number.
        choices: all values that are allowed.
        formerly: what runs did before this option was there, if that was not the default.
    """
    limits = Limits(low, high, tuple(choices))
    return dataclasses.field(default=default, metadata={"help": help, "limits": limits, "formerly": formerly})


@dataclasses.dataclass(frozen=True)
class Option:
    """One field of an `Options` class, as the command line sees it.

    Attributes:
        kind: type of a value.
        optional: whether None is allowed.
        many: whether it holds a tuple of values.
        formerly: the value that a configuration from before this option means.
    """

    name: str
    kind: type[int] | type[float] | type[str] | type[bool]
    optional: bool
    many: bool
    default: Any
    help: str
    limits: Limits
    formerly: Any


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of every configuration. Checks its values when made.

    Raises:
        UsageError: a value has the wrong type or lies outside its limits.

    Examples:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Smoothing(Options):
        ...     amount: float = option(0.1, "share of the labels", low=0, high=1)
        >>> Smoothing(amount=2)
        Traceback (most recent call last):
        synergy.errors.UsageError: amount: given 2.0; allowed: at least 0 and at most 1
    """

    def __post_init__(self) -> None:
        for spec in self.specs():
            value = checked(spec, vars(self)[spec.name])
            object.__setattr__(self, spec.name, value)

    @classmethod
    def specs(cls) -> tuple[Option, ...]:
        """All options, in the order of their definition.

        Raises:
            UsageError: the class is no dataclass, or a field has no default or a type that no option has.
        """
        if "__annotations__" in vars(cls) and "__dataclass_fields__" not in vars(cls):
            raise UsageError(f"{cls.__name__}: its options need @dataclass(frozen=True) above the class")
        hints = typing.get_type_hints(cls)
        return tuple(_spec(cls.__name__, field, hints[field.name]) for field in dataclasses.fields(cls))

    @classmethod
    def names(cls) -> frozenset[str]:
        """Names of all options."""
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
        """All values except None, in types that TOML and JSON have."""
        pairs = ((spec.name, vars(self)[spec.name]) for spec in self.specs())
        return {name: list(v) if isinstance(v, tuple) else v for name, v in pairs if v is not None}


def _spec(owner: str, field: dataclasses.Field[Any], hint: Any) -> Option:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = [part for part in parts if part is not type(None)]
    many = typing.get_origin(kinds[0]) is tuple
    kind = typing.get_args(kinds[0])[0] if many else kinds[0]
    if len(kinds) > 1 or kind not in (int, float, str, bool):
        allowed = "int, float, str, bool, a tuple of one of them, or one of them | None"
        raise UsageError(f"{owner}.{field.name}: given the type {hint}; allowed for an option: {allowed}")
    if field.default is dataclasses.MISSING:
        raise UsageError(f"{owner}.{field.name}: an option needs a default: option(0.1, 'what it means')")
    # A field made without `option` has no metadata.
    meta = {"help": "", "limits": Limits(), "formerly": None, **field.metadata}
    formerly = field.default if meta["formerly"] is None else meta["formerly"]
    return Option(field.name, kind, type(None) in parts, many, field.default, meta["help"], meta["limits"], formerly)


def checked(spec: Option, value: Any) -> Any:
    """The value of an option in its type. Raises UsageError for one that is not allowed."""
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
    """A number of numpy as one of Python: a search over parameters draws numpy numbers."""
    if isinstance(value, bool | int | float):
        return float(value) if isinstance(value, float) else value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _unstorable(value: object) -> str | None:
    """What is allowed, for a `value` that a configuration file or a path cannot hold; else None."""
    if isinstance(value, int) and value not in TOML_INTEGERS:
        return "a whole number below 2^63"
    if isinstance(value, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        return "text in UTF-8 without zero bytes"
    return None
