"""One run of a study, from wherever it is to its record, in the process that works on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synergy.disk.locks import locked
from synergy.errors import TrainingError, UsageError
from synergy.runs import records
from synergy.runs.config import CONFIG_NAME
from synergy.runs.listeners import Listener
from synergy.runs.records import Record
from synergy.runs.resume import reopened
from synergy.types import Task

PATIENCE = 20.0
"""Seconds to wait for a process that still holds the run: one whose study was killed ends within a moment."""


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        status: "finished", "failed" or "interrupted".
        error: why it did not finish, in one line; None for a finished run.
        final: final average of its answer, percent; None if there is none.
        wall_s: seconds that the run took, over all processes that worked on it.

    Examples:
        >>> Ended("failed", "the loss became nan").final is None
        True
    """

    status: str
    error: str | None = None
    final: float | None = None
    wall_s: float = 0.0

    @classmethod
    def of(cls, record: Record) -> Ended:
        """What a record says."""
        final = record.answer().metrics.get("final_average") if record.accuracies else None
        return cls(record.status, record.error, final, record.measured.wall_s)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        task, tasks: the task it is in, from 1, and their number.
        done: share of the task's steps that are taken, from 0 to 1.
    """

    task: int
    tasks: int
    done: float


class Reports(Listener):
    """Reports progress.

    Args:
        tasks: of the run.
        progress: is told how far the run is.

    Examples:
        >>> reports = Reports(2, lambda progress: print(progress.done))
        >>> reports.looked(step=1, new_steps=1, losses={})
        1.0
    """

    def __init__(self, tasks: int, progress: Callable[[Progress], None]) -> None:
        self._tasks = tasks
        self._progress = progress
        self._task, self._steps, self._taken = 0, 1, 0

    def task_begins(self, task: Task, steps: int, done: int) -> None:
        self._task, self._steps, self._taken = task.index + 1, max(1, steps), done
        self._tell()

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        self._taken += new_steps
        self._tell()

    def _tell(self) -> None:
        self._progress(Progress(self._task, self._tasks, min(1.0, self._taken / self._steps)))


def go_on(
    folder: Path,
    progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Ended:
    """Finish the run in a folder: begin it, resume it from its newest checkpoint, or see that it is finished.

    A user's mistake and a lack of memory are told as a failed run.
    """
    try:
        with locked(folder / CONFIG_NAME, patience=PATIENCE):
            pass
        with reopened(folder) as run:
            prepared = run.session.prepared
            tasks = prepared.schedule.tasks(prepared.scenario)
            for reason in run.skipped:
                warnings.warn(f"skipped: {reason}", stacklevel=2)
            return Ended.of(run.session.proceed(Reports(tasks, progress), should_stop)[0])
    except (UsageError, TrainingError, OSError) as error:
        return finished(folder) or Ended("failed", str(error))


def finished(folder: Path) -> Ended | None:
    """How the run in a folder ended, if it is finished."""
    try:
        record = records.read(folder)
    except UsageError:
        return None
    return Ended.of(record) if record.status == "finished" else None
