"""The `[search]` of a study: which options are searched, where, and how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from synergy.errors import UsageError, unknown
from synergy.options import Option

FIXED = frozenset(("seed", "data_dir", "device", "validation", "max_tasks", "max_steps_per_task"))
"""Options of training that no search may choose: they are no part of a method, or change what is measured."""
_KEYS = ("trials", "seed", "first_task_only", "space")
_RANGE_KEYS = ("low", "high", "log")


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, both included.

    Attributes:
        log: whether equal ratios are equally likely, as for a learning rate.
        whole: whether the numbers are whole.

    Examples:
        >>> Range(0.01, 1.0, log=True).as_mapping()
        {'low': 0.01, 'high': 1.0, 'log': True}
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def samples(self) -> tuple[float, ...]:
        """Values that are allowed if all are."""
        return self.low, self.high

    def as_mapping(self) -> dict[str, Any]:
        """As in a study file."""
        return {"low": self.low, "high": self.high} | ({"log": True} if self.log else {})


@dataclass(frozen=True)
class Choices:
    """Single values.

    Examples:
        >>> Choices((16, 32)).samples
        (16, 32)
    """

    samples: tuple[Any, ...]


Space: TypeAlias = Mapping[str, Range | Choices]


@dataclass(frozen=True)
class Search:
    """What a search is asked for.

    Attributes:
        trials: points of the space to try, for each method on each scenario.
        space: where each option is searched.
        seed: of the sampler.
        first_task_only: whether a trial trains on the first task alone.
        places: where each option of the space was written.

    Examples:
        >>> Search(trials=20, space={"lr": Range(0.01, 1.0, log=True)}).to_mapping()["trials"]
        20
    """

    trials: int
    space: Space
    seed: int = 0
    first_task_only: bool = False
    places: Mapping[str, str] = field(default_factory=dict, compare=False)

    def to_mapping(self) -> dict[str, Any]:
        """As in a study file."""
        space = {
            name: where.as_mapping() if isinstance(where, Range) else list(where.samples)
            for name, where in self.space.items()
        }
        return {"trials": self.trials, "seed": self.seed, "first_task_only": self.first_task_only, "space": space}


def read(table: Any, specs: Mapping[str, Option], places: Mapping[str, str]) -> Search:
    """The search that a table asks for.

    Args:
        table: the content of `[search]`.
        specs: the options that can be searched, by name.
        places: from a key (`search.space.lr`) to where it was written.

    Raises:
        UsageError: a key is unknown, missing, or has a value that is not allowed.

    Examples:
        >>> from synergy.methods.er import ER
        >>> options = {spec.name: spec for spec in ER.Config.specs()}
        >>> read({"trials": 5, "space": {"lr": {"low": 0.01, "high": 1}}}, options, {}).space["lr"]
        Range(low=0.01, high=1.0, log=False, whole=False)
    """
    place = places.get("search", "search")
    if not isinstance(table, dict):
        raise UsageError(f"{place}: must be a table, below a line [search]")
    for key in table:
        if key not in _KEYS:
            raise unknown(f"key in {places.get(f'search.{key}', 'search')}:", key, _KEYS)
    trials = _whole(table, "trials", 1, places)
    seed = _whole({"seed": 0} | table, "seed", 0, places)
    first = table.get("first_task_only", False)
    if not isinstance(first, bool):
        raise UsageError(f"{places.get('search.first_task_only', place)}: given {first!r}; allowed: true, false")
    space = table.get("space")
    if not isinstance(space, dict) or not space:
        shape = "a table such as lr = { low = 0.01, high = 1.0, log = true } and minibatch_size = [16, 32]"
        raise UsageError(f"{places.get('search.space', place)}: 'space' must name what is searched; allowed: {shape}")
    written = {name: places.get(f"search.space.{name}", places.get("search.space", place)) for name in space}
    for name in space:
        if name not in specs:
            raise unknown(f"option to search in {written[name]}:", name, specs)
    return Search(trials, {n: _where(specs[n], space[n], written[n]) for n in space}, seed, first, written)


def _whole(table: Mapping[str, Any], key: str, low: int, places: Mapping[str, str]) -> int:
    value = table.get(key)
    if type(value) is not int or value < low:
        given = f"'{key}' is missing" if value is None else f"{key} is given {value!r}"
        place = places.get(f"search.{key}", places.get("search", "search"))
        raise UsageError(f"{place}: {given}; allowed: a whole number, at least {low}")
    return value


def _where(spec: Option, given: Any, place: str) -> Range | Choices:
    if isinstance(given, dict):
        return _range(spec, given, place)
    if not isinstance(given, list) or not given or spec.many:
        allowed = "a list of values" if spec.kind in (str, bool) else "a list of values, or { low = ..., high = ... }"
        why = "; it is a list itself" if spec.many else ""
        raise UsageError(f"{place}: {spec.name} is given {given!r}{why}; allowed: {allowed}")
    return Choices(tuple(dict.fromkeys(given)))


def _range(spec: Option, given: Mapping[str, Any], place: str) -> Range:
    for key in given:
        if key not in _RANGE_KEYS:
            raise unknown(f"key in {place}: {spec.name}:", key, _RANGE_KEYS)
    if spec.kind not in (int, float):
        raise UsageError(f"{place}: {spec.name} has no range; allowed: a list of values")
    low, high = (_number(spec, given.get(key)) for key in ("low", "high"))
    log = given.get("log", False)
    if low is None or high is None or not low < high or not isinstance(log, bool):
        number = "whole numbers" if spec.kind is int else "numbers"
        raise UsageError(f"{place}: {spec.name} is given {dict(given)}; allowed: {number} low < high, and log = true")
    if log and not low > 0:
        raise UsageError(f"{place}: {spec.name}: given low = {low} with log = true; allowed: above 0")
    return Range(low, high, log, spec.kind is int)


def _number(spec: Option, value: Any) -> float | None:
    """A bound of an option's type; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if spec.kind is float:
        return float(value)
    return value if isinstance(value, int) else None
