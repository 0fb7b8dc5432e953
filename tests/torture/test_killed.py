"""Real processes, really killed, on disks that really refuse to take more: the result is the same, bit by bit."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from synergy.disk import checkpoint
from synergy.runs import records
from synergy.state import State, same
from synergy.terminal import cli
from tests.torture.killer import RUN, is_writing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.torture,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows neither forks nor limits the size of files"),
]

PATIENCE = int(os.environ.get("SYNERGY_PATIENCE", "1"))
ROOT = Path(__file__).parent.parent.parent
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
"""As all runs here: with another number of threads, sums have other last bits."""


def last(run: Path) -> State:
    """The last checkpoint of a run, but for the times it took."""
    newest = max(path for path in (run / "checkpoint").iterdir() if not path.name.startswith("."))
    state = checkpoint.read(newest)["training"]
    return {name: value for name, value in state.items() if name not in ("train_s", "evaluate_s")}


def outcome(run: Path) -> dict[str, Any]:
    content = records.read(run).outcome()
    content["config"]["output"].pop("output_dir")
    return content


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody killed, in this process."""
    folder = tmp_path_factory.mktemp("whole")
    with redirect_stdout(io.StringIO()):
        assert cli.main([*RUN, "--output_dir", str(folder)]) == 0
    return folder / "it"


@pytest.fixture(scope="module")
def tortured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """Runs that were killed, one that was not, and the counts."""
    folder = tmp_path_factory.mktemp("tortured")
    arguments = [sys.executable, "-m", "tests.torture.killer", str(folder), str(3 * PATIENCE)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_runs_killed_at_any_moment_end_as_one_that_was_not(tortured: tuple[Path, dict[str, int]]) -> None:
    folder, counts = tortured
    assert counts["kills"] >= counts["runs"]
    assert counts["in_writing"] > 0
    for number in range(counts["runs"]):
        run = folder / str(number) / "it"
        assert outcome(run) == outcome(folder / "whole" / "it")
        assert same(last(run), last(folder / "whole" / "it"))
        # Nothing half-written is left, and the run is in the table once.
        assert sorted(path.name for path in run.iterdir()) == ["checkpoint", "config.toml", "record.json"]
        assert len(list((run / "checkpoint").iterdir())) == 2
        assert records.read_all(run.parent) == [records.read(run)]


def synergy(*arguments: object) -> subprocess.Popen[str]:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "synergy.terminal.cli", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=ONE_THREAD)


def test_the_command_line_killed_in_the_middle_of_a_write(tmp_path: Path, whole: Path) -> None:
    process = synergy(*RUN, "--output_dir", tmp_path)
    while not (is_writing(tmp_path) and any((tmp_path / "it" / "checkpoint").glob("step-0000000?-*"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "it" / "record.json").exists()
    out, err = (resumed := synergy("resume", tmp_path / "it")).communicate()
    assert (resumed.returncode, err) == (0, "")
    assert "goes on after step " in out
    assert outcome(tmp_path / "it") == outcome(whole)
    assert same(last(tmp_path / "it"), last(whole))


LIMITED = """
import resource, signal, sys
from synergy.terminal.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (180_000, 180_000))
sys.exit(main(sys.argv[1:]))
"""
"""Two networks fit into a file of this size; two and the Fisher information do not."""


def test_a_disk_that_takes_no_more(tmp_path: Path, whole: Path) -> None:
    command = [sys.executable, "-c", LIMITED, *RUN, "--output_dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert told
    for line in told:
        assert line.startswith("synergy: warning: no checkpoint after step ")
        assert line.endswith("/it/checkpoint': File too large; training goes on")
    run = tmp_path / "it"
    assert outcome(run) == outcome(whole)
    assert last(run)["method"]["fisher"] is None
    # The last good one is of just before the first that failed.
    assert f"after step {last(run)['steps'] + 1}:" in told[0]
