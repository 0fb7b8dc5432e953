"""Findings are read back as they were written, and damage is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from synergy.errors import UsageError
from synergy.runs import findings
from synergy.runs.findings import Chart, Description, Finding, Grid, Line, Number
from tests.runs.test_records import RECORD

LINE = Line("working", (1.0, 2.0), (50.0, None))
SHOWN = Description(
    (Number("error, %", "working", 1.5),),
    (Chart("a chart", "x", "y", (LINE,), LINE, "the same"),),
    (Grid("a grid", "working", "row", "column", ("a", "b"), ("c",), ((1.0,), (None,))),),
)
FINDING = Finding(
    1, "made_up", RECORD.run_id, RECORD.measured.started_at, "class-IL", {"n": 2}, "cpu", SHOWN, {"k": [1]}
)


def test_a_finding_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = findings.write(FINDING, tmp_path)
    assert path == tmp_path / "analyses" / "made_up.json"
    assert findings.read(path) == FINDING
    assert findings.of_run(RECORD, tmp_path) == ([FINDING], [])


def test_a_finding_about_an_earlier_run_is_left_out(tmp_path: Path) -> None:
    findings.write(replace(FINDING, started_at="1999"), tmp_path)
    assert findings.of_run(RECORD, tmp_path) == ([], [])


@pytest.mark.parametrize("change", [{"format": 2}, {"shown": 3}, {"device": None}])
def test_a_damaged_finding_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    path = findings.write(FINDING, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    found, (damage,) = findings.of_run(RECORD, tmp_path)
    assert found == [] and str(path) in damage
    path.write_text("{")
    with pytest.raises(UsageError, match="not strict JSON"):
        findings.read(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "analyses").write_text("in the way")
    with pytest.raises(UsageError, match=r"cannot write .*analyses"):
        findings.write(FINDING, tmp_path)
