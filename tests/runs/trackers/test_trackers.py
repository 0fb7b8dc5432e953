"""Trackers by name, by file and by entry point; what they are told; a run that goes on without one that fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from synergy.errors import UsageError
from synergy.runs import records
from synergy.runs.config import build
from synergy.runs.config_file import read_config
from synergy.runs.prepare import prepare
from synergy.runs.resume import resume
from synergy.runs.session import execute
from tests.commands import run

OWN = """
from pathlib import Path
from synergy import Tracker

class Noted(Tracker):
    def __init__(self, run):
        super().__init__(run)
        self.note(f"begins {run.name} after {run.steps} steps, lr {run.config['method']['lr']}")
    def note(self, text):
        with (self.run.folder / "notes.txt").open("a") as file:
            file.write(text + "\\n")
    def task_ended(self, index, evaluations):
        self.note(f"task {index + 1}: {', '.join(f'{protocol} {name}' for name, protocol in evaluations)}")
    def recorded(self, record):
        self.note(f"{record.status}, {(self.run.folder / 'record.json').exists()}")
    def close(self):
        self.note("closed")

class Broken(Tracker):
    def looked(self, step, new_steps, losses):
        raise OSError(28, "No space left on device")

class BrokenAtOnce(Tracker):
    def __init__(self, run):
        raise RuntimeError("no such\\nserver")

class Other:
    pass
"""
SMALL = ("--n_tasks", "2", "--max_steps_per_task", "4", "--experiment_id", "one")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_a_tracker_of_ones_own_is_told_all(tmp_path: Path, own: Path) -> None:
    done = run(tmp_path / "runs", "rot-digits", "sgd", *SMALL, "--log", f"{own}:Noted", "--lr", "0.25")
    assert done.code == 0 and done.err == "", done.err
    assert (tmp_path / "runs/one/notes.txt").read_text().splitlines() == [
        "begins one after 0 steps, lr 0.25",
        "task 1: domain-IL working",
        "task 2: domain-IL working",
        "finished, True",
        "closed",
    ]


def test_a_resumed_run_says_where_it_goes_on(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from another folder: the configuration holds the whole path."""
    monkeypatch.chdir(tmp_path)
    options = {"n_tasks": 2, "max_steps_per_task": 4, "checkpoint_every": 3, "log": ("own.py:Noted",)}
    config = build("rot-digits", "sgd", options | {"output_dir": "runs", "experiment_id": "one"})
    count = iter(range(100))
    record, _ = execute(prepare(config), None, lambda: next(count) >= 6)
    assert record.status == "interrupted"
    assert read_config(tmp_path / "runs/one").output.log == (f"{own}:Noted",)
    monkeypatch.chdir("/")
    assert resume(tmp_path / "runs/one")[0].status == "finished"
    notes = (tmp_path / "runs/one/notes.txt").read_text().splitlines()
    assert notes[notes.index("interrupted, True") : notes.index("interrupted, True") + 3] == [
        "interrupted, True",
        "closed",
        f"begins one after {record.steps} steps, lr 0.1",
    ]
    assert notes[-2:] == ["finished, True", "closed"]


@pytest.mark.filterwarnings("always:no more logging")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Broken", "OSError: [Errno 28] No space left on device"),
        ("BrokenAtOnce", "RuntimeError: no such server"),
    ],
)
def test_a_tracker_that_fails_is_one_warning_and_the_run_is_the_same(
    tmp_path: Path, own: Path, name: str, says: str
) -> None:
    done = run(tmp_path / "runs", "rot-digits", "sgd", *SMALL, "--log", f"{own}:{name},{own}:Noted")
    assert done.code == 0
    assert done.err == f"synergy: warning: no more logging to {own}:{name}: {says}; training goes on\n"
    assert (tmp_path / "runs/one/notes.txt").read_text().endswith("finished, True\nclosed\n")
    assert run(tmp_path / "plain", "rot-digits", "sgd", *SMALL).code == 0
    with_it, without = (records.read(tmp_path / folder / "one") for folder in ("runs", "plain"))
    assert (with_it.accuracies, with_it.final_losses) == (without.accuracies, without.final_losses)


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("mlfow", "unknown tracker 'mlfow'; did you mean 'mlflow'? allowed: file.py:Class, mlflow, tensorboard, wandb"),
        ("{own}:Nothing", "unknown tracker in {own} 'Nothing'"),
        ("{own}:Other", "tracker {own}:Other: is another class; allowed: a class derived from Tracker"),
        ("missing.py:Noted", "cannot read the file"),
    ],
)
def test_a_tracker_that_does_not_exist_is_told_before_anything_is_written(
    tmp_path: Path, own: Path, log: str, says: str
) -> None:
    done = run(tmp_path / "runs", "rot-digits", "sgd", *SMALL, "--log", log.format(own=own))
    assert done.code == 2 and says.format(own=own) in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_library_that_is_missing_is_told_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    config = build("rot-digits", "sgd", {"log": (name,), "output_dir": str(tmp_path / "runs")})
    with pytest.raises(UsageError, match=rf"--log {name} needs {name}; .*pip install 'synergy-cl\[{name}\]'"):
        prepare(config)
    assert not (tmp_path / "runs").exists()


def test_the_old_option_is_the_same_tracker(tmp_path: Path) -> None:
    config = build("rot-digits", "sgd", {"tensorboard": True, "log": ("tensorboard", "tensorboard")})
    assert config.output.log == ("tensorboard",) and config.output.trackers() == ("tensorboard",)
    assert build("rot-digits", "sgd", {"tensorboard": True}).output.trackers() == ("tensorboard",)
    assert build("rot-digits", "sgd", {}).output.trackers() == ()


ENTRY = """
import sys
from synergy.terminal.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_an_installed_package_adds_a_tracker(tmp_path: Path, own: Path) -> None:
    info = tmp_path / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[synergy.trackers]\nnoted = own:Noted\n")
    command = ["run", "--dataset", "rot-digits", "--model", "sgd", *SMALL, "--log", "noted", "--output_dir", "runs"]
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, *command],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{root}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "finished, True" in (tmp_path / "runs/one/notes.txt").read_text()


UNASKED = """
import sys
from synergy.runs.config import build
from synergy.runs.session import run
run(build("rot-digits", "sgd", {"max_tasks": 1, "max_steps_per_task": 2}))
assert not {"mlflow", "wandb", "tensorboard"} & sys.modules.keys()
"""


@pytest.mark.slow
def test_no_tracker_is_imported_unless_it_is_asked_for(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", UNASKED]
    environment = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
