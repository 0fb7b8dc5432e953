"""The only training loop. It knows no method and no scenario by name; it asks through their interfaces."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from synergy.errors import TrainingError
from synergy.evaluate import Evaluations, evaluate
from synergy.methods.base import Answer, Method, MethodConfig
from synergy.randomness import generator
from synergy.scenarios.base import AnyScenario
from synergy.types import Batch, Losses, Split, Task

LOOK_SECONDS = 0.25
LOOK_STEPS = 200
"""How often the loop looks at the losses, whichever comes first: to look is to wait for the device."""


@dataclass(frozen=True)
class Schedule:
    """How much to train.

    Attributes:
        n_epochs: passes over each task.
        max_steps_per_task, max_tasks: a smaller budget, for trying things out.
    """

    n_epochs: int = 1
    max_steps_per_task: int | None = None
    max_tasks: int | None = None

    def steps(self, task: Task) -> int:
        """Steps that `task` takes."""
        steps = len(task.order(0)) * self.n_epochs
        return steps if self.max_steps_per_task is None else min(steps, self.max_steps_per_task)

    def tasks(self, scenario: AnyScenario) -> int:
        """Tasks that are trained."""
        return scenario.n_tasks if self.max_tasks is None else min(scenario.n_tasks, self.max_tasks)


class Listener:
    """Is told how a run goes, and does nothing; a progress bar or an event log overrides what it needs."""

    def task_begins(self, task: Task, steps: int) -> None:
        """`steps` is how many the task will take."""

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        """The losses of step `step` (from 1 over the run), the latest of `new_steps` since the last look."""

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        """The method was evaluated after task `index`."""

    def close(self) -> None:
        """The run is over, however it ended."""


class Listeners(Listener):
    """Several listeners as one."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def task_begins(self, task: Task, steps: int) -> None:
        for listener in self._listeners:
            listener.task_begins(task, steps)

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        for listener in self._listeners:
            listener.looked(step, new_steps, losses)

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        for listener in self._listeners:
            listener.task_ended(index, evaluations)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The run was asked to stop, and did between two steps."""


class Training:
    """A method on its way through a scenario.

    Args:
        method: learns.
        scenario: gives the stream.
        schedule: how much of it.
        seed: of the run; the stream's augmentation derives from it.
        listener: is told.
        should_stop: asked before every step.
        computing: the context of a step and of an evaluation, such as autocast.
    """

    def __init__(
        self,
        method: Method[MethodConfig],
        scenario: AnyScenario,
        schedule: Schedule,
        *,
        seed: int,
        listener: Listener | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        computing: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.method = method
        self.scenario = scenario
        self.schedule = schedule
        self.listener = Listener() if listener is None else listener
        self.should_stop = should_stop
        self.computing = computing
        self.augment_rng = generator(seed, "stream/augment")
        self.steps = 0
        self.evaluations: list[Evaluations] = []
        self.baseline: Evaluations = {}
        self.last_losses: dict[str, float] = {}
        self.train_s = 0.0
        self.evaluate_s = 0.0
        self._unseen: list[Losses] = []
        self._looked_at = time.perf_counter()

    def run(self) -> None:
        """Train on every task and evaluate after each.

        Raises:
            TrainingError: a loss is no longer finite, or an answer is no number.
            Stopped: `should_stop` said so.
        """
        self.baseline = self._evaluate(-1, untrained=True)
        for index in range(self.schedule.tasks(self.scenario)):
            task = self.scenario.task(index)
            began = time.perf_counter()
            try:
                self._learn(task)
            finally:
                self.train_s += time.perf_counter() - began
            self.evaluations.append(self._evaluate(index))
            self.listener.task_ended(index, self.evaluations[-1])

    def _learn(self, task: Task) -> None:
        self.listener.task_begins(task, self.schedule.steps(task))
        self.method.begin_task(task)
        for raw, labels in self._batches(task):
            self._step(raw, labels)
        self._look()
        with self.computing():
            self.method.end_task(task)

    def _batches(self, task: Task) -> Iterator[tuple[Tensor, Tensor]]:
        left = self.schedule.steps(task)
        for epoch in range(self.schedule.n_epochs):
            for batch in task.batches(epoch):
                if left == 0:
                    return
                left -= 1
                yield batch

    def _step(self, raw: Tensor, labels: Tensor) -> None:
        if self.should_stop():
            self._look()
            raise Stopped
        batch = Batch(raw, self.scenario.augment(raw, self.augment_rng), labels)
        with self.computing():
            losses = self.method.observe(batch)
        self.steps += 1
        self._unseen.append(losses)
        if len(self._unseen) >= LOOK_STEPS or time.perf_counter() - self._looked_at >= LOOK_SECONDS:
            self._look()

    def _look(self) -> None:
        """Fetch the losses that nobody has seen yet, all at once, and make sure that they are finite."""
        first = self.steps - len(self._unseen) + 1
        unseen = [(step, losses) for step, losses in enumerate(self._unseen, start=first) if losses]
        if unseen:
            totals = torch.stack([losses["loss"] for _, losses in unseen]).tolist()
            for total, (step, losses) in zip(totals, unseen, strict=True):
                if not math.isfinite(total):
                    self.last_losses = _numbers(losses)
                    raise TrainingError(_not_finite(step, self.last_losses))
            self.last_losses = _numbers(unseen[-1][1])
        self.listener.looked(self.steps, len(self._unseen), self.last_losses)
        self._unseen.clear()
        self._looked_at = time.perf_counter()

    def _evaluate(self, after: int, untrained: bool = False) -> Evaluations:
        began = time.perf_counter()
        scenario = self.scenario
        predictors = self.method.predictors()
        if untrained:
            # The same for every predictor, also for those that have no answer before they are trained.
            predictors = {"untrained": Answer(self.method.setting.build_net("net"))}
        with self.computing():
            protocols = [protocol for protocol in scenario.protocols if protocol in self.method.protocols]
            evaluations = evaluate(predictors, self._tests(after), scenario.augment, protocols)
        self.evaluate_s += time.perf_counter() - began
        for (predictor, _), evaluation in evaluations.items():
            # Some methods train where the loop sees no loss: they are found out here.
            if evaluation.calibration_error is not None and math.isnan(evaluation.calibration_error):
                raise TrainingError(f"'{predictor}' answers with what is no number after task {after + 1}; lower --lr")
        return evaluations

    def _tests(self, after: int) -> Sequence[Split]:
        """The scenario's splits, without those of tasks that this run will never see."""
        tests = self.scenario.tests(after)
        return tests[: self.schedule.tasks(self.scenario)] if len(tests) == self.scenario.n_tasks else tests


def _numbers(losses: Losses) -> dict[str, float]:
    return {name: float(value) for name, value in losses.items()}


def _not_finite(step: int, losses: dict[str, float]) -> str:
    terms = [name for name, value in losses.items() if name != "loss" and not math.isfinite(value)]
    if not terms:
        return f"the loss became {losses['loss']} at step {step}; lower --lr"
    name = terms[0]
    return f"the loss term '{name}' became {losses[name]} at step {step}; lower --lr, or the weight of that term"
