"""One run of a study, from wherever it is to its record, in the process that works on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from synergy.disk.locks import locked
from synergy.errors import TrainingError, UsageError
from synergy.runs import records
from synergy.runs.config import CONFIG_NAME
from synergy.runs.evaluate import Evaluations
from synergy.runs.listeners import Listener
from synergy.runs.metrics import average_after
from synergy.runs.records import Record
from synergy.runs.resume import reopened
from synergy.types import Task

PATIENCE = 20.0
"""Seconds to wait for a process that still holds the run: one whose study was killed ends within a moment."""


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        status: "finished", "failed" or "interrupted"; "pruned" for a run that its search stopped.
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


@dataclass(frozen=True)
class Evaluated:
    """What a run knows after some of its tasks.

    Attributes:
        averages: of its answer after each task so far, over the tasks learned by then, percent.
        tasks: of the whole run.

    Examples:
        >>> Evaluated((98.0, 85.5), tasks=5).averages[-1]
        85.5
    """

    averages: tuple[float, ...]
    tasks: int


class Reports(Listener):
    """Reports progress.

    Args:
        tasks: of the run.
        tell: is told how far the run is, and what it knows after each task.
        before: the evaluations of the tasks that are learned already.

    Examples:
        >>> reports = Reports(2, lambda news: print(news.done))
        >>> reports.looked(step=1, new_steps=1, losses={})
        1.0
    """

    def __init__(
        self, tasks: int, tell: Callable[[Progress | Evaluated], None], before: Sequence[Evaluations] = ()
    ) -> None:
        self._tasks = tasks
        self._tell_of = tell
        self._rows = [_answer(each) for each in before]
        self._task, self._steps, self._taken = 0, 1, 0
        if before:
            self._tell_averages()

    def task_begins(self, task: Task, steps: int, done: int) -> None:
        self._task, self._steps, self._taken = task.index + 1, max(1, steps), done
        self._tell()

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        self._taken += new_steps
        self._tell()

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        self._rows.append(_answer(evaluations))
        self._tell_averages()

    def _tell(self) -> None:
        self._tell_of(Progress(self._task, self._tasks, min(1.0, self._taken / self._steps)))

    def _tell_averages(self) -> None:
        self._tell_of(Evaluated(averages(self._rows), self._tasks))


def averages(matrix: Sequence[Sequence[float | None]]) -> tuple[float, ...]:
    """Average accuracy after each task over the tasks learned by then, percent; 0 where there is none.

    >>> averages([[90.0, 10.0], [80.0, 70.0]])
    (90.0, 75.0)
    """
    return tuple(average_after(matrix, task) or 0.0 for task in range(len(matrix)))


def _answer(evaluations: Evaluations) -> tuple[float, ...]:
    """The accuracies of the recommended predictor under the first protocol."""
    return tuple(next(iter(evaluations.values())).accuracies)


def go_on(
    folder: Path,
    tell: Callable[[Progress | Evaluated], None] = lambda news: None,
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
            reports = Reports(tasks, tell, run.session.training.evaluations)
            return Ended.of(run.session.proceed(reports, should_stop)[0])
    except (UsageError, TrainingError, OSError) as error:
        return finished(folder) or Ended("failed", str(error))


def finished(folder: Path) -> Ended | None:
    """How the run in a folder ended, if it is finished."""
    try:
        record = records.read(folder)
    except UsageError:
        return None
    return Ended.of(record) if record.status == "finished" else None
