"""What runs would cost, from a few steps that are really made, in processes like those of a study."""

from __future__ import annotations

import heapq
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from synergy.device import exactness, keep_freed_memory, memory_errors
from synergy.errors import UsageError
from synergy.methods.base import Answer
from synergy.runs.config_file import read_config
from synergy.runs.evaluate import evaluate
from synergy.runs.folder import new_folder
from synergy.runs.prepare import Prepared, prepare
from synergy.runs.session import Session
from synergy.runs.training import Stopped, Training
from synergy.studies.grid import PlannedRun, identity
from synergy.studies.warm import warm_up

MOST_SECONDS, MOST_STEPS = 2.0, 100
"""A measurement of steps ends with the first of them."""
MOST_SAMPLES = 2000
"""A measurement of an evaluation ends with the test split that reaches them."""


@dataclass(frozen=True)
class Cost:
    """What a run would take, on this machine.

    Attributes:
        steps: of the whole run.
        seconds: for its process, data and network, steps, evaluations and checkpoints. What a method does at the end of
            a task, or only when it is asked for an answer, is left out.

    Examples:
        >>> Cost(steps=1000, seconds=2.0).steps
        1000
    """

    steps: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What the runs of a study would take.

    Attributes:
        start_s: seconds until the first run can begin.
        runs: the cost of each run, in the order in which they begin.

    Examples:
        >>> Estimate(1.0, (Cost(10, 2.0), Cost(10, 2.0), Cost(10, 2.0))).seconds(places=2)
        5.0
    """

    start_s: float
    runs: tuple[Cost, ...]

    def seconds(self, places: int) -> float:
        """Until the last run has ended, with so many at once: each takes the place that is free first."""
        free = [self.start_s] * places
        for cost in self.runs:
            heapq.heapreplace(free, free[0] + cost.seconds)
        return max(free)


def estimated(runs: Sequence[PlannedRun], places: int) -> Estimate:
    """What the runs would take, as many at once as in the study. Runs that differ in the seed alone are measured once.

    Raises:
        UsageError: a run cannot be prepared, or a process was killed.
        TrainingError: a loss is not finite, or memory ran out.
    """
    kinds = {_kind(run): run.config for run in runs}
    began = time.perf_counter()
    warm_up()
    context = get_context("spawn" if sys.platform == "win32" else "forkserver")
    with TemporaryDirectory() as temporary:
        folders = [new_folder(Path(temporary), config) for config in kinds.values()]
        pool = ProcessPoolExecutor(max(1, min(places, len(kinds))), context, _begin, max_tasks_per_child=1)
        try:
            pool.submit(_nothing).result()
            start_s = time.perf_counter() - began
            pool.submit(_nothing).result()
            process_s = time.perf_counter() - began - start_s
            found = dict(zip(kinds, pool.map(measured, folders), strict=True))
        except BrokenProcessPool as error:
            raise UsageError("a process that measured steps was ended; is there too little memory?") from error
        finally:
            pool.shutdown(cancel_futures=True)
    costs = [found[_kind(run)] for run in runs]
    return Estimate(start_s, tuple(Cost(cost.steps, process_s + cost.seconds) for cost in costs))


def _kind(run: PlannedRun) -> str:
    """What makes two runs cost the same: all options but the seed."""
    return identity(replace(run.config, training=replace(run.config.training, seed=0)))


def _begin() -> None:
    """What a process of a study does before its run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    keep_freed_memory()


def _nothing() -> None:
    pass


def measured(folder: Path) -> Cost:
    """The cost of a run without that of its process, from its first steps, an evaluation and a checkpoint.

    Args:
        folder: with the configuration of the run; the checkpoint is written there.

    Raises:
        UsageError: the run cannot be prepared.
        TrainingError: a loss is not finite, or memory ran out.
    """
    began = time.perf_counter()
    prepared = prepare(read_config(folder))
    prepare_s = time.perf_counter() - began
    training = Session(prepared, folder).training
    step_s = _step_s(training)
    schedule, scenario = prepared.schedule, prepared.scenario
    steps = sum(schedule.steps(scenario.task(index)) for index in range(schedule.tasks(scenario)))
    return Cost(steps, prepare_s + steps * step_s + _evaluate_s(prepared, training) + _save_s(training, steps))


def _step_s(training: Training) -> float:
    """Seconds of a step."""
    until = time.perf_counter() + MOST_SECONDS
    training.should_stop = lambda: training.steps >= MOST_STEPS or (time.perf_counter() > until and training.steps > 1)
    try:
        with exactness(training.worker.means.precision), memory_errors():
            training.run()
    except Stopped:
        pass
    return training.train_s / max(1, training.steps)


def _evaluate_s(prepared: Prepared, training: Training) -> float:
    """Seconds of all evaluations, from one of the untrained network on the first test splits."""
    scenario, last = prepared.scenario, prepared.schedule.tasks(prepared.scenario) - 1
    first, final = training.tests(-1), training.tests(last)
    seen, splits = 0, []
    for split in first:
        if seen < MOST_SAMPLES:
            splits.append(split)
            seen += len(split)
    network = {"untrained": Answer(prepared.method.setting.build_net("net"))}
    began = time.perf_counter()
    with prepared.worker.context():
        evaluate(network, splits, scenario.view, training.protocols())
    each_s = (time.perf_counter() - began) / max(1, seen)
    # Where the test set grows from task to task, it grows about evenly.
    of_first, of_final = (sum(len(split) for split in tests) for tests in (first, final))
    answers = len(prepared.worker.predictors())
    return each_s * (of_first + answers * (last + 1) * (of_first + of_final) / 2)


def _save_s(training: Training, steps: int) -> float:
    """Seconds of all checkpoints."""
    if training.save is None:
        return 0.0
    began = time.perf_counter()
    training.save(training)
    each_s = time.perf_counter() - began
    of_tasks = training.schedule.tasks(training.scenario)
    return each_s * (of_tasks + steps // (training.save_every or steps + 1))
