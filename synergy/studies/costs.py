"""What runs would cost, from a few steps that are really made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from synergy.device import exactness, memory_errors
from synergy.runs.config import RunConfig
from synergy.runs.prepare import prepare
from synergy.runs.training import Stopped, Training
from synergy.studies.grid import PlannedRun

MOST_SECONDS, MOST_STEPS = 2.0, 100
"""A measurement ends with the first of them."""


@dataclass(frozen=True)
class Cost:
    """What a run would take.

    Attributes:
        steps: of the whole run.
        seconds: for them and the evaluations, on this machine. What a method does at the end of a task is left out.

    Examples:
        >>> Cost(steps=1000, seconds=2.0).steps
        1000
    """

    steps: int
    seconds: float


def measured(config: RunConfig) -> Cost:
    """The cost of a run, from its first steps and its first evaluation. Nothing is written.

    Raises:
        UsageError: the run cannot be prepared.
        TrainingError: a loss is not finite, or memory ran out.
    """
    prepared = prepare(config)
    schedule, scenario = prepared.schedule, prepared.scenario
    until = time.perf_counter() + MOST_SECONDS
    training = Training(prepared.worker, scenario, schedule, seed=config.training.seed)
    training.should_stop = lambda: training.steps >= MOST_STEPS or (time.perf_counter() > until and training.steps > 1)
    try:
        with exactness(prepared.worker.means.precision), memory_errors():
            training.run()
    except Stopped:
        pass
    tasks = schedule.tasks(scenario)
    steps = sum(schedule.steps(scenario.task(index)) for index in range(tasks))
    evaluations = 1 + len(training.evaluations)
    each = training.evaluate_s / evaluations * max(1, len(prepared.worker.predictors()))
    return Cost(steps, steps * training.train_s / max(1, training.steps) + (1 + tasks) * each)


def estimated(runs: Sequence[PlannedRun]) -> list[Cost]:
    """The cost of each run; runs that differ in the seed alone are measured once."""
    known: dict[str, Cost] = {}
    costs = []
    for run in runs:
        key = repr({name: value for name, value in run.differs.items() if name != "seed"})
        if key not in known:
            known[key] = measured(run.config)
        costs.append(known[key])
    return costs
