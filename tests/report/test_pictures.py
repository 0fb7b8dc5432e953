"""Pictures of records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from synergy.errors import UsageError
from synergy.report import pictures
from synergy.report.groups import Choice, groups
from synergy.runs.records import Record
from tests.report.runs import made
from tests.runs.test_records import RECORD


def record_of(*matrix: tuple[float | None, ...]) -> Record:
    return replace(RECORD, accuracies=(replace(RECORD.accuracies[0], matrix=matrix),))


@pytest.mark.slow
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


def over_time(path: Path, metric: str = "final_average", methods: int = 3) -> Path:
    matrices = [
        tuple(tuple(40.0 + t - k + s if k <= t else None for k in range(20)) for t in range(20)) for s in (0, 5)
    ]
    runs = [made(f"m{m}", seed, matrix=matrices[(m + seed) % 2]) for m in range(methods) for seed in (0, 1)]
    general = [
        made(f"m{m}", seed, matrix=((50.0 + m + seed,),), scenario="mnist-360") for m in range(2) for seed in (0, 1)
    ]
    return pictures.methods_over_time(groups([*runs, *general]), Choice(metric), path)


@pytest.mark.parametrize("metric", ["final_average", "forgetting", "calibration_error"])
def test_methods_share_a_panel_for_each_stream(tmp_path: Path, metric: str) -> None:
    with Image.open(over_time(tmp_path / "picture.png", metric)) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=2**24) or []}
    wanted = {tuple(bytes.fromhex(colour[1:])) for colour in pictures.COLOURS[:3]}
    assert wanted <= colours


def test_more_methods_than_colours_have_other_dashes(tmp_path: Path) -> None:
    assert over_time(tmp_path / "picture.svg", methods=12).stat().st_size > 10_000


def test_no_number_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given 0 streams with numbers; allowed: 1 to 40"):
        over_time(tmp_path / "a.png", "published_final")
