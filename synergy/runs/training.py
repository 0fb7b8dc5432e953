"""The only training loop. It knows no method and no scenario by name; it asks through their interfaces."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synergy.engine.watch import LossWatch
from synergy.engine.worker import Worker
from synergy.errors import TrainingError
from synergy.methods.base import Answer
from synergy.randomness import generator
from synergy.runs.evaluate import Evaluations, evaluate, from_state, to_state
from synergy.runs.listeners import Listener
from synergy.runs.online import OnlineAccuracy
from synergy.runs.task_data import TaskData
from synergy.scenarios.base import AnyScenario
from synergy.state import State, collect, restore
from synergy.types import ProtocolName, Split, Step, Task

LOOK_SECONDS = 0.25
LOOK_STEPS = 200
"""How often the loop looks at the losses, whichever comes first: to look is to wait for the device."""

_PROGRESS = ("augment_rng", "task", "begun", "taken", "steps", "train_s", "evaluate_s")


@dataclass(frozen=True)
class Schedule:
    """How much to train.

    Attributes:
        n_epochs: passes over each task.
        max_steps_per_task, max_tasks: a smaller budget, for trying things out.

    Examples:
        >>> from synergy import testing
        >>> stream = testing.scenario("seq-digits")
        >>> schedule = Schedule(n_epochs=2, max_tasks=3)
        >>> schedule.tasks(stream), schedule.steps(stream.task(0)) == 2 * len(stream.task(0).order(0))
        (3, True)
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


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The run was asked to stop, and did between two steps."""


class Training:
    """A method on its way through a scenario. Its state is enough to go on from any step.

    Args:
        worker: the method at work.
        scenario: gives the stream.
        schedule: how much of it.
        seed: of the run; the stream's augmentation derives from it.
        listener: is told how it goes.
        should_stop: asked before every step, or before every few that were decided together.
        save: keeps the state of the training it is given: after every `save_every` steps, at the end of every task, and
            when it was asked to stop. All losses up to there are finite.
        save_every: steps; None for the other occasions alone.

    Examples:
        >>> import torch
        >>> from synergy import testing
        >>> from synergy.engine.worker import Means
        >>> from synergy.methods.sgd import FineTuning
        >>> stream = testing.scenario("seq-digits")
        >>> worker = Worker(FineTuning(FineTuning.Config(), testing.setting(stream)), Means(torch.device("cpu")))
        >>> training = Training(worker, stream, Schedule(max_tasks=2, max_steps_per_task=3), seed=0)
        >>> training.run()
        >>> training.steps, len(training.evaluations)
        (6, 2)
    """

    def __init__(
        self,
        worker: Worker,
        scenario: AnyScenario,
        schedule: Schedule,
        *,
        seed: int,
        listener: Listener | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        save: Callable[[Training], None] | None = None,
        save_every: int | None = None,
    ) -> None:
        self.worker = worker
        self.method = worker.method
        self.scenario = scenario
        self.schedule = schedule
        self.listener = Listener() if listener is None else listener
        self.should_stop = should_stop
        self.save = save
        self.save_every = save_every
        self.augment_rng = generator(seed, "stream/augment")
        self.task = 0
        """The task it is in, or that comes next."""
        self.begun = False
        """Whether the method was told so."""
        self.taken = 0
        """Steps of this task."""
        self.steps = 0
        self.evaluations: list[Evaluations] = []
        self.baseline: Evaluations = {}
        self.train_s = 0.0
        self.evaluate_s = 0.0
        self.online = OnlineAccuracy()
        self._data: TaskData | None = None
        """The data of the task, for steps that are replayed."""
        self._watch = LossWatch("step", "lower --lr")
        self._looked_at = self._counted_to = time.perf_counter()

    def run(self) -> None:
        """Train on every task and evaluate after each, from wherever it is.

        Raises:
            TrainingError: a loss is no longer finite, or an answer is no number.
            Stopped: `should_stop` said so.
        """
        while self.task < self.schedule.tasks(self.scenario):
            self._counted_to = time.perf_counter()
            try:
                self._learn(self.scenario.task(self.task))
            finally:
                self._count()
            if not self.baseline:
                # Not before the first step: that tells how long the run takes, and an evaluation may be long.
                self.baseline = self._evaluate(-1, untrained=True)
            self.evaluations.append(self._evaluate(self.task))
            self.online.end_task()
            self.listener.task_ended(self.task, self.evaluations[-1])
            self.task, self.begun, self.taken = self.task + 1, False, 0
            self._counted_to = time.perf_counter()
            self._save()

    @property
    def last_losses(self) -> dict[str, float]:
        """The terms of the last loss that was looked at."""
        return self._watch.latest

    def state_dict(self) -> State:
        """Where it is, and all that has come of it so far. Every step is a place to stop at."""
        worker = self.worker.state_dict()
        return {
            "method": worker["learned"],
            "schedulers": worker["schedulers"],
            "chance": worker["chance"],
            "evaluations": [to_state(each) for each in self.evaluations],
            "baseline": to_state(self.baseline),
            "last_losses": self.last_losses,
            "online": self.online.state_dict(),
            **collect({name: vars(self)[name] for name in _PROGRESS}),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on exactly where `state` was taken. The training must be of the same configuration.

        Raises:
            ValueError: it is of another one, or no state of a training.
        """
        progress = {name: vars(self)[name] for name in _PROGRESS}
        restore(progress, {name: state[name] for name in _PROGRESS})
        losses = state["last_losses"]
        if not all(isinstance(value, float) for value in losses.values()):
            raise ValueError("'last_losses' are no numbers")
        evaluations = [from_state(each) for each in state["evaluations"]]
        baseline = from_state(state["baseline"])
        self._check_progress(**{name: progress[name] for name in ("task", "taken", "begun", "steps")})
        self._check_evaluations(baseline, evaluations, progress["task"])
        if not (math.isfinite(progress["train_s"]) and math.isfinite(progress["evaluate_s"])):
            raise ValueError("a time that is not finite")
        # Checkpoints of the first release have no schedules, no networks that draw and no accuracy on the stream.
        later = {"schedulers": state.get("schedulers", []), "chance": state.get("chance")}
        self.worker.load_state_dict({"learned": state["method"], **later}, progress["steps"])
        if "online" in state:
            self.online.load_state_dict(state["online"])
        task = self.scenario.task(0)
        raw, labels = task.take(torch.zeros(1, dtype=torch.int64, device=task.labels.device))
        n = self.scenario.n_classes
        self.worker.check_memories(raw, labels, n, (n,))
        vars(self).update(progress, evaluations=evaluations, baseline=baseline)
        self._watch.latest = losses

    def _check_progress(self, task: int, taken: int, begun: bool, steps: int) -> None:
        tasks = self.schedule.tasks(self.scenario)
        left = self.schedule.steps(self.scenario.task(task)) if 0 <= task < tasks else 0
        if not (0 <= task <= tasks and 0 <= taken <= min(steps, left) and (begun or not taken)):
            raise ValueError(f"task {task + 1}, step {taken} is not a place in this stream")
        expected = sum(self.schedule.steps(self.scenario.task(earlier)) for earlier in range(task)) + taken
        if steps != expected:
            raise ValueError(f"{steps} steps, expected {expected} at step {taken} of task {task + 1}")

    def _check_evaluations(self, baseline: Evaluations, evaluations: list[Evaluations], done: int) -> None:
        expected = dict.fromkeys(("untrained", protocol) for protocol in self.protocols())
        if len(evaluations) != done or (baseline.keys() != expected.keys() and (done or baseline)):
            raise ValueError(f"evaluations after {len(evaluations)} of {done} tasks")
        sizes = {len(each.accuracies) for one in (baseline, *evaluations) for each in one.values()}
        protocols = {protocol for one in evaluations for _, protocol in one}
        if not (sizes <= {len(self.tests(-1))} and protocols <= set(self.protocols())):
            raise ValueError("evaluations of another scenario")

    def _learn(self, task: Task) -> None:
        self.listener.task_begins(task, self.schedule.steps(task), self.taken)
        if not self.begun:
            self.worker.begin_task(task)
            self.begun = True
        self._hold(task)
        orders = self._orders(task)
        while block := list(itertools.islice(orders, self._together())):
            self._learn_block(task, block)
        self._look()
        self.worker.end_task(task)

    def _hold(self, task: Task) -> None:
        """Bring the data of the task where recorded steps find them."""
        replays = self.worker.replays
        if replays is None or replays.refusal is not None:
            self._data = None
            return
        if self._data is None:
            tasks = range(self.schedule.tasks(self.scenario))
            self._data = TaskData(max(len(self.scenario.task(index)) for index in tasks))
        self._data.enter(task)

    def _orders(self, task: Task) -> Iterator[Tensor]:
        """The samples of each batch that is left of the task, `int64 [B]`."""
        left = self.schedule.steps(task) - self.taken
        epoch, passed = divmod(self.taken, max(1, len(task.order(0))))
        while left:
            for indices in task.order(epoch)[passed : passed + left]:
                left -= 1
                yield indices
            epoch, passed = epoch + 1, 0

    def _together(self) -> int:
        """Steps that are decided at once: never past the next checkpoint, whose state is that of its step."""
        reach = self.worker.reach
        return reach if self.save_every is None else min(reach, self.save_every - self.steps % self.save_every)

    def _learn_block(self, task: Task, block: list[Tensor]) -> None:
        if self.should_stop():
            self._look()
            self._save()
            raise Stopped
        sizes = [len(indices) for indices in block]
        draws = [self.scenario.view.decide(size, self.augment_rng) for size in sizes]
        view, data = self.scenario.view, self._data
        planned = zip(block, self.worker.plan(sizes, draws), strict=True)
        if data is not None and data.samples is not None:
            for (indices, each), labels in zip(planned, data.labels(block), strict=True):
                self._took(self.worker.take_from(data.samples, indices, each, view), labels)
        else:
            for indices, each in planned:
                raw, labels = task.take(indices)
                self._took(self.worker.take(raw, labels, each, view), labels)

    def _took(self, step: Step, labels: Tensor) -> None:
        self.steps += 1
        self.taken += 1
        if step.outputs is not None:
            self.online.add(step.outputs, labels)
        self._watch.add(self.steps, step.losses)
        self.worker.schedule()
        if self.save_every is not None and self.steps % self.save_every == 0:
            self._save()
        elif self._watch.waiting >= LOOK_STEPS or time.perf_counter() - self._looked_at >= LOOK_SECONDS:
            self._look()

    def _save(self) -> None:
        if self.save is not None:
            if self._watch.waiting:
                self._look()
            self._count()
            self.listener.saving()
            self.save(self)
            self._counted_to = time.perf_counter()

    def _count(self) -> None:
        """Training takes the time up to now, but not that of a checkpoint."""
        now = time.perf_counter()
        self.train_s += now - self._counted_to
        self._counted_to = now

    def _look(self) -> None:
        """Fetch the losses since the last look, and tell the listener. Raises TrainingError if one is not finite."""
        new_steps = self._watch.waiting
        losses = self._watch.look()
        self.listener.looked(self.steps, new_steps, losses)
        self._looked_at = time.perf_counter()

    def _evaluate(self, after: int, untrained: bool = False) -> Evaluations:
        began = time.perf_counter()
        scenario = self.scenario
        # The untrained network stands for every predictor, also for those that have no answer before training.
        fresh = {"untrained": Answer(self.method.setting.build_net("net"))} if untrained else None
        predictors = fresh or self.worker.predictors()
        with self.worker.context():
            evaluations = evaluate(predictors, self.tests(after), scenario.view, self.protocols())
        seconds = time.perf_counter() - began
        self.evaluate_s += seconds
        self.listener.evaluated(seconds, not untrained)
        for (predictor, _), evaluation in evaluations.items():
            # Some methods train where the loop sees no loss: they are found out here.
            if evaluation.calibration_error is not None and math.isnan(evaluation.calibration_error):
                raise TrainingError(f"'{predictor}' answers with what is no number after task {after + 1}; lower --lr")
        return evaluations

    def protocols(self) -> list[ProtocolName]:
        """Those of the scenario under which the method's answers mean something."""
        return [protocol for protocol in self.scenario.protocols if protocol in self.method.protocols]

    def tests(self, after: int) -> Sequence[Split]:
        """The scenario's splits, without those of tasks that this run will never see."""
        tests = self.scenario.tests(after)
        return tests[: self.schedule.tasks(self.scenario)] if len(tests) == self.scenario.n_tasks else tests
