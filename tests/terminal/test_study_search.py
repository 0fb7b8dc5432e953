"""`synergy study` with a `[search]`: several processes, killed in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synergy.runs import records
from tests.commands import call

ROOT = Path(__file__).parent.parent.parent
STUDY = """
model = "er"
dataset = "rot-digits"
n_tasks = 3
max_steps_per_task = 30
checkpoint_every = 10

[search]
trials = 8

[search.space]
lr = { low = 0.01, high = 1.0, log = true }
minibatch_size = [8, 16]
"""


def start(file: Path, folder: Path, jobs: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "synergy.terminal.cli", "study", file, "--output_dir", folder, "--jobs", jobs]
    pipe, environment = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, command)), stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=environment, start_new_session=True
    )


def killed(file: Path, folder: Path, jobs: int, records_seen: int) -> None:
    """Kill all processes of a search once it has left so many records."""
    process = start(file, folder, jobs)
    deadline = time.monotonic() + 120
    while len([*folder.glob("*/record.json")]) < records_seen and time.monotonic() < deadline:
        assert process.poll() is None, "the search was over before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finished(file: Path, folder: Path, jobs: int) -> str:
    process = start(file, folder, jobs)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert err == ""
    return out


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to kill")
def test_a_killed_search_makes_the_trials_of_a_whole_one(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY, encoding="utf-8")
    out = finished(file, tmp_path / "whole", 1)
    assert re.search(r"8/8  .*\n\nrot-digits-er-buffer500: lr = 0\.\d+, minibatch_size = \d+\n", out)
    for seen in (1, 3, 6):
        killed(file, tmp_path / "killed", 1, seen)
    assert "goes on" not in finished(file, tmp_path / "killed", 1)
    best = [(tmp_path / name / "best/rot-digits-er-buffer500.toml").read_text("utf-8") for name in ("whole", "killed")]
    assert best[0].replace("whole", "killed") == best[1]
    name = "rot-digits-er-buffer500-trial7-seed0"
    whole, again = (records.read(tmp_path / folder / name) for folder in ("whole", "killed"))
    assert whole.config["method"] == again.config["method"] and whole.accuracies == again.accuracies


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to kill")
def test_several_processes_search_at_once_and_no_run_is_made_twice(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY, encoding="utf-8")
    killed(file, tmp_path / "S", 3, 2)
    out = finished(file, tmp_path / "S", 3)
    assert out.count("8/8  ") == 1
    listed = [record.run_id for record in records.read_all(tmp_path / "S")]
    assert len(listed) == len(set(listed)) >= 5
    assert {record.config["training"]["validation"] for record in records.read_all(tmp_path / "S")} == {True}
    assert "nothing" not in finished(file, tmp_path / "S", 3)
    assert [record.run_id for record in records.read_all(tmp_path / "S")] == listed


@pytest.mark.slow
def test_a_dry_run_says_the_cost_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY, encoding="utf-8")
    told = call("study", file, "--output_dir", tmp_path / "S", "--dry_run", "--trials", "5", "--jobs", "2")
    assert told.code == 0, told.err
    assert "5 trials on the validation split" in told.out and "2 at once; nothing was run" in told.out
    assert not (tmp_path / "S").exists()


def test_trials_belong_to_a_search(tmp_path: Path) -> None:
    options = (
        "--models",
        "er",
        "--datasets",
        "rot-digits",
        "--output_dir",
        tmp_path / "S",
        "--trials",
        "5",
        "--dry_run",
    )
    outcome = call("study", *options)
    assert outcome.code == 2 and outcome.err.startswith("synergy: error: --trials: given for a study without [search]")
