"""A method at work: what a step that fails leaves behind, and networks that draw random numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from synergy import testing
from synergy.engine.context import draws_in_training, step_context
from synergy.engine.optimizers import optimizer_maker, schedules
from synergy.engine.watch import LossWatch
from synergy.engine.worker import Means, Worker
from synergy.errors import TrainingError, UsageError
from synergy.methods import METHODS, method_class
from synergy.methods.base import MethodConfig, make_method
from synergy.methods.er import ER
from synergy.methods.sgd import FineTuning
from synergy.randomness import TorchRandomness
from synergy.runs.training import Schedule, Training
from synergy.state import same
from synergy.types import Batch, Step
from tests.methods import small

CPU = torch.device("cpu")


def test_a_network_that_draws_is_noticed_and_repeats() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, small.CLASSES)).double()
    inputs = small.batch(1).inputs
    randomness = TorchRandomness(0, "test", CPU)
    assert draws_in_training(net, inputs, randomness) and not draws_in_training(net[2:], inputs.flatten(1), randomness)
    theirs = torch.get_rng_state()
    states = []
    for _ in range(2):
        method = FineTuning(MethodConfig(), small.setting(build_net=lambda _: net))
        worker = Worker(method, Means(CPU), draws=True)
        start = {name: value.clone() for name, value in net.state_dict().items()}
        for seed in range(3):
            worker.step(small.batch(seed))
        states.append(method.state_dict())
        with torch.no_grad():
            for name, value in net.state_dict().items():
                value.copy_(start[name])
    assert same(states[0], states[1])
    assert torch.equal(torch.get_rng_state(), theirs)


def test_the_watch_names_step_and_term() -> None:
    watch = LossWatch("batch", "lower lr")
    watch.add(1, {"loss": torch.tensor(1.0), "ce": torch.tensor(0.5)})
    watch.add(2, {})
    assert watch.waiting == 2 and watch.look() == {"loss": 1.0, "ce": 0.5} and watch.waiting == 0
    watch.add(3, {"loss": torch.tensor(torch.nan), "ce": torch.tensor(1.0), "penalty": torch.tensor(torch.inf)})
    watch.add(4, {"loss": torch.tensor(torch.nan)})
    with pytest.raises(TrainingError, match="'penalty' became inf at batch 3; lower lr"):
        watch.look()


def test_gradients_are_clipped_to_a_norm() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.full((4,), 10.0)
    optimizer_maker(clip_norm=0.5)([parameter], 1.0).step()
    assert parameter.norm().item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("factory", "complaint"),
    [
        (lambda parameters: 3, "optimizer: it made a int"),
        (lambda parameters: torch.optim.LBFGS(parameters), "optimizer: it made a LBFGS"),
        (lambda parameters: torch.optim.Adam([nn.Parameter(torch.zeros(1))]), "other parameters"),
    ],
)
def test_an_optimiser_that_cannot_work_is_refused(factory: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        optimizer_maker(factory)([nn.Parameter(torch.zeros(1))], 0.1)


def test_a_schedule_for_each_optimiser() -> None:
    method = ER(ER.Config(buffer_size=9, minibatch_size=4, lr=1.0), small.setting())
    worker = Worker(
        method,
        Means(CPU),
        schedulers=schedules(method, lambda o: torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.5), "er"),
    )
    for seed in range(2):
        worker.step(small.batch(seed))
        worker.schedule()
    assert method.optimizer.param_groups[0]["lr"] == 0.25
    with pytest.raises(UsageError, match="scheduler: it made a int"):
        schedules(method, lambda optimizer: 3, "er")  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", METHODS)
def test_a_schedule_acts_on_every_optimiser_or_is_refused(name: str) -> None:
    """PyTorch warns, and so fails the test, if an optimiser takes no step before its schedule does."""
    kind = method_class(name)
    stream = testing.scenario("seq-digits", batch_size=kind.only_batch_size or 10)
    known = {"buffer_size": 20, "minibatch_size": 4, "lr": 0.1}
    config = kind.Config(**{option: value for option, value in known.items() if option in kind.Config.names()})
    method = make_method(kind, config, testing.setting(stream), testing.budget(stream))
    try:
        schedulers = schedules(method, lambda optimizer: StepLR(optimizer, 1, gamma=0.5), name)
    except UsageError as error:
        assert re.fullmatch(rf"scheduler: given for {name}, which .*; allowed: none", str(error))
        assert name in ("gdumb", "joint", "ncm", "pnn", "ranpac", "slda")
        return
    worker = Worker(method, Means(CPU), schedulers=schedulers)
    Training(worker, stream, Schedule(n_epochs=1, max_tasks=2, max_steps_per_task=2), seed=0).run()
    optimizers = [part for part in vars(method).values() if isinstance(part, torch.optim.Optimizer)]
    rates = [group["lr"] / group["initial_lr"] for each in optimizers for group in each.param_groups]
    assert rates == [0.5**4] * len(optimizers)


def test_a_method_of_one_batch_size_says_which() -> None:
    class Pairs(FineTuning):
        """Learns from pairs."""

        only_batch_size = 2

    worker = Worker(Pairs(MethodConfig(), small.setting()), Means(CPU))
    with pytest.raises(UsageError, match="given a batch of 6; allowed: 2"):
        worker.step(small.batch(1))
    assert isinstance(worker.step(Batch(*(part[:2] for part in vars(small.batch(1)).values()))), Step)


def test_nothing_is_entered_where_nothing_is_needed() -> None:
    with step_context("fp32", CPU, None)():
        assert not torch.is_autocast_enabled("cpu")
    with step_context("bf16", CPU, None)():
        assert torch.is_autocast_enabled("cpu")
