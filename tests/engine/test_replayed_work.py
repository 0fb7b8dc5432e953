"""Workers, runs and learners that replay their steps end with the bits of those that compute every step anew.

Steps are recorded as blindly as on a GPU (`tests.engine.recording`), and nothing here needs one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import StepLR

from synergy import Learner, testing
from synergy.data.view import ImageView
from synergy.engine.optimizers import optimizer_maker, schedules
from synergy.engine.recorders import SHORT_OF_MEMORY, CannotRecord, NoRoomToRecord, Recorder, StaticBuffers
from synergy.engine.replay import RESTLESS
from synergy.engine.worker import Means, Worker
from synergy.errors import TrainingError
from synergy.methods import METHODS, method_class
from synergy.methods.base import make_method
from synergy.ops.objectives import CROSS_ENTROPY
from synergy.runs import task_data
from synergy.runs.training import Schedule, Stopped, Training
from synergy.state import State, same
from synergy.types import Step
from tests.engine.recording import Operations
from tests.engine.test_replay import AHEAD, OPTIONS, RANDOM
from tests.methods import small
from tests.operations import Counted

CPU = torch.device("cpu")
STREAMING = [name for name in AHEAD if not method_class(name).needs_boundaries and name not in ("mer", "pnn")]


def worker(name: str, recorder: Recorder | None, means: Means | None = None, **setting: Any) -> Worker:
    kind = method_class(name)
    config = kind.Config(**{key: value for key, value in OPTIONS.items() if key in kind.Config.names()})
    given_schedule = setting.pop("schedule", None)
    draws = setting.pop("draws", False)
    method = make_method(kind, config, small.setting(view=RANDOM, **setting), small.budget())
    means = Means(CPU) if means is None else means
    return Worker(method, means, draws=draws, schedulers=schedules(method, given_schedule, name), recorder=recorder)


def take(one: Worker, sizes: list[int], seed: int) -> list[Step]:
    """Steps decided together, as a run takes them."""
    rng = np.random.default_rng(seed)
    steps = []
    planned = one.plan(sizes, [RANDOM.decide(size, rng) for size in sizes])
    for number, (size, each) in enumerate(zip(sizes, planned, strict=True)):
        batch = small.batch(31 * seed + number, size)
        steps.append(one.take(batch.raw, batch.labels, each, RANDOM))
        one.schedule()
    return steps


def blocks(one: Worker, blocked: list[list[int]]) -> list[Step]:
    """Blocks of steps; one that does not decide ahead takes them one by one."""
    steps = []
    for seed, sizes in enumerate(blocked):
        if one.reach >= len(sizes):
            steps += take(one, sizes, seed)
        else:
            rng = np.random.default_rng(seed)
            for number, size in enumerate(sizes):
                (each,) = one.plan([size], [RANDOM.decide(size, rng)])
                batch = small.batch(31 * seed + number, size)
                steps.append(one.take(batch.raw, batch.labels, each, RANDOM))
                one.schedule()
    return steps


def assert_alike(name: str, blocked: list[list[int]], *, replays: bool = True, **setting: Any) -> Worker:
    anew, replayed = worker(name, None, **setting), worker(name, Operations(), **setting)
    for step, again in zip(blocks(anew, blocked), blocks(replayed, blocked), strict=True):
        assert same(step.losses, again.losses) and same(step.outputs, again.outputs)
    assert same(anew.state_dict(), replayed.state_dict())
    assert replayed.replays is not None
    assert bool(replayed.replays.recordings) == replays
    return replayed


@pytest.mark.slow
@settings(max_examples=60)
@given(
    name=st.sampled_from(STREAMING),
    blocked=st.lists(st.lists(st.sampled_from([2, 5, 6]), min_size=1, max_size=7), min_size=1, max_size=6),
    clip=st.sampled_from([None, 0.1]),
    every=st.sampled_from([0, 4]),
)
def test_blocks_of_any_sizes(name: str, blocked: list[list[int]], clip: float | None, every: int) -> None:
    """From an empty memory on, with the first Fisher pass, a bound on gradients, and a learning rate that falls."""
    schedule = partial(StepLR, step_size=every, gamma=0.5) if every else None
    setting: dict[str, Any] = {"make_optimizer": optimizer_maker(clip_norm=clip), "schedule": schedule}
    anew, replayed = worker(name, None, **setting), worker(name, Operations(), **setting)
    for step, again in zip(blocks(anew, blocked), blocks(replayed, blocked), strict=True):
        assert same(step.losses, again.losses) and same(step.outputs, again.outputs)
    assert same(anew.state_dict(), replayed.state_dict())


@pytest.mark.parametrize("name", ["synergy", "derpp", "clser"])
def test_steps_from_an_empty_memory_on(name: str) -> None:
    assert_alike(name, [[6], [6, 6, 5], [6] * 20])


def dropout_net(name: str) -> nn.Module:
    drawing = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, small.CLASSES))
    return drawing.double().requires_grad_()


def seeded(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dropout_net(name)


def test_dropout() -> None:
    assert_alike("er", [[6] * 12, [6] * 5], build_net=seeded, draws=True)


def test_a_learning_rate_that_falls_now_and_then() -> None:
    assert_alike("er", [[6] * 30, [6] * 4], schedule=partial(StepLR, step_size=7, gamma=0.5))


def refused(complaint: str, name: str = "er", **setting: Any) -> None:
    with pytest.warns(UserWarning, match=complaint) as caught:
        assert_alike(name, [[6], [6] * 8, [6] * (RESTLESS + 4)], replays=False, **setting)
    assert len(caught) == 1, "the reason is told once"


def test_what_cannot_be_replayed_is_computed_anew_and_told_once() -> None:
    refused("memory is on the host", means=Means(CPU, memory_on="host"))
    refused("optimiser Adam counts on the host", make_optimizer=optimizer_maker(named="adam"))
    refused("learning rate, or a tensor that the method holds", schedule=partial(StepLR, step_size=1, gamma=0.99))
    refused("ESMER waits for the device", name="esmer")


class Hesitant(nn.Module):
    """Looks at its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, small.CLASSES).double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(inputs.flatten(1))
        return -out if inputs.mean() > 0.5 else out


