"""Whatever stops a call, and wherever: afterwards the learner is as before or as after it, bit by bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synergy import Learner, TrainingError, UsageError
from synergy.disk import checkpoint
from synergy.engine.savepoint import Savepoint
from synergy.state import State, same
from synergy.stream import progress as module
from synergy.stream.saving import state_of
from tests.interruptions import Stop, accident, interrupt
from tests.stream.test_learner import FEATURES, batches, few, method_of

PLACES = 12
"""Lines of a call at which it is stopped."""


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def taught(name: str, **options: Any) -> Learner:
    every_step = {"fisher_update_freq": 1.0, "ema_update_freq": 1.0} if name == "synergy" else {}
    learner = Learner(network(), name, **few(name) | every_step | options)
    for x, y in batches(6, labels=2):
        learner.observe(x, y)
    return learner


def snapshot(learner: Learner) -> State:
    """All that decides how it goes on, and that no network is left in another mode or with another forward."""
    for part in vars(method_of(learner)).values():
        for each in part.modules() if isinstance(part, nn.Module) else ():
            assert each.training and "forward" not in vars(each)
    return state_of(learner._progress) | {"labels": learner.classes}


def places(call: Callable[[Learner], object], learner: Learner, how: Callable[[], object] = interrupt) -> range:
    """Lines of a call, evenly spread."""
    stop = Stop(0, how)
    stop.during(call, copy.deepcopy(learner))
    return range(1, stop.lines, max(1, stop.lines // PLACES))


@pytest.mark.parametrize("how", [interrupt, accident])
@pytest.mark.parametrize("labels", [[0, 1, 1, 0, 0], [0, 1, 5, 7, 5]], ids=["known", "new"])
@pytest.mark.parametrize("name", ["er", "synergy"])
def test_a_batch_is_learned_or_not(name: str, labels: list[int], how: Callable[[], object]) -> None:
    x = torch.rand(5, FEATURES)
    learner, reached = taught(name), set()
    done = copy.deepcopy(learner)
    done.observe(x, labels)
    before, after = snapshot(learner), snapshot(done)
    for at in places(lambda each: each.observe(x, labels), learner, how):
        twin = copy.deepcopy(learner)
        assert Stop(at, how).during(lambda each: each.observe(x, labels), twin)
        state = snapshot(twin)
        assert same(state, before) or same(state, after), f"line {at} of the call"
        reached.add(same(state, after))
    assert True in reached if how is interrupt else False in reached


CALLS: dict[str, Callable[[Learner, Path], object]] = {
    "predict": lambda learner, path: learner.predict(torch.rand(3, FEATURES)),
    "evaluate": lambda learner, path: learner.evaluate(torch.rand(3, FEATURES), [0, 1, 9]),
    "metrics": lambda learner, path: learner.metrics(),
    "save": lambda learner, path: learner.save(path),
    "load": lambda learner, path: Learner.load(path, network()),
    "copy": lambda learner, path: copy.deepcopy(learner),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_call_that_only_looks_changes_nothing(what: str, tmp_path: Path) -> None:
    """And the folder holds a whole learner, of before or of after."""
    learner = taught("synergy", prequential="answering")

    def call(each: Learner) -> object:
        return CALLS[what](each, tmp_path / "learner")

    learner.save(tmp_path / "learner")
    learner.observe(*batches(1, labels=2, seed=5)[0])
    before = snapshot(copy.deepcopy(learner))
    saved = {Learner.load(tmp_path / "learner", network()).metrics()["batches"], 7}
    for at in places(call, learner):
        twin = copy.deepcopy(learner)
        Stop(at, interrupt).during(call, twin)
        assert same(snapshot(twin), before), f"line {at} of the call"
        assert Learner.load(tmp_path / "learner", network()).metrics()["batches"] in saved


def test_samples_are_forgotten_or_not() -> None:
    def call(each: Learner) -> int:
        return each.forget(lambda sample, label: label == 1)

    learner = taught("er")
    done = copy.deepcopy(learner)
    assert call(done) > 0
    before, after = snapshot(learner), snapshot(done)
    for at in places(call, learner, accident):
        twin = copy.deepcopy(learner)
        assert Stop(at, accident).during(call, twin)
        assert same(snapshot(twin), before) or same(snapshot(twin), after), f"line {at} of the call"


def test_an_interrupt_of_the_first_batch_leaves_nothing() -> None:
    x, y = batches(1, labels=2)[0]
    fresh = Learner(network(), "synergy", **few("synergy"))
    done = copy.deepcopy(fresh)
    done.observe(x, y)
    for at in places(lambda each: each.observe(x, y), fresh, accident):
        twin = copy.deepcopy(fresh)
        assert Stop(at, accident).during(lambda each: each.observe(x, y), twin)
        if not twin.metrics()["batches"]:
            assert twin.classes == [] and method_of(twin) is None
            twin.observe(x, y)
        assert same(snapshot(twin), snapshot(done)), f"line {at} of the call"


# Failures


def short_of_memory(*_: object, **__: object) -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


@pytest.mark.parametrize("name", ["er", "synergy", "derpp"])
@pytest.mark.parametrize("place", ["synergy.methods.base.widen", "synergy.ops.vectors.carried", "torch.cat"])
def test_memory_that_runs_out_while_the_head_grows(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "synergy" and place == "synergy.ops.vectors.carried":
        name = "synergy"  # the others hold no number for each parameter
    learner = taught(name)
    learner.save(tmp_path / "learner")
    before = snapshot(learner)
    with monkeypatch.context() as patch:
        patch.setattr(place, short_of_memory)
        with pytest.raises(TrainingError, match="out of memory; give smaller batches"):
            learner.observe(torch.rand(3, FEATURES), ["new", 1, 0])
    assert same(snapshot(learner), before)
    learner.save(tmp_path / "learner")
    loaded = Learner.load(tmp_path / "learner", network())
    for each in (learner, loaded):
        each.observe(torch.ones(3, FEATURES), ["new", 1, 0])
    assert same(snapshot(learner), snapshot(loaded))


def test_a_fisher_pass_that_fails_takes_the_step_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes last: weights, memory and averages have changed by then."""
    learner = taught("synergy")
    before = snapshot(learner)
    with monkeypatch.context() as patch:
        patch.setattr("synergy.methods.synergy.fisher_diagonal", short_of_memory)
        with pytest.raises(TrainingError, match="out of memory"):
            learner.observe(torch.rand(3, FEATURES), [0, 1, 0])
    assert same(snapshot(learner), before)


