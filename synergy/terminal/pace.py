"""How long a whole run takes, from its first steps, and what would shorten it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from synergy.runs.config import RunConfig

LEAST_STEPS, LEAST_SECONDS = 3, 5.0
"""Steps and seconds of training that an estimate needs."""
WORTH_TELLING, LONG = 60.0, 3600.0
"""Seconds. A shorter run is over before a line would help; a longer one gets advice."""


class Pace:
    """Measures steps and evaluations, and estimates the time of the whole run.

    Args:
        steps: of each task of the run.
        done: steps that were taken before the run was resumed.
        tasks_done: tasks that were evaluated by then.
        clock: in seconds.

    Examples:
        >>> now = iter([0.0, 2.0, 12.0]).__next__
        >>> pace = Pace([100, 100], clock=now)
        >>> pace.evaluated(30.0)
        >>> pace.task_begins()
        >>> pace.looked(1, 1)  # the first steps are slower and do not count
        >>> pace.looked(11, 10)
        >>> pace.seconds_left(), pace.line()
        (249.0, 'time         about 4 min are left: 189 steps of 1.00 s, 2 evaluations of 30 s')
    """

    def __init__(
        self, steps: Sequence[int], done: int = 0, tasks_done: int = 0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._total = sum(steps)
        self._step = done
        self._evaluations = len(steps) - tasks_done
        self._clock = clock
        self._since = 0.0
        self._warm = False
        self._measured_s = 0.0
        self._measured_steps = 0
        self._evaluation_s = 0.0
        self._told: float | None = None
        self._tell_after = LEAST_SECONDS

    def evaluated(self, seconds: float, of_task: bool = False) -> None:
        """An evaluation took so long; the one before the first step belongs to no task."""
        self._evaluation_s = seconds
        self._evaluations -= of_task

    def task_begins(self) -> None:
        """Training goes on from now."""
        self._since = self._clock()

    def looked(self, step: int, new_steps: int) -> None:
        """Step number `step` of the run is done, the last of `new_steps`."""
        now = self._clock()
        if self._warm:
            self._measured_s += now - self._since
            self._measured_steps += new_steps
        self._step, self._since, self._warm = step, now, self._warm or new_steps > 0

    def seconds_left(self) -> float | None:
        """Seconds until the end of the last evaluation; None before the first measurement."""
        if not self._measured_steps:
            return None
        return (self._total - self._step) * self._step_s() + self._evaluations * self._evaluation_s

    def line(self) -> str:
        """A line for the user when there is news: the first estimate, or one that moved by half. Else empty."""
        left = self.seconds_left()
        if left is None or self._measured_s < self._tell_after or self._measured_steps < LEAST_STEPS:
            return ""
        self._tell_after = 2 * self._measured_s
        if left < WORTH_TELLING or (self._told is not None and 2 / 3 < left / self._told < 3 / 2):
            return ""
        self._told = left
        parts = f"{self._total - self._step:,} steps of {_brief(self._step_s())}"
        return f"time         about {duration(left)} are left: {parts}, {self._evaluations} evaluations of " + _brief(
            self._evaluation_s
        )

    def advice(self, config: RunConfig) -> list[str]:
        """What would shorten a run of more than an hour, each with the time that would be left."""
        left = self.seconds_left()
        if left is None or left < LONG:
            return []
        steps_s = (self._total - self._step) * self._step_s()
        other_s = left - steps_s
        options, training = config.net.as_mapping(), config.training
        found = []
        if training.device in ("auto", "cpu"):
            found.append("--device cuda, if there is a GPU, also with --precision bf16 (times in docs/benchmarks.md)")
        width = options.get("width")
        if isinstance(width, int) and width > 1:
            narrow = max(1, width // 4)
            share = (narrow / width) ** 2
            time_left = duration(share * steps_s + other_s)
            found.append(f"--width {narrow}: {share:.0%} of the arithmetic of a step, about {time_left}")
        epochs = training.n_epochs or 1
        if epochs > 1:
            found.append(f"--n_epochs 1: about {duration(steps_s / epochs + other_s)}")
        if self._evaluations > 1:
            found.append(f"--max_tasks 1: about {duration(left / self._evaluations)}")
        return [f"{'shorter' if not number else '':<13}{text}" for number, text in enumerate(found)]

    def _step_s(self) -> float:
        return self._measured_s / self._measured_steps


def duration(seconds: float) -> str:
    """Seconds in the unit that fits.

    Examples:
        >>> duration(42), duration(250), duration(8000), duration(200_000)
        ('42 s', '4 min', '2.2 h', '2.3 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * LONG:
        return f"{seconds / 60:.0f} min"
    hours = seconds / LONG
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _brief(seconds: float) -> str:
    if seconds < 0.1:
        return f"{1000 * seconds:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
