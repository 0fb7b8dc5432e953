"""What a tracker is, what it is told, and how a run goes on without one that fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synergy.errors import PYTHON_ERRORS, UsageError
from synergy.runs.listeners import Listener

if TYPE_CHECKING:  # names of trackers are checked without torch
    from synergy.runs.evaluate import Evaluations
    from synergy.runs.records import Record
    from synergy.types import Task


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker logs.

    Attributes:
        folder: of the run. A tracker may keep a file there, such as the name of the run at its server, so that a
            resumed run goes on in the same place.
        config: the complete configuration, nested as in `config.toml`.
        steps: that were taken already, when a run is resumed; 0 for a new run.

    Examples:
        >>> TrackedRun(Path("runs/first"), {"training": {"seed": 0}}, steps=0).name
        'first'
    """

    folder: Path
    config: Mapping[str, Any]
    steps: int

    @property
    def name(self) -> str:
        """Of the run, which is that of its folder."""
        return self.folder.name


class Tracker(Listener):
    """Logs a run to a place outside its folder. Derive from it, and override what you need of `Listener`.

    Whatever a tracker raises ends its own work with one warning; the run goes on. What it is told between the last
    checkpoint and a kill it is told again when the run is resumed, with the same values.

    Args:
        run: what is logged.

    Examples:
        >>> class Printed(Tracker):
        ...     def task_ended(self, index, evaluations):
        ...         print(self.run.name, curves(index, evaluations))
        >>> from synergy.runs.evaluate import Evaluation
        >>> tracker = Printed(TrackedRun(Path("runs/first"), {}, steps=0))
        >>> tracker.task_ended(0, {("working", "class-IL"): Evaluation((90.0, 10.0), {}, None)})
        first {'accuracy/class-IL/working': 90.0, 'accuracy_on_task/class-IL/working/1': 90.0}
    """

    def __init__(self, run: TrackedRun) -> None:
        self.run = run

    @classmethod
    def check(cls) -> None:
        """Called before anything is written. Raises UsageError if the tracker cannot work, as without its library."""

    @classmethod
    def failures(cls) -> tuple[type[Exception], ...]:
        """Errors of its library that are not among Python's own. They end the tracker, not the run."""
        return ()


class Guarded(Listener):
    """A tracker that may fail: the first error ends it with a warning.

    Args:
        name: of the tracker, for the warning.
        kind: its class.
        run: what is logged.

    Examples:
        >>> class Broken(Tracker):
        ...     def saving(self):
        ...         raise OSError("the server is gone")
        >>> guarded = Guarded("mine", Broken, TrackedRun(Path("runs/first"), {}, steps=0))
        >>> with warnings.catch_warnings(record=True) as told:
        ...     warnings.simplefilter("always")
        ...     guarded.saving(), guarded.saving()
        (None, None)
        >>> [str(each.message) for each in told]
        ['no more logging to mine: OSError: the server is gone; training goes on']
    """

    def __init__(self, name: str, kind: type[Tracker], run: TrackedRun) -> None:
        self._name = name
        self._failures = (*PYTHON_ERRORS, *kind.failures())
        self._tracker: Tracker | None = None
        try:
            self._tracker = kind(run)
        except self._failures as error:
            self._give_up(error)

    def _tell(self, told: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            told(self._tracker)
        except self._failures as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        # Not closed: to close is to write once more where nothing can be written.
        self._tracker = None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        warnings.warn(f"no more logging to {self._name}: {reason}; training goes on", stacklevel=2)

    def task_begins(self, task: Task, steps: int, done: int) -> None:
        self._tell(lambda tracker: tracker.task_begins(task, steps, done))

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        self._tell(lambda tracker: tracker.looked(step, new_steps, losses))

    def evaluated(self, seconds: float, of_task: bool) -> None:
        self._tell(lambda tracker: tracker.evaluated(seconds, of_task))

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        self._tell(lambda tracker: tracker.task_ended(index, evaluations))

    def saving(self) -> None:
        self._tell(lambda tracker: tracker.saving())

    def recorded(self, record: Record) -> None:
        self._tell(lambda tracker: tracker.recorded(record))

    def close(self) -> None:
        self._tell(lambda tracker: tracker.close())


def require(tracker: str, library: str) -> None:
    """Raises UsageError, which names the extra, if the library of one of our trackers is not installed."""
    try:
        import_module(library)
    except ImportError as error:
        reason = f"--log {tracker} needs {library}; install it with: pip install 'synergy-cl[{tracker}]'"
        raise UsageError(reason) from error


def curves(index: int, evaluations: Evaluations) -> dict[str, float]:
    """What is drawn after task `index`: the average over the tasks seen, and the accuracy on each of them, in percent.

    Keys are `accuracy/<protocol>/<predictor>` and `accuracy_on_task/<protocol>/<predictor>/<task>`, tasks from 1.
    """
    found: dict[str, float] = {}
    for (predictor, protocol), evaluation in evaluations.items():
        seen = evaluation.accuracies[: index + 1]
        found[f"accuracy/{protocol}/{predictor}"] = sum(seen) / len(seen)
        found |= {f"accuracy_on_task/{protocol}/{predictor}/{task}": each for task, each in enumerate(seen, 1)}
    return found


def results(record: Record) -> tuple[list[str], list[list[str | float | None]]]:
    """The final table of a run: the columns, and a row for each predictor and protocol."""
    names = list(dict.fromkeys(name for each in record.accuracies for name in each.metrics))
    columns = ["predictor", "protocol", *names, "calibration_error"]
    rows: list[list[str | float | None]] = [
        [each.predictor, each.protocol, *(each.metrics.get(name) for name in names), each.calibration_error]
        for each in record.accuracies
    ]
    return columns, rows


def final_numbers(record: Record) -> dict[str, float]:
    """The final table as single numbers: `final/<protocol>/<predictor>/<metric>`."""
    numbers = {
        f"final/{each.protocol}/{each.predictor}/{name}": value
        for each in record.accuracies
        for name, value in each.metrics.items()
    }
    return numbers | {"final/wall_s": record.measured.wall_s, "final/peak_memory_mb": record.measured.peak_memory_mb}


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The options of a nested configuration by their full names, such as `method.lr`.

    >>> dict(flat({"method": {"name": "er", "lr": 0.1}}))
    {'method.name': 'er', 'method.lr': 0.1}
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def markdown(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as Markdown; what is None is left empty."""
    lines = [[str(column) for column in columns]]
    lines += [
        ["" if cell is None else f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row]
        for row in rows
    ]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