class Failing:
    """A view that fails when it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __call__(self, raw: Tensor) -> Tensor:
        if self.error is not None:
            raise self.error
        return raw


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), MemoryError(), UsageError("no")], ids=repr)
def test_an_error_of_the_users_own_function_changes_nothing(error: Exception) -> None:
    view = Failing()
    learner = Learner(network(), "synergy", transform=view, **few("synergy"))
    for x, y in batches(4, labels=2):
        learner.observe(x, y)
    before, view.error = snapshot(learner), error
    with pytest.raises(TrainingError if isinstance(error, MemoryError) else type(error)):
        learner.observe(torch.rand(3, FEATURES), [0, "new", 1])
    view.error = None
    assert same(snapshot(learner), before)


def test_a_learner_that_cannot_go_back_is_unusable_and_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = taught("er")
    learner.save(tmp_path / "learner")
    good = checkpoint.read(tmp_path / "learner")

    class Stuck(Savepoint):
        def go_back(self) -> None:
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "Savepoint", Stuck)
        with pytest.raises(TrainingError, match="out of memory"):
            learner.observe(torch.rand(3, FEATURES), [0] * 2 + [{}])
    calls: list[Callable[[], object]] = [
        lambda: learner.observe(torch.rand(3, FEATURES), [0, 1, 0]),
        lambda: learner.predict(torch.rand(3, FEATURES)),
        lambda: learner.evaluate(torch.rand(1, FEATURES), [0]),
        lambda: learner.forget(lambda sample, label: True),
        lambda: learner.save(tmp_path / "learner"),
        lambda: copy.deepcopy(learner),
    ]
    for call in calls:
        with pytest.raises(TrainingError, match=r"stopped in the middle of a change .* as it was saved last"):
            call()
    assert same(checkpoint.read(tmp_path / "learner"), good)
