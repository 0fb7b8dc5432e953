"""Pictures of records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from synergy.errors import UsageError
from synergy.report import pictures
from synergy.runs.records import Record
from tests.runs.test_records import RECORD


def record_of(*matrix: tuple[float | None, ...]) -> Record:
    return replace(RECORD, accuracies=(replace(RECORD.accuracies[0], matrix=matrix),))


@pytest.mark.parametrize(("runs", "inches"), [(1, (4.0, 3.6)), (3, (10.4, 3.6)), (5, (13.6, 7.2))])
def test_a_picture_grows_with_the_runs(tmp_path: Path, runs: int, inches: tuple[float, float]) -> None:
    path = pictures.accuracy_over_time([RECORD] * runs, tmp_path / "new" / "picture.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (round(150 * inches[0]), round(150 * inches[1]))
        colours = picture.convert("RGB").getcolors(maxcolors=2**24)
    assert colours is not None
    assert len(colours) > 50  # not a blank sheet


@pytest.mark.parametrize(("suffix", "beginning"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_other_formats(tmp_path: Path, suffix: str, beginning: bytes) -> None:
    path = pictures.accuracy_over_time([RECORD], tmp_path / f"picture.{suffix}")
    assert path.read_bytes().startswith(beginning)


def test_capitals_name_a_format_too(tmp_path: Path) -> None:
    with Image.open(pictures.accuracy_over_time([RECORD], tmp_path / "picture.PNG")) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    "matrix",
    [
        ((None, None), (60.0, 80.0)),  # answers at the end only
        ((90.0,), (80.0,), (70.0,)),  # one test split
        ((90.0, 10.0, 10.0), (80.0, 70.0, 10.0)),  # stopped before the last task
    ],
)
def test_matrices_of_every_kind(tmp_path: Path, matrix: tuple[tuple[float | None, ...], ...]) -> None:
    assert pictures.accuracy_over_time([record_of(*matrix)], tmp_path / "picture.png").stat().st_size > 1000


def test_runs_that_have_nothing_to_draw_are_left_out(tmp_path: Path) -> None:
    unfinished = replace(RECORD, run_id="a", status="failed", accuracies=())
    one_task = replace(record_of((50.0,)), run_id="b")
    with pytest.warns(UserWarning, match="not in the picture: a, b: learned no more than one task"):
        path = pictures.accuracy_over_time([unfinished, RECORD, one_task], tmp_path / "picture.png")
    with Image.open(path) as picture:
        assert picture.size == (600, 540)


@pytest.mark.parametrize(
    ("records", "name", "message"),
    [
        ([record_of((50.0,))], "a.png", "shows runs that learned more than one task: given 0; allowed: 1 to 40"),
        ([RECORD] * 41, "a.png", "given 41; allowed: 1 to 40"),
        ([RECORD], "a.jpg", "unknown picture format 'jpg'; did you mean 'png'? allowed: pdf, png, svg"),
        ([RECORD], "a", "unknown picture format ''; allowed: pdf, png, svg"),
        ([RECORD], "file/a.png", "cannot write the picture"),
        ([replace(RECORD, config={})], "a.png", "given a configuration without method.name"),
    ],
)
def test_what_cannot_be_drawn(tmp_path: Path, records: list[Record], name: str, message: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError) as complaint:
        pictures.accuracy_over_time(records, tmp_path / name)
    assert message in str(complaint.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
