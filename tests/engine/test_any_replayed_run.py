"""Runs of any method, in any way to work, stopped anywhere: replayed they end with the bits of those computed anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import StepLR

from synergy import testing
from synergy.data.view import ImageView
from synergy.engine.optimizers import optimizer_maker, schedules
from synergy.engine.recorders import Recorder
from synergy.engine.worker import Means, Worker
from synergy.methods import method_class
from synergy.methods.base import make_method
from synergy.runs.training import Schedule, Stopped, Training
from synergy.state import State, same
from tests.engine.recording import Operations
from tests.engine.test_replay import AHEAD, OPTIONS
from tests.engine.test_replayed_work import plain

VIEW = replace(ImageView(), padding=1, flip=True)


def momentum(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=1e-3)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], float], torch.optim.Optimizer]] = {
    "plain": torch.optim.SGD,
    "momentum": momentum,
    "clipped": optimizer_maker(clip_norm=0.1),
}


@dataclass(frozen=True)
class Way:
    """How a run is made.

    Attributes:
        scenario: its last batches are dropped, or smaller than the others.
        precision: "fp32" or "bf16".
        optimizer: one of `OPTIMIZERS`.
        lr_every: steps after which the learning rate halves; 0 for never.
        dropout: whether the network draws.
        capacity: of the memory.
        steps: at most, of each of two tasks.
        save_every: steps between two checkpoints.
    """

    scenario: str = "seq-digits"
    precision: str = "fp32"
    optimizer: str = "plain"
    lr_every: int = 0
    dropout: bool = False
    capacity: int = 25
    steps: int = 17
    save_every: int = 5


WAYS = st.builds(
    Way,
    scenario=st.sampled_from(["seq-digits", "rot-digits"]),
    precision=st.sampled_from(["fp32", "bf16"]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    lr_every=st.sampled_from([0, 6]),
    dropout=st.booleans(),
    capacity=st.sampled_from([25, 60, 400]),
    steps=st.integers(1, 30),
    save_every=st.integers(3, 40),
)


UNDROPPED = ("pnn", "icarl", "lwf", "hal", "ncm", "slda", "ranpac")
"""Methods that ask their network for features or for its head."""
UNSCHEDULED = ("joint", "pnn", "ncm", "slda", "ranpac")
"""Methods without an optimiser that lasts from the first step to the last."""


def dropping(setting: Any) -> Callable[[str], nn.Module]:
    """The usual network behind dropout."""

    def build(name: str) -> nn.Module:
        return nn.Sequential(nn.Dropout(0.3), setting.build_net(name))

    return build


def training(name: str, way: Way, recorder: Recorder | None) -> tuple[Training, list[State]]:
    """A run, and where its checkpoints come."""
    kind = method_class(name)
    stream = testing.scenario(way.scenario, batch_size=kind.only_batch_size or 30)
    stream.view = VIEW
    options = {**OPTIONS, "buffer_size": way.capacity, "minibatch_size": 4}
    config = kind.Config(**{key: value for key, value in options.items() if key in kind.Config.names()})
    setting = replace(testing.setting(stream), view=VIEW)
    if not kind.plain_sgd_only:
        setting = replace(setting, make_optimizer=OPTIMIZERS[way.optimizer])
    draws = way.dropout and name not in UNDROPPED
    if draws:
        setting = replace(setting, build_net=dropping(setting))
    method = make_method(kind, config, setting, testing.budget(stream))
    halving = partial(StepLR, step_size=way.lr_every, gamma=0.5) if way.lr_every and name not in UNSCHEDULED else None
    worker = Worker(
        method,
        Means(torch.device("cpu"), way.precision),
        draws=draws,
        schedulers=schedules(method, halving, name),
        recorder=recorder,
    )
    kept: list[State] = []
    loop = Training(
        worker,
        stream,
        Schedule(n_epochs=2, max_tasks=2, max_steps_per_task=way.steps),
        seed=0,
        save=lambda each: kept.append(each.state_dict()),
        save_every=way.save_every,
    )
    return loop, kept


def ended(name: str, way: Way, recorder: Callable[[], Recorder | None], stop_after: int | None = None) -> State:
    """The state at the end of a run; one that is stopped after some steps is taken up by another one."""
    loop, kept = training(name, way, recorder())
    loop.should_stop = lambda: stop_after is not None and loop.steps >= stop_after
    try:
        loop.run()
    except Stopped:
        again, _ = training(name, way, recorder())
        again.load_state_dict(kept[-1])
        again.run()
        loop = again
    return plain(loop.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:every step is computed anew instead of replayed", "ignore:buffer_size")
@pytest.mark.parametrize("name", AHEAD)
@settings(max_examples=4)
@given(way=WAYS, stop_after=st.integers(1, 40))
def test_a_run_in_any_way(name: str, way: Way, stop_after: int) -> None:
    assert same(ended(name, way, lambda: None), ended(name, way, Operations, stop_after))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in ("synergy", "si") else pytest.mark.slow) for name in AHEAD],
)
def test_every_method_replays_in_every_precision(name: str, precision: str) -> None:
    recorder = Operations()
    anew, states = training(name, Way(precision=precision), None)
    replayed, again = training(name, Way(precision=precision), recorder)
    anew.run()
    replayed.run()
    assert recorder.made and replayed.worker.replays is not None and replayed.worker.replays.refusal is None
    assert len(states) == len(again) and all(
        same(plain(one), plain(other)) for one, other in zip(states, again, strict=True)
    )
