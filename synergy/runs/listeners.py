"""Who is told how a run goes: the interface of progress bars, event logs and trackers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # options are read without torch
    from synergy.runs.evaluate import Evaluations
    from synergy.runs.records import Record
    from synergy.types import Task


class Listener:
    """Is told how a run goes. By default it does nothing; a progress bar or an event log overrides what it needs.

    Examples:
        >>> class Steps(Listener):
        ...     def looked(self, step, new_steps, losses):
        ...         self.latest = step
        >>> steps = Steps()
        >>> steps.looked(20, 20, {"loss": 0.5})
        >>> steps.latest
        20
    """

    def task_begins(self, task: Task, steps: int, done: int) -> None:
        """`steps` is how many the task will take; `done` how many of them it took before the run was resumed."""

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        """The losses of step `step` (from 1 over the run), the latest of `new_steps` since the last look."""

    def evaluated(self, seconds: float, of_task: bool) -> None:
        """An evaluation took this long: after a task, or of the untrained network."""

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        """The method was evaluated after task `index`."""

    def saving(self) -> None:
        """A checkpoint is about to be written: what was told so far will not be told again."""

    def recorded(self, record: Record) -> None:
        """The run has ended and left its record."""

    def close(self) -> None:
        """The run is over, however it ended."""


class Listeners(Listener):
    """Several listeners as one.

    Examples:
        >>> Listeners(Listener(), Listener()).looked(1, 1, {"loss": 0.5})
    """

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def task_begins(self, task: Task, steps: int, done: int) -> None:
        for listener in self._listeners:
            listener.task_begins(task, steps, done)

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        for listener in self._listeners:
            listener.looked(step, new_steps, losses)

    def evaluated(self, seconds: float, of_task: bool) -> None:
        for listener in self._listeners:
            listener.evaluated(seconds, of_task)

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        for listener in self._listeners:
            listener.task_ended(index, evaluations)

    def saving(self) -> None:
        for listener in self._listeners:
            listener.saving()

    def recorded(self, record: Record) -> None:
        for listener in self._listeners:
            listener.recorded(record)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
