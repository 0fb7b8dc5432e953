"""`synergy study`: processes that really run, in folders that really go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synergy.runs import records
from tests.commands import BRIEF, call

ROOT = Path(__file__).parent.parent.parent
SMALL = ("study", "--datasets", "rot-digits", "--n_tasks", "2", "--max_steps_per_task", "3")


def outcomes(folder: Path) -> dict[str, Any]:
    found = {path.parent.name: records.read(path).outcome() for path in folder.glob("*/record.json")}
    for each in found.values():
        each["config"]["output"].pop("output_dir")
        each.pop("provenance")
    return found


@pytest.mark.slow
def test_a_study_runs_what_is_left_and_each_run_is_an_ordinary_one(tmp_path: Path) -> None:
    first = call(*SMALL, "--models", "er,sgd", "--seeds", "0", "--output_dir", tmp_path / "S", "--jobs", "2")
    assert first.code == 0, first.err
    assert "2 of 2 runs finished" in first.out
    before = (tmp_path / "S/rot-digits-er-buffer500-seed0/record.json").read_bytes()
    second = call("study", tmp_path / "S", "--seeds", "0-1", "--jobs", "2")
    assert second.code == 0, second.err
    assert "4 runs, 2 finished" in second.out
    assert (tmp_path / "S/rot-digits-er-buffer500-seed0/record.json").read_bytes() == before
    assert len(records.read_all(tmp_path / "S")) == 4
    by_hand = ("run", "--dataset", "rot-digits", "--model", "er", "--n_tasks", "2", "--max_steps_per_task", "3")
    name = "rot-digits-er-buffer500-seed1"
    output = ("--checkpoint_every", "1000", "--keep", "1", "--experiment_id", name, "--output_dir", tmp_path / "R")
    assert call(*by_hand, "--seed", "1", *output).code == 0
    assert outcomes(tmp_path / "R")[name] == outcomes(tmp_path / "S")[name]
    assert sorted(p.name for p in (tmp_path / "S").iterdir() if p.is_file()) == ["results.jsonl", "study.toml"]


@pytest.mark.slow
def test_failed_runs_are_told_and_tried_again_on_request(tmp_path: Path) -> None:
    asked = (*SMALL, "--models", "sgd", "--lr", "0.1,1e30", "--output_dir", tmp_path / "S")
    first = call(*asked)
    assert first.code == 1
    assert "lr1e+30" in first.out or "lr1e_30" in first.out
    assert "1 of 2 runs failed" in first.err and "--retry_failed" in first.err
    again = call(*asked)
    assert again.code == 1
    assert "1 finished, 1 failed before" in again.out and "failed before: rot-digits-sgd-lr1e" in again.out
    assert "failed: " in call(*asked, "--retry_failed").out


@pytest.mark.slow
def test_a_dry_run_runs_nothing_and_says_the_cost(tmp_path: Path) -> None:
    told = call(*SMALL, "--models", "sgd", "--seeds", "0-1", "--output_dir", tmp_path / "S", "--dry_run", "--jobs", "2")
    assert told.code == 0, told.err
    assert "2 runs would take about" in told.out and "2 at once; nothing was run" in told.out
    assert "rot-digits-sgd-seed1" in told.out and not (tmp_path / "S").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--models", "er", "--datasets", "rot-digits"), "output_dir: is missing"),
        (("--models", "er", "--datasets", "rot-digits", "--lrr", "1", "--output_dir", "S"), "unknown option 'lrr'"),
        (("nowhere.toml",), "cannot read the study nowhere.toml"),
        (("--models", "er", "--datasets", "rot-digits", "--output_dir", "S", "--jobs", "0"), "from 1 to 10000"),
        (("S", "T"), "unknown argument 'T'"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], told: str) -> None:
    outcome = call("study", *arguments, "--dry_run")
    assert outcome.code == 2
    assert told in outcome.err and outcome.err.count("\n") == 1


def test_two_studies_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    from synergy.disk.locks import locked

    with locked(tmp_path):
        outcome = call("study", "--models", "sgd", "--datasets", "rot-digits", *BRIEF, "--output_dir", tmp_path)
    assert outcome.code == 2 and "another process is working on this study" in outcome.err


STUDY = "--models synergy,er --datasets rot-digits --n_tasks 3 --max_steps_per_task 40 --seeds 0-2 --checkpoint_every 5"


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to kill")
def test_a_study_killed_again_and_again_ends_with_the_same_records(tmp_path: Path) -> None:
    """A kill comes when a few more checkpoints are there, and a moment later: both are drawn from a seed."""
    kills = 20 * max(1, int(os.environ.get("SYNERGY_PATIENCE", "1")))
    rng = np.random.default_rng(0)
    command = [sys.executable, "-m", "synergy.terminal.cli", "study", *STUDY.split(), "--jobs", "2", "--output_dir"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        arguments = [*command, str(tmp_path / folder)]
        return subprocess.Popen(
            arguments, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=environment, start_new_session=True
        )

    def checkpoints() -> set[Path]:
        return set((tmp_path / "killed").glob("*/checkpoint/*"))

    whole = start("whole")
    out, err = whole.communicate()
    assert whole.returncode == 0, err
    done = 0
    while done < kills:
        before, wanted = checkpoints(), int(rng.integers(0, 3))
        process = start("killed")
        while process.poll() is None and len(checkpoints() - before) < wanted:
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0, 0.3)))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        done += 1
    last = start("killed")
    out, err = last.communicate()
    assert last.returncode == 0, out + err
    assert done >= 20, "the study was over too early: make it longer"
    assert outcomes(tmp_path / "killed") == outcomes(tmp_path / "whole")
    assert len(records.read_all(tmp_path / "killed")) == 6


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from synergy.terminal.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_study_on_a_full_disk_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """No file may be larger than a configuration: records do not fit, as on a disk that is full by then."""
    asked = (*SMALL, "--models", "sgd,er", "--output_dir", str(tmp_path / "S"), "--jobs", "2")
    command = [sys.executable, "-c", FULL, "3000", *asked]
    full = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert full.returncode == 1, full.stdout + full.stderr
    assert full.stdout.count("failed: cannot write to ") == 2 and "make room there" in full.stdout
    assert full.stderr == (
        f"synergy: error: 2 of 2 runs failed; try again with: synergy study {tmp_path / 'S'} --retry_failed\n"
    )
    again = call("study", tmp_path / "S", "--jobs", "2")
    assert again.code == 0, again.err
    assert "2 runs, 2 go on" in again.out and "2 of 2 runs finished" in again.out
    assert len(records.read_all(tmp_path / "S")) == 2