def test_a_network_that_waits() -> None:
    refused(r"the step waits for the device \(aten._local_scalar_dense\)", build_net=lambda _: Hesitant())


class Refusing(StaticBuffers):
    def record(self, compute: Callable[[], Step]) -> Callable[[], Step]:
        raise CannotRecord("the driver has no graphs")


def test_a_recorder_that_cannot() -> None:
    anew, other = worker("er", None), worker("er", Refusing())
    with pytest.warns(UserWarning, match="the driver has no graphs"):
        found = blocks(other, [[6], [6] * 8])
    assert len(found) == len(blocks(anew, [[6], [6] * 8])) and same(anew.state_dict(), other.state_dict())


class Full(StaticBuffers):
    def record(self, compute: Callable[[], Step]) -> Callable[[], Step]:
        raise NoRoomToRecord(SHORT_OF_MEMORY)


@pytest.mark.parametrize("name", ["synergy", "er", "der"])
def test_growth_and_restoring(name: str) -> None:
    def build(_: str) -> nn.Module:
        return small.build_net("net")

    states = []
    for recorder in (None, Operations()):
        one = worker(name, recorder, build_net=build)
        blocks(one, [[6], [6] * 8])
        head = [path for path, module in one.method.net.named_modules() if isinstance(module, nn.Linear)][-1]  # type: ignore[attr-defined]
        one.grow(2, head, CROSS_ENTROPY)
        blocks(one, [[6] * 8])
        one.load_state_dict(one.state_dict(), steps=17)
        blocks(one, [[6] * 9])
        states.append(one.state_dict())
    assert same(*states)


# Runs


def run(
    name: str, recorder: Recorder | None, stop_at: int | None = None, scenario: str = "seq-digits", **options: Any
) -> tuple[Training, list[State]]:
    """Two tasks of two epochs, with a checkpoint after every five steps, and Ctrl-C after some."""
    kind = method_class(name)
    known = {key: value for key, value in OPTIONS.items() if key in kind.Config.names()}
    stream = testing.scenario(scenario, batch_size=kind.only_batch_size or 30)
    view = replace(ImageView(), padding=1, flip=True)
    stream.view = view
    method = make_method(
        kind, kind.Config(**known), replace(testing.setting(stream), view=view), testing.budget(stream)
    )
    kept: list[State] = []
    loop = Training(
        Worker(method, Means(CPU, **options), recorder=recorder),
        stream,
        Schedule(n_epochs=2, max_tasks=2, max_steps_per_task=17),
        seed=0,
        save=lambda training: kept.append(plain(training.state_dict())),
        save_every=5,
    )
    if stop_at is not None:
        loop.should_stop = lambda: loop.steps >= stop_at
    return loop, kept


def plain(state: State) -> State:
    """Without times."""
    return {name: value for name, value in state.items() if name not in ("train_s", "evaluate_s")}


@pytest.mark.parametrize("name", ["synergy", "si", "lwf", "agem", "icarl"])
def test_every_checkpoint_of_a_run_is_the_same(name: str) -> None:
    anew, states = run(name, None)
    replayed, again = run(name, Operations())
    anew.run()
    replayed.run()
    assert len(states) == len(again) == 8 and all(map(same, states, again))
    assert replayed.worker.replays is not None and replayed.worker.replays.refusal is None


@pytest.mark.parametrize("scenario", ["rot-digits", "perm-digits"])
def test_tasks_that_transform_their_samples(scenario: str) -> None:
    anew, states = run("er", None, scenario=scenario)
    replayed, again = run("er", Operations(), scenario=scenario)
    anew.run()
    replayed.run()
    assert len(states) == len(again) == 8 and all(map(same, states, again))


def test_data_that_are_too_large_are_gathered_before_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    anew, states = run("er", None)
    anew.run()
    monkeypatch.setattr(task_data, "MOST_BYTES", 0)
    replayed, again = run("er", Operations())
    replayed.run()
    assert all(map(same, states, again)) and replayed.worker.replays is not None
    assert replayed.worker.replays.recordings and replayed.worker.replays._source is None


