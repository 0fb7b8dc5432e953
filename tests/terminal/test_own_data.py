"""`split:…` on the command line: run, record, resume, report, verify, study, and one line for every mistake."""

from __future__ import annotations

import itertools
import os
from contextlib import nullcontext
from pathlib import Path

import pyarrow
import pytest
from pyarrow import csv, parquet

from synergy.runs import records
from synergy.terminal import commands
from tests.commands import Outcome, call
from tests.data import own_images
from tests.data.parquet_files import pictures, png

RUN = ("run", "--model", "er", "--net", "mlp", "--dataset")
ENDING = "-minibatch_size8-n_epochs1-batch_size8-seed0"
SMALL = ("--buffer_size", 20, "--minibatch_size", 8, "--batch_size", 8, "--n_epochs", 1)


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    own_images.stripes(Path("bars"), {"low": 20, "middle": 20, "high": 20})


def points() -> None:
    """The same rows as `points.csv` and `points.parquet`."""
    rows = [(number % 7, number % 4, "red" if number % 4 < 2 else "blue", number % 2) for number in range(120)]
    table = pyarrow.table(dict(zip(("a", "b", "colour", "when"), map(list, zip(*rows, strict=True)), strict=True)))
    csv.write_csv(table, "points.csv")
    parquet.write_table(table.select(["a", "b", "colour"]), "points.parquet")


def refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2 and outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err
    assert not Path("runs").exists()


def stopped(*arguments: object) -> None:
    """A run that is interrupted after four steps."""
    asked = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "stopping_on_interrupt", lambda: nullcontext(lambda: next(asked) == 4))
        outcome = call(*arguments, "--experiment_id", "stopped", "--checkpoint_every", 2)
    assert outcome.code == 130, outcome.err


def test_a_run_names_classes_and_data() -> None:
    outcome = call(*RUN, "split:bars", *SMALL, "--n_tasks", 3, "--class_order", "low,high,middle")
    assert (outcome.code, outcome.err) == (0, "")
    assert "data         bars (folder, 20 % of each class held out by seed 0 as test set): 48 training" in outcome.out
    (record,) = records.read_all(Path("runs"))
    assert record.run_id == f"bars-er-mlp-buffer20-n_tasks3-class_orderlow_high_middle{ENDING}" and not record.partial
    assert record.config["scenario"]["name"] == "split:bars"
    assert record.source["classes"] == ["high", "low", "middle"]
    assert record.task_classes == ((1,), (0,), (2,))
    assert [record.class_name(number) for number in record.answer().per_class] == ["high", "low", "middle"]
    assert (record.source["train_samples"], record.source["test_samples"]) == (48, 12)
    report = call("report", "runs")
    assert report.code == 0 and "split:bars" in report.out
    assert "identical to the bit" in call("verify", f"runs/{record.run_id}").out


