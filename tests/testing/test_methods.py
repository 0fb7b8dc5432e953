"""The checks of a method pass for those of the library, and each finds the method that breaks its clause."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from synergy import testing
from synergy.methods import METHODS, method_class
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.runs.fitting import check_compatible
from synergy.scenarios import SCENARIOS, scenario_class
from synergy.state import State
from synergy.types import Batch, Losses, Predictor, Step

DIGITS = [name for name in SCENARIOS if name.endswith("-digits")]
SMALL: dict[str, Any] = {"buffer_size": 20, "minibatch_size": 8, "fitting_epochs": 4, "batch_num": 2}
"""A memory that overflows, and update probabilities between never and always, in a few steps."""


def compatible(method: str, scenario: str) -> bool:
    """Whether the method answers under a protocol that the scenario is judged under."""
    return not method_class(method).protocols.isdisjoint(scenario_class(scenario).protocols)


PAIRS = [pair for pair in itertools.product(METHODS, DIGITS) if compatible(*pair)]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_every_method_on_every_digits_scenario(method: str, name: str) -> None:
    kind = method_class(method)
    stream = testing.scenario(name, batch_size=kind.only_batch_size or 8, options={"n_tasks": 2})
    check_compatible(method, kind, name, type(stream))
    options = SMALL | {"fisher_update_freq": 0.5, "stable_model_update_freq": 0.5}
    config = kind.Config(**{key: value for key, value in options.items() if key in kind.Config.names()})
    testing.check_method(kind, config, stream)


class Sound(Method[ReplayConfig]):
    """Passes every check. Each method below breaks one clause of the contract, and is otherwise this one."""

    Config = ReplayConfig

    def __init__(self, config: ReplayConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=config.lr, momentum=0.9)
        self.rng = setting.rng("noise")
        self.steps = 0

    def decide(self, n: int) -> Tensor:
        self.steps += 1
        return torch.from_numpy(self.noise(n))

    def compute(self, batch: Batch, now: Tensor) -> Step:
        outputs = self.net(batch.inputs)
        loss = F.cross_entropy(self.net(batch.inputs + now.to(batch.inputs)[:, None, None, None] / 10), batch.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return Step(self.told(loss), self.returned(outputs.detach()))

    def noise(self, n: int) -> np.ndarray[Any, Any]:
        return self.rng.random(n)

    def told(self, loss: Tensor) -> Losses:
        return {"loss": loss.detach()}

    def returned(self, outputs: Tensor) -> Tensor | None:
        return None

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}


class ManyLosses(Sound):
    def told(self, loss: Tensor) -> Losses:
        return {"loss": loss.detach().expand(2)}


class Attached(Sound):
    def told(self, loss: Tensor) -> Losses:
        return {"loss": loss}


class NoNumber(Sound):
    def told(self, loss: Tensor) -> Losses:
        return {"loss": loss.detach(), "penalty": torch.tensor(math.nan)}


class NoSum(Sound):
    def told(self, loss: Tensor) -> Losses:
        return {"ce": loss.detach()}


class Meddler(Sound):
    def compute(self, batch: Batch, now: Tensor) -> Step:
        step = super().compute(batch, now)
        batch.inputs.mul_(0.5)
        return step


class Telling(Sound):
    """Sound too."""

    outputs_of = "working"

    def returned(self, outputs: Tensor) -> Tensor | None:
        return outputs


class Silent(Sound):
    outputs_of = "working"


class Unannounced(Sound):
    def returned(self, outputs: Tensor) -> Tensor | None:
        return outputs


class Misnamed(Telling):
    outputs_of = "semantic"


class Short(Telling):
    def returned(self, outputs: Tensor) -> Tensor | None:
        return outputs[1:]


class Late(Telling):
    def compute(self, batch: Batch, now: Tensor) -> Step:
        step = super().compute(batch, now)
        return Step(step.losses, self.net(batch.inputs).detach())


class Mute(Sound):
    def predictors(self) -> dict[str, Predictor]:
        return {}


class OtherShape(Sound):
    def predictors(self) -> dict[str, Predictor]:
        return {"working": lambda inputs: Answer(self.net)(inputs)[:, :3]}


class WithGradient(Sound):
    def predictors(self) -> dict[str, Predictor]:
        return {"working": self.net}


class Blind(Sound):
    def predictors(self) -> dict[str, Predictor]:
        return {"working": lambda inputs: torch.full((len(inputs), 10), math.nan)}


class Moody(Sound):
    def predictors(self) -> dict[str, Predictor]:
        moods = itertools.count()
        return {"working": lambda inputs: Answer(self.net)(inputs) + next(moods)}


class Crowded(Sound):
    def predictors(self) -> dict[str, Predictor]:
        return {"working": lambda inputs: Answer(self.net)(inputs) - inputs.mean()}


class Learns(Sound):
    def predictors(self) -> dict[str, Predictor]:
        def answer(inputs: Tensor, /) -> Tensor:
            self.steps += 1
            return Answer(self.net)(inputs)

        return {"working": answer}


class Unseeded(Sound):
    def noise(self, n: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng().random(n)


class Forgetful(Sound):
    def load_state_dict(self, state: State) -> None:
        self.net.load_state_dict(state["net"])


class Secretive(Sound):
    """Keeps its momentum to itself."""

    def _state(self) -> dict[str, Any]:
        return {name: value for name, value in super()._state().items() if name != "optimizer"}


class GlobalTorch(Sound):
    def noise(self, n: int) -> np.ndarray[Any, Any]:
        torch.rand(1)
        return super().noise(n)


class GlobalNumpy(Sound):
    def noise(self, n: int) -> np.ndarray[Any, Any]:
        np.random.rand()
        return super().noise(n)


class GlobalPython(Sound):
    def noise(self, n: int) -> np.ndarray[Any, Any]:
        random.random()
        return super().noise(n)


class Counting(Sound):
    """Computes with a counter of the host."""

    def told(self, loss: Tensor) -> Losses:
        return {"loss": loss.detach() * self.steps}


class Referring(Sound):
    """Learns each batch together with the one before, of which it keeps no copy."""

    def __init__(self, config: ReplayConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.last = torch.zeros(0)

    def compute(self, batch: Batch, now: Tensor) -> Step:
        inputs = batch.inputs if not len(self.last) else (batch.inputs + self.last) / 2
        self.last = batch.inputs
        return super().compute(Batch(batch.raw, inputs, batch.labels), now)


class Waiting(Counting):
    waits = "it counts"


def checks(kind: type[Sound]) -> list[testing.Check]:
    return testing.method_checks(kind, kind.Config(), testing.scenario("seq-digits", options={"n_tasks": 2}))


def check(kind: type[Sound]) -> None:
    testing.check_method(kind, kind.Config(), testing.scenario("seq-digits", options={"n_tasks": 2}))


def test_a_sound_method_passes() -> None:
    check(Sound)
    check(Telling)


BROKEN: list[tuple[type[Sound], str, str]] = [
    (ManyLosses, "losses", r"'loss' .* \(2,\)"),
    (Attached, "losses", "'loss' is not detached"),
    (NoNumber, "losses", "'penalty' is nan"),
    (NoSum, "losses", r"\['ce'\]"),
    (Meddler, "batch", "changed its batch"),
    (Silent, "outputs", "outputs_of is 'working', a step returned NoneType"),
    (Unannounced, "outputs", "outputs_of is None, a step returned Tensor"),
    (Misnamed, "outputs", r"outputs_of is 'semantic', the predictors \['working'\]"),
    (Short, "outputs", "7 outputs for a batch of 8"),
    (Late, "outputs", "'working' before the step"),
    (Mute, "scores", "no predictor"),
    (OtherShape, "scores", r"'working' .* \(5, 3\), expected \(5, 10\)"),
    (WithGradient, "scores", "'working' .* gradient attached"),
    (Blind, "scores", "'working' gives NaN"),
    (Moody, "answers again", "'working'"),
    (Crowded, "answers alone", "'working'"),
    (Learns, "answers only", "changed the method"),
    (Unseeded, "same seed", "other weights"),
    (Forgetful, "restored", "the one that was saved"),
    (Secretive, "resumed", "otherwise"),
    (GlobalTorch, "global randomness", "global"),
    (GlobalNumpy, "global randomness", "global"),
    (GlobalPython, "global randomness", "global"),
    (Counting, "decides ahead", "step 1 gave other losses"),
    (Referring, "static buffers", "it holds other tensors after every step"),
]


@pytest.mark.parametrize(("kind", "name", "complaint"), BROKEN)
def test_a_broken_method_is_found_out(kind: type[Sound], name: str, complaint: str) -> None:
    check = {check.name: check for check in checks(kind)}[name]
    with pytest.raises(AssertionError, match=f"^{name}: .*{complaint}"):
        check()


def test_steps_that_refer_to_their_batch_can_be_decided_ahead() -> None:
    {check.name: check for check in checks(Referring)}["decides ahead"]()


def test_a_method_that_waits_is_spared_decisions_ahead() -> None:
    names = [check.name for check in checks(Waiting)]
    assert len(names) == 11 and "decides ahead" not in names
    check(Waiting)


def test_checks_have_names_of_their_own_and_a_sentence_each() -> None:
    found = checks(Sound)
    assert len({check.name for check in found}) == len(found) == 13
    assert all(check.reason.endswith(".") and "\n" not in check.reason for check in found)
