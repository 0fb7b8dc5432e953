"""Runs in bf16 whose weights are cast together end with the bits of runs whose weights autocast casts one by one."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from synergy import Learner
from synergy.engine import context, worker
from synergy.engine.context import weights_together
from synergy.engine.recorders import Recorder
from synergy.methods import METHODS
from synergy.ops.shadow import Shadowed
from synergy.runs.training import Training
from synergy.state import same
from tests.engine.recording import Operations
from tests.engine.test_replayed_work import plain, run

QUICK = ("synergy", "derpp", "hal", "agem")


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[Shadowed]:
    """All that is entered from now on."""
    made: list[Shadowed] = []

    class Watched(Shadowed):
        def __enter__(self) -> Watched:
            made.append(self)
            return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    monkeypatch.setattr(context, "Shadowed", Watched)
    return made


def trained(name: str, recorder: Recorder | None = None) -> Training:
    loop, _ = run(name, recorder, precision="bf16")
    loop.run()
    return loop


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in METHODS]
)
def test_a_run(name: str, copies: list[Shadowed], monkeypatch: pytest.MonkeyPatch) -> None:
    together = trained(name)
    assert copies
    monkeypatch.setattr(worker, "weights_together", lambda precision, method: nullcontext)
    assert same(plain(trained(name).state_dict()), plain(together.state_dict()))


def test_a_replayed_run(copies: list[Shadowed], monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = trained("clser", Operations())
    assert replayed.worker.replays is not None and replayed.worker.replays.refusal is None and copies
    monkeypatch.setattr(worker, "weights_together", lambda precision, method: nullcontext)
    assert same(plain(trained("clser").state_dict()), plain(replayed.state_dict()))


def test_a_learner_that_grows_and_answers(copies: list[Shadowed], monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for _ in range(2):
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        with torch.no_grad():
            for number, parameter in enumerate(net.parameters()):
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape) / (number + 1))
        learner = Learner(net, "synergy", buffer_size=12, minibatch_size=4, precision="bf16")
        samples = torch.linspace(0, 1, 24).view(6, 4)
        for labels in ([0, 1] * 3, [0, 1, 2] * 2):
            learner.observe(samples, labels)
        states.append(learner.scores(samples))
        assert copies
        monkeypatch.setattr(worker, "weights_together", lambda precision, method: nullcontext)
    assert torch.equal(*states)


def test_only_bf16_casts_weights() -> None:
    method = trained("sgd").method
    assert isinstance(weights_together("bf16", method)(), Shadowed)
    assert not any(isinstance(weights_together(each, method)(), Shadowed) for each in ("fp32", "tf32"))
