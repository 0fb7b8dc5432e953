"""The loop: how many steps, in which order, what is looked at, and how it ends early."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from synergy import testing
from synergy.data.view import ImageView
from synergy.engine.worker import Means, Worker
from synergy.errors import TrainingError
from synergy.methods.base import Answer, Method, MethodConfig, Setting
from synergy.methods.er import ER
from synergy.randomness import generator
from synergy.runs import training as training_module
from synergy.runs.evaluate import Evaluations
from synergy.runs.listeners import Listener, Listeners
from synergy.runs.training import Schedule, Stopped, Training
from synergy.scenarios.base import AnyScenario
from synergy.scenarios.split import SplitDigits
from synergy.types import Batch, Losses, Predictor, ProtocolName, Step, Task

EVERYTHING = Schedule()
BATCH_SIZE = 16
ROTATED_STEPS = 90
"""Of a task: 1,437 samples in batches of 16, the last one of 13."""


class Diary(Method[MethodConfig]):
    """Learns nothing and writes down what it is asked to do. Its loss is the number of the step."""

    def __init__(self, config: MethodConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.pages: list[str] = []
        self.batches: list[Batch] = []

    def begin_task(self, task: Task) -> None:
        self.pages.append(f"begin_task {task.index}")

    def compute(self, batch: Batch, now: None) -> Step:
        self.pages.append("observe")
        self.batches.append(batch)
        return Step(self.losses(len(self.batches)))

    def losses(self, step: int) -> Losses:
        """What step `step` (from 1) gives."""
        return {"loss": torch.tensor(float(step))}

    def end_task(self, task: Task) -> None:
        self.pages.append(f"end_task {task.index}")

    def predictors(self) -> dict[str, Predictor]:
        self.pages.append("predictors")
        return {"working": Answer(self.net)}


class Witness(Listener):
    """Writes down what it is told, among the method's own pages if it is given them."""

    def __init__(self, pages: list[str] | None = None) -> None:
        self.pages = [] if pages is None else pages
        self.looks: list[tuple[int, int, dict[str, float]]] = []

    def task_begins(self, task: Task, steps: int, done: int) -> None:
        self.pages.append(f"task_begins {task.index}, {steps} steps")

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        self.pages.append(f"looked {step}, {new_steps} new")
        self.looks.append((step, new_steps, losses))

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        self.pages.append(f"task_ended {index}")

    def close(self) -> None:
        self.pages.append("close")