class Idle(Operations):
    """Its recordings do nothing again: what is left of a step is what happens outside of them."""

    def record(self, compute: Callable[[], Step]) -> Callable[[], Step]:
        step = super().record(compute)()
        return lambda: step


def test_little_happens_outside_of_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, _ = run("er", Idle())
    loop.save_every = None
    loop.schedule = Schedule(n_epochs=8, max_tasks=1, max_steps_per_task=64)
    loop.run()  # records all
    loop.task, loop.taken, loop.begun = 0, 0, False
    monkeypatch.setattr(loop, "_evaluate", lambda *_: {})
    with Counted() as watch:
        loop.run()
    free = ("view", "_unsafe_view", "slice", "select", "detach", "unbind", "split", "lift_fresh")  # nothing is launched
    work = {name: n for name, n in watch.found.items() if name not in free}
    # The positions of the batch, its decisions, and copies of losses and outputs; the rest is for many steps at once.
    assert {name: n // 64 for name, n in work.items() if n >= 64} == {"copy_": 2, "stack": 1, "clone": 1}
    assert sum(work.values()) < 4 * 64 + 60


@pytest.mark.parametrize("precision", ["bf16"])
def test_precision(precision: str) -> None:
    (anew, states), (replayed, again) = (run("synergy", each, precision=precision) for each in (None, Operations()))
    anew.run()
    replayed.run()
    assert all(map(same, states, again))


def test_a_run_that_is_stopped_goes_on_with_the_same_bits() -> None:
    anew, _ = run("synergy", None)
    anew.run()
    loop, kept = run("synergy", Operations(), stop_at=7)
    with pytest.raises(Stopped):
        loop.run()
    assert loop.steps == 10, "the steps that were decided are finished"
    other, _ = run("synergy", Operations())
    other.load_state_dict({**kept[-1], "train_s": 0.0, "evaluate_s": 0.0})
    other.run()
    assert same(plain(anew.state_dict()), plain(other.state_dict()))


def test_no_memory_for_a_recording_ends_a_run_with_its_checkpoint() -> None:
    loop, kept = run("er", Full())
    with pytest.raises(TrainingError, match="out of memory while a step was recorded"):
        loop.run()
    assert kept == []  # the third step of a kind is recorded before the first checkpoint is due


def test_a_loss_that_is_no_number_is_found() -> None:
    loop, _ = run("er", Operations())
    loop.method.net.classifier.weight.data.fill_(torch.nan)  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="the loss became nan at step 1"):
        loop.run()


# Learners


def learner(recorder: Recorder | None, method: str, **options: Any) -> Learner:
    """Learned one batch, so that its worker is there."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape) / (number + 1))
    made = Learner(net, method, buffer_size=12, minibatch_size=4, **options)
    made.observe(*samples(0, 2))
    inside = made._progress.worker
    assert inside is not None
    if recorder is not None:
        inside.replays = inside._replays(recorder)
    return made


def samples(seed: int, classes: int) -> tuple[torch.Tensor, list[str]]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((6, 4))).float(), [f"label {k}" for k in rng.integers(0, classes, 6)]


@pytest.mark.parametrize("method", ["synergy", "er", "derpp", "mer"])
def test_a_learner_with_new_labels_and_a_failure(method: str) -> None:
    one, other = learner(None, method), learner(Operations(), method)
    for seed in range(1, 30):
        x, y = samples(seed, 2 + seed // 10)
        assert same(one.observe(x, y), other.observe(x, y))
        if seed % 9 == 0:
            failing(other, x, y)
    assert torch.equal(one.scores(x), other.scores(x)) and one.metrics() == other.metrics()
    assert other._progress.worker is not None and other._progress.worker.replays is not None
    assert other._progress.worker.replays.recordings


def failing(learner: Learner, x: torch.Tensor, y: list[str]) -> None:
    """A batch that is learned, and then fails: everything goes back, memory too."""
    progress = learner._progress

    def learn() -> None:
        progress.learn(x, y)
        raise KeyError("after the step")

    with pytest.raises(KeyError):
        progress.change(learn)


def test_a_learner_without_memory_for_a_recording_is_as_before_and_told_in_its_own_terms() -> None:
    one, other = learner(None, "synergy"), learner(Full(), "synergy")
    for seed in range(1, 9):
        x, y = samples(seed, 2)
        before = other.scores(x)
        try:
            other.observe(x, y)
        except TrainingError as error:
            assert "give smaller batches" in str(error)
            assert str(error).endswith("give eager=True, which needs less memory")
            break
        one.observe(x, y)
    else:
        pytest.fail("nothing was recorded")
    assert torch.equal(other.scores(x), before) and torch.equal(one.scores(x), before)


def test_an_augmentation_of_a_user_cannot_be_recorded() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = learner(Operations(), "er", augment=lambda raw, rng: raw + float(rng.random()))
        with pytest.raises(UserWarning, match="an augmentation of your own draws"):
            made.observe(*samples(1, 2))


def test_every_method_is_covered() -> None:
    assert set(STREAMING) <= set(AHEAD) <= set(METHODS) and "synergy" in STREAMING
