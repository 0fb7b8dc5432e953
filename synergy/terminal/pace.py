"""How long a whole run takes, from its first steps, and what would shorten it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from synergy.errors import counted
from synergy.runs.config import RunConfig

LEAST_STEPS, LEAST_SECONDS = 3, 5.0
"""Steps and seconds of training that an estimate needs."""
WORTH_TELLING, LONG = 60.0, 3600.0
"""Seconds. A shorter run is over before a line would help; a longer one gets advice."""

RESNET, FULL_WIDTH, NARROW = "resnet18", 64, 16
"""The network, and its widths, for which docs/benchmarks.md has the figures below."""
STEP_S_ON_H100 = 0.0313
"""Seconds of a SYNERgy step in fp32 on an H100, without a Fisher pass."""
TIMES_BF16 = (1.4, 2.0)
"""How many times as fast as fp32 a step is on a processor with bfloat16 instructions: the least, the most."""
TIMES_NARROW = 11.0
"""How many times as fast a step of width 16 is as one of width 64, on a processor."""


class Pace:
    """Measures steps and evaluations, and estimates the time of the whole run.

    Args:
        steps: of each task of the run.
        done: steps that were taken before the run was resumed.
        evaluations: that are still to come, of the untrained network and after tasks.
        clock: in seconds.

    Examples:
        >>> now = iter([0.0, 2.0, 12.0]).__next__
        >>> pace = Pace([100, 100], evaluations=3, clock=now)
        >>> pace.task_begins()
        >>> pace.looked(1, 1)  # the first steps are slower and do not count
        >>> pace.looked(11, 10)
        >>> pace.line()
        'time         about 3 min are left: 189 steps of 1.00 s; 3 evaluations come on top'
        >>> pace.evaluated(30.0)
        >>> pace.seconds_left()
        249.0
    """

    def __init__(
        self,
        steps: Sequence[int],
        done: int = 0,
        *,
        evaluations: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._total = sum(steps)
        self._first_task = steps[0]
        self._step = done
        self._evaluations = evaluations
        self._clock = clock
        self._since = 0.0
        self._warm = False
        self._measured_s = 0.0
        self._measured_steps = 0
        self._evaluation_s: float | None = None
        self._told: float | None = None
        self._tell_after = LEAST_SECONDS

    def evaluated(self, seconds: float) -> None:
        """An evaluation took so long."""
        self._evaluation_s = seconds
        self._evaluations -= 1

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
        """Seconds until the end of the run; None before the first measurement. Evaluations count once one was seen."""
        if not self._measured_steps:
            return None
        return self._steps_left() * self._step_s() + self._evaluations * (self._evaluation_s or 0.0)

    def line(self) -> str:
        """A line for the user when there is news: the first estimate, or one that moved by half. Else empty."""
        left = self.seconds_left()
        if left is None or self._measured_s < self._tell_after or self._measured_steps < LEAST_STEPS:
            return ""
        self._tell_after = 2 * self._measured_s
        if left < WORTH_TELLING or (self._told is not None and 2 / 3 < left / self._told < 3 / 2):
            return ""
        self._told = left
        steps = f"{self._steps_left():,} steps of {_brief(self._step_s())}"
        evaluations = counted(self._evaluations, "evaluation")
        seen = self._evaluation_s is not None
        cost = f", {evaluations} of {_brief(self._evaluation_s or 0)}" if seen else f"; {evaluations} come on top"
        return f"time         about {duration(left)} are left: {steps}{cost}"

    def advice(self, config: RunConfig) -> list[str]:
        """What would shorten a run of more than an hour, each with the time that the steps of such a run would take."""
        left = self.seconds_left()
        if left is None or left < LONG:
            return []
        training, whole = config.training, self._total * self._step_s()
        width = config.net.as_mapping().get("width") if config.net_name == RESNET else None
        found = []
        slow = training.device in ("auto", "cpu")  # the figures of other networks and precisions are of a processor
        if slow:
            found.append("--device cuda, if there is a GPU" + (self._on_a_gpu() if width == FULL_WIDTH else ""))
        if slow and width is not None and training.precision in (None, "fp32"):
            shortest, longest = (duration(whole / times) for times in reversed(TIMES_BF16))
            found.append(f"--precision bf16: about {shortest} to {longest}, if the processor has bfloat16 instructions")
        if slow and width == FULL_WIDTH:
            found.append(f"--width {NARROW}: about {duration(whole / TIMES_NARROW)}, with a smaller network")
        if (epochs := training.n_epochs or 1) > 1 and training.max_steps_per_task is None:
            found.append(f"--n_epochs 1: about {duration(whole / epochs)}")
        if self._first_task < self._total:
            found.append(f"--max_tasks 1: about {duration(self._first_task * self._step_s())}")
        return [f"{'shorter' if not number else '':<13}{text}" for number, text in enumerate(found)]

    def _on_a_gpu(self) -> str:
        """What the same number of steps took on a GPU."""
        seconds = self._total * STEP_S_ON_H100
        return f": an H100 took {1e3 * STEP_S_ON_H100:.0f} ms for a step of SYNERgy, {duration(seconds)} for so many"

    def _steps_left(self) -> int:
        return self._total - self._step

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
