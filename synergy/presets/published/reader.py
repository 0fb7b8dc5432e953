"""Reads the published results of the package, and finds those for a run.

The file `results.toml` beside this one explains its keys in its first lines.
"""

from __future__ import annotations

import math
import statistics
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

_TEXTS = frozenset({"scenario", "method", "metric", "predictor", "protocol", "source", "read_in", "note"})
_REQUIRED = frozenset({"scenario", "method", "metric", "predictor", "protocol", "source"})
_NUMBERS = frozenset({"buffer_size", "runs", "mean", "sd", "values"})
_ALLOWED = _TEXTS | _NUMBERS | {"options"}


@dataclass(frozen=True)
class PublishedResult:
    """A number that others published, or that the published code gave.

    Attributes:
        scenario, method: as the package calls them.
        buffer_size: samples in memory; None for a method without memory.
        metric: a key of a record's metrics, such as `final_average`. In percent.
        predictor: which of the method's networks answered.
        protocol: `class-IL`, `task-IL`, `domain-IL` or `general`.
        mean: over the runs.
        sd: standard deviation over the runs; None if it is not known, as of a single run.
        runs: how many; None if the source does not say.
        options: further options of the run that decide what was measured. Read-only.
        source: the paper and its table, or the code that was run.
        read_in: where the number was read, if that is another place; may be empty.
        note: what a reader must know to compare; may be empty.

    Examples:
        >>> er = results("seq-cifar10", "er", buffer_size=500, protocol="class-IL")[0]
        >>> er.mean, er.sd, er.runs, er.source
        (57.74, 0.27, 10, 'Buzzega et al. 2020 (DER), table 2')
    """

    scenario: str
    method: str
    buffer_size: int | None
    metric: str
    predictor: str
    protocol: str
    mean: float
    sd: float | None
    runs: int | None
    source: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    read_in: str = ""
    note: str = ""

    def fits(self, options: Mapping[str, Any]) -> bool:
        """Whether a run with these options has all that the result asks for. Lists and tuples are alike.

        Examples:
            >>> mean_er = results("seq-cifar10", "synergy", buffer_size=500)[0]
            >>> mean_er.fits({"penalty_weight": 0.0, "lr": 0.05}), mean_er.fits({"penalty_weight": 5.0})
            (True, False)
        """
        return all(name in options and _plain(options[name]) == _plain(value) for name, value in self.options.items())


def results(
    scenario: str | None = None,
    method: str | None = None,
    *,
    buffer_size: int | None = None,
    metric: str | None = None,
    predictor: str | None = None,
    protocol: str | None = None,
) -> tuple[PublishedResult, ...]:
    """All published results that have what is given, in the order of the file. What is None may be anything.

    Examples:
        >>> [each.mean for each in results("seq-cifar10", "clser", buffer_size=500, protocol="class-IL")]
        [75.22, 71.32, 63.09]
        >>> results("perm-mnist")
        ()
    """
    wanted = {
        "scenario": scenario,
        "method": method,
        "buffer_size": buffer_size,
        "metric": metric,
        "predictor": predictor,
        "protocol": protocol,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    return tuple(each for each in _all_results() if all(vars(each)[name] == value for name, value in given.items()))


def parse(text: str, where: str = "results.toml") -> tuple[PublishedResult, ...]:
    """The results in the text of a TOML file, in its order.

    Raises:
        AssertionError: an entry is malformed; the message says which one and why.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AssertionError(f"{where}: {error}") from error
    tables = document.get("table")
    assert set(document) == {"table"} and isinstance(tables, list), f"{where}: must hold [[table]] entries only"
    found = [each for number, table in enumerate(tables, 1) for each in _table(table, f"{where}, table {number}")]
    places = [
        (each.scenario, each.method, each.buffer_size, each.metric, each.predictor, each.protocol) for each in found
    ]
    for number, (place, result) in enumerate(zip(places, found, strict=True)):
        same = [other for other, at in zip(found[:number], places, strict=False) if at == place]
        twice = any(_plain(other.options) == _plain(result.options) for other in same)
        assert not twice, f"{where}: two results for one number: {', '.join(map(str, place))}"
    return tuple(found)


@cache
def _all_results() -> tuple[PublishedResult, ...]:
    file = resources.files("synergy.presets.published") / "results.toml"
    return parse(file.read_text(encoding="utf-8"))


def _table(table: Any, where: str) -> list[PublishedResult]:
    assert isinstance(table, dict), f"{where}: must be a [[table]]"
    rows = table.get("results")
    assert isinstance(rows, list) and rows, f"{where}: lacks results"
    shared = {name: value for name, value in table.items() if name != "results"}
    return [_result(shared, row, f"{where}, result {number}") for number, row in enumerate(rows, 1)]


def _result(shared: Mapping[str, Any], row: Any, where: str) -> PublishedResult:
    assert isinstance(row, dict), f"{where}: must be a table, given {row!r}"
    entry = {**shared, **row}
    missing, unknown = sorted(_REQUIRED - entry.keys()), sorted(entry.keys() - _ALLOWED)
    assert not missing, f"{where}: lacks {', '.join(missing)}"
    assert not unknown, f"{where}: unknown {', '.join(unknown)}; allowed: {', '.join(sorted(_ALLOWED))}"
    for name in sorted(_TEXTS & entry.keys()):
        assert isinstance(entry[name], str) and entry[name], f"{where}: {name} must be text, given {entry[name]!r}"
    for name in sorted({"buffer_size", "runs"} & entry.keys()):
        given = entry[name]
        assert type(given) is int and given > 0, (
            f"{where}: {name} must be a whole number of at least 1, given {given!r}"
        )
    options = entry.get("options", {})
    assert isinstance(options, dict), f"{where}: options must be a table, given {options!r}"
    mean, sd, runs = _numbers(entry, where)
    texts = {name: entry[name] for name in _TEXTS & entry.keys()}
    size = entry.get("buffer_size")
    return PublishedResult(
        **texts, buffer_size=size, mean=mean, sd=sd, runs=runs, options=MappingProxyType(_plain(options))
    )


def _numbers(entry: Mapping[str, Any], where: str) -> tuple[float, float | None, int | None]:
    """Mean, standard deviation and number of runs: as they are given, or those of the values of single runs."""
    assert ("values" in entry) != ("mean" in entry), f"{where}: needs either mean or values"
    if "values" not in entry:
        sd = entry.get("sd")
        return (
            _percent(entry["mean"], "mean", where),
            None if sd is None else _percent(sd, "sd", where),
            entry.get("runs"),
        )
    values = entry["values"]
    assert isinstance(values, list) and values, f"{where}: values must be a list of numbers, given {values!r}"
    assert not {"sd", "runs"} & entry.keys(), f"{where}: sd and runs follow from values"
    numbers = [_percent(value, "values", where) for value in values]
    return statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers)


def _percent(value: Any, name: str, where: str) -> float:
    fits = type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 100
    assert fits, f"{where}: {name} must be from 0 to 100, given {value!r}"
    return float(value)


def _plain(value: Any) -> Any:
    """A value with tuples for lists, so that equal ones compare equal."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
