"""Sections of a page that only some runs have: findings of analyses, ablations, buffer sizes, published values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synergy.presets.published.reader import PublishedResult, results
from synergy.report import maps, svg
from synergy.report.ablation import Ablation, ablations
from synergy.report.analysed import Analysed, Curve, MergedChart
from synergy.report.cells import Cell
from synergy.report.groups import Choice, Entry
from synergy.report.statistics import Interval
from synergy.report.svg import Stroke
from synergy.report.tables import Table, number

MOST_SIDES = 4
"""Methods up to which the lines of their other predictors are drawn too."""


def analyses(found: Analysed, colours: Mapping[str, int]) -> dict[str, Any] | None:
    """What analyses found out about the runs of a comparison; None if there is nothing."""
    if not (found.charts or found.numbers or found.grids):
        return None
    rows: dict[tuple[str, str], dict[str, Interval]] = {}
    for each in found.numbers:
        rows.setdefault((each.method, each.predictor), {})[each.title] = each.value
    titles = list(dict.fromkeys(each.title for each in found.numbers))
    return {
        "heads": ["method", "predictor", *titles],
        "rows": [
            [Cell(method, method), Cell(predictor, predictor), *(_cell(values.get(title)) for title in titles)]
            for (method, predictor), values in rows.items()
        ],
        "figures": [figure for merged in found.charts for figure in _chart(merged, colours)],
        "maps": [
            {
                "svg": maps.grid(each.rows, each.columns, each.values, (each.row_label, each.column_label)),
                "caption": f"{method}: {each.title}, percent{f' ({each.predictor})' if each.predictor else ''}",
            }
            for method, each in found.grids
        ],
    }


def _cell(interval: Interval | None) -> Cell:
    return Cell("-", "") if interval is None else Cell(number(interval), interval.value)


def _chart(merged: MergedChart, colours: Mapping[str, int]) -> Iterator[dict[str, str]]:
    answers = {curve.method for curve in merged.curves if curve.is_answer}
    shown = [curve for curve in merged.curves if curve.points and (curve.is_answer or len(answers) <= MOST_SIDES)]
    if not shown:
        return
    chart = merged.chart
    reference = [] if chart.reference is None else _points(chart.reference.x, chart.reference.y)
    lines = svg.chart(
        [_stroke(curve, colours) for curve in shown], (chart.x_label, chart.y_label), chart.title, reference, marks=True
    )
    caption = chart.title
    if any(not curve.is_answer for curve in shown):
        others = ", ".join(sorted({curve.predictor for curve in shown if not curve.is_answer}))
        caption += f"; thin: {others}"
    yield {"svg": lines, "caption": f"{caption}; dashed grey: {chart.reference_label}" if reference else caption}


def _stroke(curve: Curve, colours: Mapping[str, int]) -> Stroke:
    name = f"{curve.method} ({curve.predictor})"
    return Stroke(name, colours[curve.method], curve.points, aside=not curve.is_answer)


def _points(x: Sequence[float], y: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(px, py) for px, py in zip(x, y, strict=True) if py is not None]


def ablation(content: Table) -> dict[str, Any] | None:
    """What each change of a method costs; None if no method has variants."""
    found = ablations(content)
    if not found:
        return None
    heads = ["variant", "method", "comparison", content.choice.title, "difference to the reference", "seeds"]
    return {"heads": heads, "rows": [row for each in found for row in _changes(each)], "figures": _forests(found)}


def _changes(of: Ablation) -> Iterator[list[Cell]]:
    shared = [Cell(of.method, of.method), Cell(of.comparison, of.comparison)]
    yield [Cell(f"{of.reference} (reference)", of.reference), *shared, _cell(of.value), Cell("-", 0), Cell("-", "")]
    for each in of.changes:
        gap = between(each.difference)
        yield [Cell(each.variant, each.variant), *shared, _cell(each.value), gap, Cell(str(each.seeds), each.seeds)]


def _forests(found: Sequence[Ablation]) -> list[dict[str, str]]:
    return [
        {
            "svg": svg.forest([(each.variant, each.difference) for each in of.changes], "difference, points"),
            "caption": f"{of.comparison}: difference to {of.reference}, 95 % interval over shared seeds",
        }
        for of in found
    ]


def between(interval: Interval | None) -> Cell:
    """An estimate and the ends of its interval."""
    if interval is None:
        return Cell("-", "")
    ends = "" if interval.low is None or interval.high is None else f" [{interval.low:.2f}, {interval.high:.2f}]"
    return Cell(f"{interval.value:.2f}{ends}", interval.value)


def buffer_sizes(content: Table, colours: Mapping[str, int]) -> list[dict[str, str]]:
    """For each stream and protocol the number against the buffer size, for methods that ran with two or more."""
    of_stream: dict[tuple[str, str], dict[str, dict[int, Interval]]] = {}
    for column in content.columns:
        sizes = of_stream.setdefault((column.stream, column.protocol), {})
        for method, entry in column.entries.items():
            if entry.group.buffer_size is not None:
                sizes.setdefault(method, {})[entry.group.buffer_size] = entry.shown
    figures = []
    for (stream, protocol), methods in of_stream.items():
        several = {method: found for method, found in methods.items() if len(found) > 1}
        if several:
            strokes = [
                Stroke(method, colours[method], [(math.log10(size), i) for size, i in sorted(found.items())])
                for method, found in several.items()
            ]
            names = {math.log10(size): str(size) for found in several.values() for size in found}
            labels = ("buffer size (logarithmic)", f"{content.choice.title}, %")
            drawn = svg.chart(strokes, labels, "accuracy against buffer size", marks=True, x_ticks=names)
            figures.append({"svg": drawn, "caption": f"{stream}, {protocol}: mean and 95 % interval over seeds"})
    return figures


def published(entry: Entry, choice: Choice) -> PublishedResult | None:
    """The published number for a group, of the same predictor and protocol; None if there is none.

    A run with a reduced budget, or on a part of the data, is not compared.
    """
    record = entry.group.example
    if record.partial or record.source.get("complete") is False or entry.group.buffer_size is None:
        return None
    found = results(
        record.name_of("scenario"),
        record.name_of("method"),
        buffer_size=entry.group.buffer_size,
        metric=choice.metric,
        predictor=entry.predictor,
        protocol=entry.protocol,
    )
    options = {name: value for table in record.config.values() for name, value in table.items()}
    return next((each for each in found if each.fits(options)), None)
