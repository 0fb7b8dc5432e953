"""Findings over the seeds of a group: means, and only what belongs to the comparison."""

from __future__ import annotations

from dataclasses import replace

from synergy.report.analysed import Held, analysed
from synergy.report.groups import Choice, Entry, compared, groups
from synergy.runs.findings import Chart, Description, Finding, Grid, Line, Number
from tests.report.runs import made

RECORDS = [made("er", seed, 50.0 + seed) for seed in range(2)]


def entries() -> list[Entry]:
    return compared(groups(RECORDS), Choice())["class-IL"]


def finding(seed: int, ys: tuple[float | None, ...], protocol: str = "class-IL") -> Finding:
    lines = tuple(Line(name, (1.0, 2.0, 3.0), ys) for name in ("working", "other"))
    grids = tuple(
        Grid("g", name, "r", "c", ("a",), ("a", "b"), ((10.0 * seed, None),)) for name in ("working", "other")
    )
    shown = Description((Number("n, %", "other", 4.0 + seed),), (Chart("c", "x", "y", lines),), grids)
    record = RECORDS[seed]
    return Finding(1, "made", record.run_id, record.measured.started_at, protocol, {}, "cpu", shown, {})


def known(*of: Finding) -> Held:
    return {(record.run_id, record.measured): [each] for record, each in zip(RECORDS, of, strict=True)}


def test_points_are_means_over_seeds_where_all_have_a_value() -> None:
    found = analysed(entries(), known(finding(0, (1.0, None, 5.0)), finding(1, (3.0, 4.0, 5.0))))
    (merged,) = found.charts
    assert [(curve.predictor, curve.is_answer) for curve in merged.curves] == [("working", True), ("other", False)]
    assert [(x, point.value) for x, point in merged.curves[0].points] == [(1.0, 2.0), (3.0, 5.0)]
    (number,) = found.numbers
    assert (number.predictor, number.value.value) == ("other", 4.5)
    ((method, grid),) = found.grids
    assert (method, grid.predictor, grid.values) == ("er", "working", ((5.0, None),))


def test_findings_under_another_protocol_stay_out() -> None:
    found = analysed(entries(), known(finding(0, (1.0, 2.0, 3.0)), finding(1, (9.0, 9.0, 9.0), "task-IL")))
    assert found.charts[0].curves[0].points[0][1].value == 1.0
    assert found.numbers[0].value.value == 4.0


def test_a_seed_with_other_points_is_left_out() -> None:
    other = finding(1, (9.0, 9.0, 9.0))
    chart = other.shown.charts[0]
    short = replace(chart, lines=tuple(replace(line, x=(1.0,), y=(9.0,)) for line in chart.lines))
    changed = replace(other, shown=replace(other.shown, charts=(short,)))
    found = analysed(entries(), known(finding(0, (1.0, 2.0, 3.0)), changed))
    assert [point.value for _, point in found.charts[0].curves[0].points] == [1.0, 2.0, 3.0]
