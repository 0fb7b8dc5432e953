"""`synergy reproduce`: real runs on a small MNIST, and what is said of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from synergy.presets.published import PublishedResult
from synergy.runs import records
from synergy.studies.reproduce import Cell, Row, reproduction
from synergy.terminal.reproduce import side_by_side, title
from tests.commands import call
from tests.data.parquet_files import pictures, write_split

ROOT = Path(__file__).parent.parent.parent
SMALL = ("--quick", "--models", "er,kder", "--jobs", "2")


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A folder of data with 300 training and 100 test images like those of MNIST."""
    for split, count in (("train", 300), ("test", 100)):
        labels = np.arange(count) % 10
        write_split(tmp_path / "data" / "mnist" / f"{split}-0.parquet", pictures(count, 28, 28), labels.tolist())
    return tmp_path / "data"


@pytest.mark.slow
def test_a_table_is_made_as_a_study_and_stands_beside_the_published_numbers(tmp_path: Path, mnist: Path) -> None:
    asked = ("reproduce", "rot-mnist", *SMALL, "--data_dir", mnist, "--output_dir", tmp_path / "S")
    first = call(*asked)
    assert first.code == 0, first.err
    assert "2 of 2 runs finished" in first.out
    ours = records.read(tmp_path / "S" / "rot-mnist-er-plain-buffer500-seed0")
    final = ours.answer().metrics["final_average"]
    (line,) = re.findall(r"^  er, buffer 500  .*", first.out, re.MULTILINE)
    assert f"{final:.2f}" in line and "88.91 ± 1.44" in line
    assert "in sd" not in first.out and f"{final - 88.91:+.2f}" not in line, "shortened runs compare with nothing"
    (given,) = re.findall(r"^  er, buffer 500, 20 rotation_angles  .*", first.out, re.MULTILINE)
    assert re.search(r"87\.6[34] ± 0\.84", given)
    said = " ".join(first.out.split())
    assert "--quick is a first look; not comparable: runs are shortened (max_steps_per_task 100)" in said
    assert "not comparable: mnist is a part of the data set, 300 training samples" in said
    assert "no tuned values, so not run: kder, buffer 500" in said
    assert "[2] the published code, NeurAI-Lab/SYNERgy" in said
    again = call(*asked)
    assert again.code == 0 and "2 runs, 2 finished" in again.out
    table = first.out[first.out.index("rot-mnist: final average, percent") :]
    assert table in again.out


def test_numbers_that_compare_have_their_difference() -> None:
    theirs = PublishedResult(
        "gcil-cifar100", "er", 500, "published_final", "working", "class-IL", 28.0, 0.5, 10, "Them"
    )
    row = Row(Cell("gcil-cifar100", "er", 500, {}, (theirs,), None), "working", "class-IL", {0: 29.0, 1: 30.0}, theirs)
    heading, line = side_by_side([row], comparable=True).splitlines()
    assert heading.split()[-3:] == ["in", "sd", "source"]
    assert line.split()[-7:] == ["28.00", "±", "0.50", "10", "+1.50", "+3.0", "[1]"]
    assert side_by_side([row], comparable=False).splitlines()[1].split()[-3:] == ["0.50", "10", "[1]"]


def test_a_table_names_its_metric() -> None:
    wanted = reproduction("gcil", Path("nowhere"))
    assert title("gcil", wanted) == "gcil: published final, percent, mean ± standard deviation over n seeds"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to kill")
def test_a_table_whose_making_was_killed_goes_on(tmp_path: Path, mnist: Path) -> None:
    asked = ("reproduce", "rot-mnist", *SMALL[:-1], "1", "--data_dir", mnist, "--output_dir", tmp_path / "S")
    command = [sys.executable, "-m", "synergy.terminal.cli", *map(str, asked)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT, start_new_session=True)
    while process.poll() is None and not list((tmp_path / "S").glob("*/record.json")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(list((tmp_path / "S").glob("*/record.json"))) == 1, "the command was over too early"
    again = call(*asked)
    assert again.code == 0, again.err
    assert "2 runs, 1 finished" in again.out and "2 of 2 runs finished" in again.out
    assert re.search(r"^  er, buffer 500, 20 rotation_angles  .*", again.out, re.MULTILINE)


@pytest.mark.slow
def test_a_table_without_published_numbers_says_so(tmp_path: Path, mnist: Path) -> None:
    asked = ("reproduce", "perm-mnist", "--quick", "--models", "sgd,synergy", "--data_dir", mnist, "--dry_run")
    told = call(*asked, "--output_dir", tmp_path / "S")
    assert told.code == 0, told.err
    said = " ".join(told.out.split())
    assert "2 runs would take about" in said and not (tmp_path / "S").exists()
    assert "no published number: the package holds none for perm-mnist" in said
    assert "tuned values that were chosen here, not published: synergy" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "TABLE is missing"),
        (("rot-mnits",), "unknown table 'rot-mnits'; did you mean 'rot-mnist'?"),
        (("rot-mnist", "--models", "clsre"), "unknown method 'clsre'; did you mean 'clser'?"),
        (("rot-mnist", "--models", ","), "given no method"),
        (("rot-mnist", "--buffer_sizes", "2.5"), "given '2.5'; allowed: whole numbers with commas between"),
        (("rot-mnist", "--seeds", "x"), "seed is given 'x'; allowed: a whole number, or a range such as 0-2"),
        (("rot-mnist", "--device", "tpu"), "given 'tpu'; allowed: one of auto"),
        (("rot-mnist", "--models", "kder"), "no tuned values for kder"),
        (("rot-mnist", "--lr", "1"), "--lr"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], told: str) -> None:
    outcome = call("reproduce", *arguments, *["--dry_run"] * bool(arguments))
    assert outcome.code == 2
    assert told in outcome.err and outcome.err.count("\n") == 1