def training(
    kind: type[Diary] = Diary, stream: AnyScenario | None = None, schedule: Schedule = EVERYTHING, **options: Any
) -> tuple[Training, Diary]:
    if stream is None:
        stream = testing.scenario("rot-digits", batch_size=BATCH_SIZE, options={"n_tasks": 2})
    method = kind(MethodConfig(), testing.setting(stream))
    worker = Worker(method, Means(torch.device("cpu")))
    return Training(worker, stream, schedule, seed=0, **options), method


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop looks by the number of steps only, so that a slow machine sees the same as a fast one."""
    monkeypatch.setattr(training_module, "LOOK_SECONDS", math.inf)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (Schedule(), 2 * ROTATED_STEPS),
        (Schedule(n_epochs=2), 4 * ROTATED_STEPS),
        (Schedule(n_epochs=2, max_steps_per_task=ROTATED_STEPS + 5), 2 * (ROTATED_STEPS + 5)),
        (Schedule(max_steps_per_task=7), 14),
        (Schedule(max_steps_per_task=10_000), 2 * ROTATED_STEPS),
        (Schedule(max_tasks=1), ROTATED_STEPS),
        (Schedule(max_tasks=3), 2 * ROTATED_STEPS),
    ],
)
def test_number_of_steps(schedule: Schedule, steps: int) -> None:
    loop, method = training(schedule=schedule)
    loop.run()
    assert loop.steps == len(method.batches) == steps


def test_a_budget_that_is_spent_ends_the_task_whatever_the_epochs() -> None:
    loop, method = training(schedule=Schedule(n_epochs=10**9, max_steps_per_task=3))
    loop.run()
    assert len(method.batches) == 6


def test_every_sample_of_an_epoch_once_and_the_last_batch_smaller() -> None:
    loop, method = training(schedule=Schedule(n_epochs=2, max_tasks=1))
    loop.run()
    sizes = [len(batch) for batch in method.batches]
    assert sizes == 2 * ([BATCH_SIZE] * (ROTATED_STEPS - 1) + [13])
    one, other = method.batches[:ROTATED_STEPS], method.batches[ROTATED_STEPS:]
    assert all_samples(one) == all_samples(other)
    assert not torch.equal(one[0].raw, other[0].raw)


def all_samples(batches: list[Batch]) -> list[bytes]:
    return sorted(sample.numpy().tobytes() for batch in batches for sample in batch.raw)


def test_the_last_batch_of_a_split_scenario_is_left_out() -> None:
    loop, method = training(stream=testing.scenario("seq-digits", batch_size=BATCH_SIZE))
    loop.run()
    assert {len(batch) for batch in method.batches} == {BATCH_SIZE}
    tasks = [loop.scenario.task(index) for index in range(5)]
    assert len(method.batches) == sum(len(task) // BATCH_SIZE for task in tasks)


class Mirrored(SplitDigits):
    """Digits with an augmentation that draws."""

    view = ImageView(padding=1, flip=True, mean=(0.5,), std=(0.5,))


def test_inputs_are_the_augmented_view_from_the_streams_own_generator() -> None:
    plain = testing.scenario("seq-digits", batch_size=BATCH_SIZE)
    stream = Mirrored(plain.config, plain.setting)
    loop, method = training(stream=stream, schedule=Schedule(max_steps_per_task=3))
    loop.run()
    rng = generator(0, "stream/augment")
    for batch in method.batches:
        assert torch.equal(batch.inputs, stream.view(batch.raw, stream.view.decide(len(batch), rng)))
    assert not torch.equal(method.batches[0].inputs, stream.view.plain(method.batches[0].raw))


@pytest.mark.usefixtures("unhurried")
def test_order_of_events() -> None:
    witness = Witness()
    loop, method = training(schedule=Schedule(max_steps_per_task=2), listener=witness)
    witness.pages = method.pages
    loop.run()
    tasks = [
        [
            f"task_begins {index}, 2 steps",
            f"begin_task {index}",
            "observe",
            "observe",
            f"looked {2 * index + 2}, 2 new",
            f"end_task {index}",
            "predictors",
            f"task_ended {index}",
        ]
        for index in range(2)
    ]
    assert method.pages == tasks[0] + tasks[1]


def test_several_listeners_are_told_the_same() -> None:
    one, other = Witness(), Witness()
    both = Listeners(one, other)
    loop, _ = training(schedule=Schedule(max_steps_per_task=2), listener=both)
    loop.run()
    both.close()
    assert one.pages == other.pages
    assert one.pages[0] == "task_begins 0, 2 steps"
    assert one.pages[-2:] == ["task_ended 1", "close"]


@pytest.mark.usefixtures("unhurried")
def test_losses_are_looked_at_every_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_module, "LOOK_STEPS", 3)
    witness = Witness()
    loop, _ = training(schedule=Schedule(max_steps_per_task=8), listener=witness)
    loop.run()
    seen = [(step, new_steps) for step, new_steps, _ in witness.looks]
    assert seen == [(3, 3), (6, 3), (8, 2), (11, 3), (14, 3), (16, 2)]
    assert all(losses == {"loss": float(step)} for step, _, losses in witness.looks)
    assert loop.last_losses == {"loss": 16.0}


def test_losses_are_looked_at_after_so_much_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_module, "LOOK_SECONDS", 0.0)
    witness = Witness()
    training(schedule=Schedule(max_steps_per_task=3, max_tasks=1), listener=witness)[0].run()
    assert [step for step, _, _ in witness.looks] == [1, 2, 3, 3]


@pytest.mark.parametrize(("tasks", "rows"), [(None, 5), (3, 3), (1, 1)])
def test_evaluations_after_every_task_on_every_task_of_the_run(tasks: int | None, rows: int) -> None:
    stream = testing.scenario("seq-digits", batch_size=BATCH_SIZE)
    loop, _ = training(stream=stream, schedule=Schedule(max_steps_per_task=1, max_tasks=tasks))
    loop.run()
    protocols: tuple[ProtocolName, ...] = ("class-IL", "task-IL")
    assert [list(each) for each in loop.evaluations] == [[("working", protocol) for protocol in protocols]] * rows
    for protocol in protocols:
        assert [len(each["working", protocol].accuracies) for each in loop.evaluations] == [rows] * rows
        assert len(loop.baseline["untrained", protocol].accuracies) == rows


class Narrow(Diary):
    """Judged under one protocol only."""

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset(("task-IL",))


def test_a_method_is_judged_under_its_own_protocols_only() -> None:
    stream = testing.scenario("seq-digits", batch_size=BATCH_SIZE)
    loop, _ = training(Narrow, stream, Schedule(max_steps_per_task=1, max_tasks=1))
    loop.run()
    assert list(loop.evaluations[0]) == [("working", "task-IL")]
    assert list(loop.baseline) == [("untrained", "task-IL")]


class Zeroed(Diary):
    """Forgets its weights before it begins."""

    def begin_task(self, task: Task) -> None:
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.zero_()


def test_the_baseline_is_of_the_untrained_network() -> None:
    stream = testing.scenario("rot-digits", batch_size=BATCH_SIZE, options={"n_tasks": 1})
    loop, _ = training(Zeroed, stream)
    loop.run()
    expected = untrained_accuracy(loop)
    assert loop.baseline["untrained", "domain-IL"].accuracies == pytest.approx((expected,))
    assert loop.evaluations[0]["working", "domain-IL"].accuracies != pytest.approx((expected,))


class Order(Listener):
    """What came after what."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        self.events.append("step")

    def evaluated(self, seconds: float, of_task: bool) -> None:
        self.events.append("task" if of_task else "untrained")


