"""Events are written once, whatever kills a run, and a disk that takes no more of them does not end it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

from synergy.disk.series import Series
from synergy.runs import records
from synergy.runs.config import build
from synergy.runs.prepare import prepare
from synergy.runs.resume import resume
from synergy.runs.session import execute
from synergy.runs.trackers.base import TrackedRun
from synergy.runs.trackers.tensorboard_log import TensorBoard
from synergy.state import State
from tests.disk.test_files import posix


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By tag, as TensorBoard reads them."""
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("task", [1, 2])
@pytest.mark.parametrize("every", [3, 4])
def test_a_run_killed_at_the_end_of_a_task_tells_its_accuracies_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: int, every: int
) -> None:
    """With a checkpoint before the last step of the task, and with one just there."""
    add = Series.add

    def killed(self: Series, state: State, *, step: int, task: int) -> None:
        if task == died_after:
            raise KeyboardInterrupt
        add(self, state, step=step, task=task)

    died_after = task
    options = {"n_tasks": 3, "max_steps_per_task": 6, "checkpoint_every": every, "tensorboard": True}
    config = build("rot-digits", "synergy", options | {"buffer_size": 40, "output_dir": str(tmp_path)})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Series, "add", killed)
        execute(prepare(config))
    (run,) = tmp_path.iterdir()
    killed_with = scalars(run / "tensorboard")
    assert [step for step, _ in killed_with["accuracy/domain-IL/semantic"]] == list(range(1, task + 1))
    record, _ = resume(run)
    found = scalars(run / "tensorboard")
    for each in record.accuracies:
        averages = [sum(value or 0 for value in row[: t + 1]) / (t + 1) for t, row in enumerate(each.matrix)]
        expected: list[tuple[int, object]] = [(t + 1, pytest.approx(average)) for t, average in enumerate(averages)]
        assert found[f"accuracy/domain-IL/{each.predictor}"] == expected
    steps = [step for step, _ in found["loss/loss"]]
    assert steps == sorted(set(steps)) and steps[-1] == 18


def test_a_torn_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    first = TensorBoard(TrackedRun(tmp_path, {}, steps=0))
    for step in range(1, 6):
        first.looked(step, 1, {"loss": 0.5})
    first.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    second = TensorBoard(TrackedRun(tmp_path, {}, steps=3))
    for step in range(3, 6):
        second.looked(step, 1, {"loss": 0.25})
    second.close()
    assert scalars(tmp_path / "tensorboard") == {"loss/loss": [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25), (5, 0.25)]}


def test_files_are_read_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    for number in range(12):
        log = TensorBoard(TrackedRun(tmp_path, {}, steps=number))
        log.looked(number + 1, 1, {"loss": float(number)})
        log.close()
    assert scalars(tmp_path / "tensorboard") == {"loss/loss": [(number + 1, float(number)) for number in range(12)]}


LIMITED = """
import resource, signal, sys
from pathlib import Path
from synergy.runs.evaluate import Evaluation
from synergy.runs.trackers.base import Guarded, TrackedRun
from synergy.runs.trackers.tensorboard_log import TensorBoard
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = Guarded("tensorboard", TensorBoard, TrackedRun(Path(sys.argv[1]), {}, steps=0))
for step in range(1, 100):
    log.looked(step, 1, {"loss": 1.0})
    if step % 10 == 0:
        log.task_ended(step // 10, {("a", "general"): Evaluation((50.0,), {}, None)})
log.saving()
log.close()
print("went on")
"""


@posix
def test_a_full_disk_is_one_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert done.stderr.count("UserWarning: no more logging to tensorboard: OSError: ") == 1
    assert "Traceback" not in done.stderr and "File too large; training goes on" in done.stderr
    assert 5 < len(scalars(tmp_path / "tensorboard")["loss/loss"]) < 30


def test_a_folder_that_cannot_be_made_does_not_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("synergy.runs.trackers.tensorboard_log._EventFile", full)
    options = {"n_tasks": 1, "max_steps_per_task": 2, "tensorboard": True, "output_dir": str(tmp_path)}
    config = build("rot-digits", "sgd", options)
    with pytest.warns(UserWarning, match="no more logging to tensorboard: .*No space left on device; training goes on"):
        record, run = execute(prepare(config))
    assert record.status == "finished" and records.read(run) == record
