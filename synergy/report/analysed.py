"""Findings about the runs of a comparison, over their seeds: what a page draws of them.

It knows no analysis by name: a finding brings its numbers, charts and grids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from synergy.report.gather import Gathered
from synergy.report.groups import Entry
from synergy.report.statistics import Interval, mean_interval
from synergy.runs import findings
from synergy.runs.findings import Chart, Finding, Grid, Line
from synergy.runs.records import Measured

Titled = TypeVar("Titled", Chart, Grid)
Held = Mapping[tuple[str, Measured], Sequence[Finding]]
"""The findings about each run, by its name and what was measured."""


@dataclass(frozen=True)
class Curve:
    """A line of a chart, over the seeds of a group.

    Attributes:
        method: of the group.
        is_answer: whether it is of the predictor that the comparison is about.
        points: x, and mean and interval of y; only where every seed has a value.

    Examples:
        >>> Curve("er", "working", True, ((1.0, Interval(90.0)),)).method
        'er'
    """

    method: str
    predictor: str
    is_answer: bool
    points: tuple[tuple[float, Interval], ...]


@dataclass(frozen=True)
class MergedChart:
    """A chart with the curves of all methods of a comparison.

    Attributes:
        chart: of one of the findings: title, labels, reference.

    Examples:
        >>> MergedChart(Chart("kept", "task", "accuracy, %", ())).curves
        []
    """

    chart: Chart
    curves: list[Curve] = field(default_factory=list)


@dataclass(frozen=True)
class MergedNumber:
    """A number of a group and a predictor over its seeds.

    Examples:
        >>> MergedNumber("er", "working", "error, %", Interval(1.5)).value.value
        1.5
    """

    method: str
    predictor: str
    title: str
    value: Interval


@dataclass(frozen=True)
class Analysed:
    """All findings of a comparison.

    Attributes:
        grids: with the method each belongs to: means over seeds, of the predictor that the comparison is about.

    Examples:
        >>> Analysed((), (), ()).charts
        ()
    """

    charts: tuple[MergedChart, ...]
    grids: tuple[tuple[str, Grid], ...]
    numbers: tuple[MergedNumber, ...]


def held(gathered: Gathered) -> tuple[Held, list[str]]:
    """The findings beside the records, and for each that cannot be read why."""
    by_run, damaged = {}, []
    for run in gathered.runs:
        if run.folder is not None:
            found, wrong = findings.of_run(run.record, run.folder)
            damaged += wrong
            if found:
                by_run[run.record.run_id, run.record.measured] = found
    return by_run, damaged


def analysed(entries: Iterable[Entry], known: Held) -> Analysed:
    """The findings about the runs of a comparison, under its protocol."""
    charts: dict[str, MergedChart] = {}
    grids: list[tuple[str, Grid]] = []
    numbers: list[MergedNumber] = []
    for entry in entries:
        of_runs = [known.get((record.run_id, record.measured), ()) for record in entry.group.runs.values()]
        found = [each for of_run in of_runs for each in of_run if each.protocol == entry.protocol]
        numbers += _numbers(entry, found)
        for title, of_title in _by_title(each for finding in found for each in finding.shown.charts).items():
            charts.setdefault(title, MergedChart(of_title[0])).curves.extend(_curves(entry, of_title))
        of_answer = [g for finding in found for g in finding.shown.grids if g.predictor in ("", entry.predictor)]
        grids += [(entry.group.method, _mean_grid(of_title)) for of_title in _by_title(of_answer).values()]
    return Analysed(tuple(charts.values()), tuple(grids), tuple(numbers))


def _by_title(each: Iterable[Titled]) -> dict[str, list[Titled]]:
    titled: dict[str, list[Titled]] = {}
    for one in each:
        titled.setdefault(one.title, []).append(one)
    return titled


def _numbers(entry: Entry, found: Sequence[Finding]) -> list[MergedNumber]:
    values: dict[tuple[str, str], list[float]] = {}
    for number in (number for finding in found for number in finding.shown.numbers):
        values.setdefault((number.predictor, number.title), []).append(number.value)
    method = entry.group.method
    return [MergedNumber(method, predictor, title, mean_interval(v)) for (predictor, title), v in values.items()]


def _curves(entry: Entry, charts: Sequence[Chart]) -> list[Curve]:
    """A curve for each predictor; seeds with other points than the first are left out."""
    lines: dict[str, list[Line]] = {}
    for line in (line for chart in charts for line in chart.lines):
        same = lines.setdefault(line.predictor, [])
        if not same or same[0].x == line.x:
            same.append(line)
    return [
        Curve(entry.group.method, predictor, predictor == entry.predictor, tuple(_points(same)))
        for predictor, same in lines.items()
    ]


def _points(lines: Sequence[Line]) -> Iterable[tuple[float, Interval]]:
    for place, x in enumerate(lines[0].x):
        known = [y for y in (line.y[place] for line in lines) if y is not None]
        if len(known) == len(lines):
            yield x, mean_interval(known)


def _mean_grid(grids: Sequence[Grid]) -> Grid:
    """The mean over seeds of grids with the same rows and columns as the first."""
    first = grids[0]
    same = [grid.values for grid in grids if (grid.rows, grid.columns) == (first.rows, first.columns)]
    values = tuple(
        tuple(_mean([grid[row][column] for grid in same]) for column in range(len(first.columns)))
        for row in range(len(first.rows))
    )
    return Grid(first.title, first.predictor, first.row_label, first.column_label, first.rows, first.columns, values)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