@pytest.mark.parametrize(
    "data",
    [
        ("split:bars",),
        ("split:bars", "--blur", 0.2),
        ("split:bars", "--drift", 1),
        ("split:points.csv", "--label", "colour"),
        ("split:points.csv", "--label", "colour", "--domains", "when"),
        ("split:points.parquet",),
        pytest.param(("split:hf:bars",), marks=pytest.mark.slow),  # datasets takes seconds to load
    ],
    ids=lambda data: " ".join(map(str, data)),
)
def test_a_run_that_was_stopped_goes_on_from_another_folder(
    data: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    points()
    assert call(*RUN, *data, *SMALL, "--experiment_id", "whole").code == 0
    stopped(*RUN, *data, *SMALL)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    resumed = call("resume", "../runs/stopped")
    assert (resumed.code, resumed.err) == (0, "")
    one, other = (records.read(Path("../runs") / name) for name in ("whole", "stopped"))
    assert one.accuracies == other.accuracies and one.source == other.source
    report = call("report", "../runs/stopped")
    assert report.code == 0 and f"er on {data[0]}, seed 0" in report.out


def test_data_that_changed_are_refused() -> None:
    stopped(*RUN, "split:bars", *SMALL)
    path = Path("bars/low/003.png")
    path.write_bytes(png(pictures(1, 8, 8)[0]))
    os.utime(path, (1, 1))
    outcome = call("resume", "runs/stopped")
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "made with other data, their checksum differs" in outcome.err


def test_rows_of_a_table_are_learned() -> None:
    points()
    flags = ("--label", "colour", "--n_tasks", 2, "--class_order", "red,blue")
    outcome = call("run", "--model", "synergy", "--dataset", "split:points.csv", *SMALL, *flags)
    assert (outcome.code, outcome.err) == (0, "")
    (record,) = records.read_all(Path("runs"))
    assert record.source["classes"] == ["blue", "red"] and record.task_classes == ((1,), (0,))
    assert record.config["net"]["name"] == "mlp" and record.run_id == (
        f"points-synergy-buffer20-n_tasks2-class_orderred_blue-labelcolour{ENDING}"
    )
    outcome = call(*RUN, "split:points.csv", *SMALL, "--label", "colour", "--domains", "when")
    assert "protocol     domain-IL" in outcome.out
    refused_here = call(*RUN, "split:points.csv", *SMALL, "--label", "color")
    assert refused_here.code == 2 and "'color'; did you mean 'colour'?" in refused_here.err


@pytest.mark.parametrize(
    "model", ["er", "derpp", "icarl", "lwf", "ewc_on", "gdumb", "gss", "agem", "clser", "slda", "joint"]
)
def test_a_blurred_stream_is_learned(model: str) -> None:
    budget = ("--batch_size", 8, "--n_epochs", 1, "--n_tasks", 3, "--blur", 0.2, "--net", "mlp")
    outcome = call("run", "--model", model, "--dataset", "split:bars", *budget)
    assert (outcome.code, outcome.err) == (0, ""), outcome.err
    (record,) = records.read_all(Path("runs"))
    assert len(record.task_classes[1]) == 3 and record.accuracies[0].protocol == "class-IL"


def test_a_drift_has_no_boundaries() -> None:
    assert call(*RUN, "split:bars", *SMALL, "--n_tasks", 3, "--drift", 1).code == 0
    outcome = call("run", "--model", "lwf", "--net", "mlp", "--dataset", "split:bars", "--drift", 1)
    assert outcome.code == 2 and "method lwf needs task boundaries and split:bars has none" in outcome.err
    outcome = call("run", "--model", "lwf", "--net", "mlp", "--dataset", "split:bars", "--domains", "folder")
    assert outcome.code == 2 and outcome.err.count("\n") == 1


@pytest.mark.slow
def test_a_study_over_own_data() -> None:
    lists = ("--models", "er,sgd", "--seeds", "0-1", "--output_dir", "S", "--n_epochs", 1, "--net", "mlp")
    outcome = call("study", "--datasets", "split:bars", *lists, "--n_tasks", 3, "--jobs", 1)
    assert outcome.code == 0, outcome.err
    assert len(records.read_all(Path("S"))) == 4


def test_the_contract_is_checked_by_a_command() -> None:
    outcome = call("check", "split:bars", "n_tasks=3", "blur=0.1")
    assert outcome.code == 0 and "split:bars is a scenario" in outcome.out and "10 of 10 checks hold" in outcome.out


def test_help_shows_the_flags_before_there_are_data() -> None:
    text = " ".join(call(*RUN, "split:nowhere", "--help").out.split())
    for part in ("options of split:nowhere", "--first_task INT", "--image_size INT", "--class_order STR [STR ...]"):
        assert part in text


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("split:bar", ["split:bar: there is no ", "did you mean '", "/bars'?"]),
        ("split:no/where", ["split:no/where: there is no ", "allowed: split:FOLDER of images, split:FILE.csv"]),
        ("split:none.csv", ["split:none.csv: there is no "]),
        ("split:", ["allowed: split:FOLDER"]),
        ("split:hf:", ["split:hf:: given no name; allowed: split:FOLDER of images"]),
        ("spilt:bars", ["unknown scenario 'spilt:bars'; did you mean 'split:bars'?"]),
    ],
)
def test_a_name_of_nothing(name: str, parts: list[str]) -> None:
    refused(call(*RUN, name, *SMALL), *parts)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (("--class_order", "low,high"), ["class_order: given 2 of 3 classes, without middle"]),
        (("--class_order", "low,high,midle"), ["unknown class in class_order 'midle'; did you mean 'middle'?"]),
        (("--n_tasks", 4), ["n_tasks: given 4; allowed: at most 3"]),
        (("--n_tasks", 2, "--first_task", 3), ["first_task: given 3; allowed: 1 to 2"]),
        (("--test_share", 1), ["test_share: given 1.0; allowed: at least 0.01 and at most 0.9"]),
        (("--image_size", 0), ["image_size: given 0; allowed: at least 1"]),
    ],
)
def test_impossible_options(flags: tuple[str, ...], parts: list[str]) -> None:
    refused(call(*RUN, "split:bars", *SMALL, *flags), *parts)


def test_sizes_that_differ_are_told_and_scaled() -> None:
    (Path("bars/low/wide.png")).write_bytes(png(pictures(1, 5, 9)[0]))
    refused(call(*RUN, "split:bars", *SMALL), "images of several sizes", "low/wide.png is 9x5", "give --image_size")
    assert call(*RUN, "split:bars", *SMALL, "--image_size", 6).code == 0


def test_grey_images_are_learned_by_a_resnet() -> None:
    outcome = call("run", "--model", "er", "--dataset", "split:bars", *SMALL, "--width", 2)
    assert (outcome.code, outcome.err) == (0, "")
    (record,) = records.read_all(Path("runs"))
    assert record.config["net"] == {"name": "resnet18", "width": 2}