def test_the_untrained_network_is_evaluated_after_the_first_steps() -> None:
    order = Order()
    loop, _ = training(schedule=Schedule(max_steps_per_task=1, max_tasks=2), listener=order)
    loop.run()
    assert [event for event, _ in itertools.groupby(order.events)] == ["step", "untrained", "task", "step", "task"]


def untrained_accuracy(loop: Training) -> float:
    (split,) = loop.scenario.tests(-1)
    net = loop.method.setting.build_net("net")
    with torch.no_grad():
        predicted = net(loop.scenario.view.plain(split.raw)).argmax(1)
    return 100 * float((predicted == split.labels).double().mean())


class Doomed(Diary):
    """Every second step has no losses; at step 6 one of three terms is no number."""

    def losses(self, step: int) -> Losses:
        if step % 2:
            return {}
        penalty = torch.tensor(math.nan if step == 6 else 0.5)
        ce, consistency = torch.tensor(1.0), torch.tensor(0.25)
        return {"loss": ce + consistency + penalty, "ce": ce, "penalty": penalty, "consistency": consistency}


@pytest.mark.parametrize(("look_every", "stops_at"), [(1, 6), (4, 8), (100, 10)])
@pytest.mark.usefixtures("unhurried")
def test_a_loss_that_is_no_number_is_named_with_its_step(
    monkeypatch: pytest.MonkeyPatch, look_every: int, stops_at: int
) -> None:
    monkeypatch.setattr(training_module, "LOOK_STEPS", look_every)
    loop, method = training(Doomed, schedule=Schedule(max_steps_per_task=10))
    with pytest.raises(
        TrainingError, match=r"^the loss term 'penalty' became nan at step 6; lower --lr, or the weight"
    ):
        loop.run()
    assert len(method.batches) == stops_at
    assert loop.evaluations == []
    assert loop.last_losses["ce"] == 1.0
    assert math.isnan(loop.last_losses["penalty"])
    assert loop.train_s > 0


class Exploding(Diary):
    """Infinity at the third step, with no terms to blame."""

    def losses(self, step: int) -> Losses:
        return {"loss": torch.tensor(math.inf if step == 3 else 1.0)}


def test_a_loss_without_terms_is_named_alone() -> None:
    with pytest.raises(TrainingError, match=r"^the loss became inf at step 3; lower --lr$"):
        training(Exploding)[0].run()


class Secret(Diary):
    """Goes wrong where the loop sees no loss."""

    def end_task(self, task: Task) -> None:
        if task.index == 1:
            next(self.net.parameters()).data.fill_(math.nan)


def test_an_answer_that_is_no_number_ends_the_run() -> None:
    loop, _ = training(Secret, schedule=Schedule(max_steps_per_task=1))
    with pytest.raises(TrainingError, match=r"^'working' answers with what is no number after task 2; lower --lr$"):
        loop.run()
    assert len(loop.evaluations) == 1


@pytest.mark.usefixtures("unhurried")
def test_stopping_between_two_steps() -> None:
    witness = Witness()
    asked = itertools.count()
    loop, method = training(
        schedule=Schedule(max_steps_per_task=10), listener=witness, should_stop=lambda: next(asked) == 14
    )
    with pytest.raises(Stopped):
        loop.run()
    assert loop.steps == len(method.batches) == 14
    assert witness.looks[-1] == (14, 4, {"loss": 14.0})
    assert len(loop.evaluations) == 1
    assert method.pages[-1] == "observe"


class Context:
    """Counts how often it is entered, and whether it is open."""

    def __init__(self) -> None:
        self.open = False
        self.entered = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.open, self.entered = True, self.entered + 1
        yield
        self.open = False


def test_steps_and_evaluations_are_computed_in_the_context_given() -> None:
    context = Context()
    loop, method = training(schedule=Schedule(max_steps_per_task=3))
    loop.worker.context = context
    opened: list[bool] = []

    def answer(inputs: Tensor, /) -> Tensor:
        opened.append(context.open)
        return torch.zeros(len(inputs), 10)

    def losses(step: int) -> Losses:
        opened.append(context.open)
        return {}

    method.losses = losses  # type: ignore[method-assign]
    method.predictors = lambda: {"one": answer}  # type: ignore[method-assign]
    loop.run()
    assert len(opened) > 6
    assert all(opened)
    # The untrained network, and for each task three steps, the end of the task, the predictors and the evaluation.
    assert context.entered == 1 + 2 * (3 + 1 + 1 + 1)


def test_time_is_split_into_training_and_evaluation() -> None:
    loop, _ = training(schedule=Schedule(max_steps_per_task=2))
    loop.run()
    assert loop.train_s > 0
    assert loop.evaluate_s > 0


class Slow(Listener):
    """Takes its time where nothing is trained."""

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        time.sleep(0.5)

    def saving(self) -> None:
        time.sleep(0.5)


@pytest.mark.slow
def test_neither_a_checkpoint_nor_an_evaluation_counts_as_training() -> None:
    saved: list[float] = []
    loop, _ = training(
        schedule=Schedule(max_steps_per_task=2),
        listener=Slow(),
        save=lambda loop: saved.append(loop.train_s),
        save_every=1,
    )
    loop.run()
    assert len(saved) == 2 * (2 + 1)
    assert saved == sorted(saved)
    assert 0 < saved[0] < loop.train_s < 0.5


def test_the_accuracy_on_the_stream_is_counted_before_it_is_learned() -> None:
    """Against a loop that asks the network itself before each step, which on an MLP gives the same outputs."""
    stream = testing.scenario("seq-digits", batch_size=16, options={"n_tasks": 5})
    worker, asked = (
        Worker(ER(ER.Config(buffer_size=20, minibatch_size=8), testing.setting(stream)), Means(torch.device("cpu")))
        for _ in range(2)
    )
    loop = Training(worker, stream, Schedule(max_tasks=2), seed=0)
    loop.run()
    expected = []
    for index in range(2):
        right = samples = 0
        for raw, labels in stream.task(index).batches(0):
            inputs = stream.view.plain(raw)
            right += int((asked.method.predictors()["working"](inputs).argmax(1) == labels).sum())
            samples += len(labels)
            asked.step(Batch(raw, inputs, labels))
        expected.append(100 * right / samples)
    assert loop.online.tasks == pytest.approx(expected)
    other = Training(asked, stream, Schedule(max_tasks=2), seed=0)
    other.load_state_dict(loop.state_dict())
    assert other.online.tasks == loop.online.tasks
    forged = loop.state_dict() | {"online": {**loop.state_dict()["online"], "tasks": [101.0]}}
    with pytest.raises(ValueError, match="something else than accuracies"):
        other.load_state_dict(forged)
