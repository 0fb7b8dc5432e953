"""The contract checks over every method and every digits scenario, and that they can fail."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from synergy import testing
from synergy.methods import METHODS, method_class
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.runs.prepare import check_compatible
from synergy.scenarios import SCENARIOS, scenario_class
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.scenarios.split import SplitConfig, SplitDigits
from synergy.state import State
from synergy.types import Batch, Losses, Predictor, Split, Step, Task

DIGITS = [name for name in SCENARIOS if name.endswith("-digits")]
SMALL: dict[str, Any] = {"buffer_size": 20, "minibatch_size": 8, "fitting_epochs": 4, "batch_num": 2}
"""A memory that overflows, and update probabilities between never and always, in a few steps."""


def compatible(method: str, scenario: str) -> bool:
    """Whether the method answers under a protocol that the scenario is judged under."""
    return not method_class(method).protocols.isdisjoint(scenario_class(scenario).protocols)


PAIRS = [pair for pair in itertools.product(METHODS, DIGITS) if compatible(*pair)]


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_every_method_on_every_digits_scenario(method: str, name: str) -> None:
    kind = method_class(method)
    stream = testing.scenario(name, batch_size=kind.only_batch_size or 8, options={"n_tasks": 2})
    check_compatible(method, kind, name, type(stream))
    options = SMALL | {"fisher_update_freq": 0.5, "stable_model_update_freq": 0.5}
    config = kind.Config(**{key: value for key, value in options.items() if key in kind.Config.names()})
    testing.check_method(kind, config, stream)


@pytest.mark.parametrize("name", DIGITS)
def test_every_digits_scenario(name: str) -> None:
    testing.check_scenario(lambda seed: testing.scenario(name, seed=seed))


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


def check(kind: type[Sound]) -> None:
    testing.check_method(kind, kind.Config(), testing.scenario("seq-digits", options={"n_tasks": 2}))


def test_a_sound_method_passes() -> None:
    check(Sound)
    check(Telling)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (ManyLosses, r"loss 'loss' is not a scalar but of shape \(2,\)"),
        (Attached, "loss 'loss' is not detached"),
        (NoNumber, "loss 'penalty' is nan"),
        (NoSum, r"the losses \['ce'\] have no sum called 'loss'"),
        (Meddler, "observe changed the batch it was given"),
        (Silent, "outputs_of is 'working', the step returned NoneType"),
        (Unannounced, "outputs_of is None, the step returned Tensor"),
        (Misnamed, r"outputs_of is 'semantic', the predictors \['working'\]"),
        (Short, "7 outputs were returned for a batch of 8"),
        (Late, "the outputs that were returned are not what 'working' said before the step"),
        (Mute, "a trained method has no predictor"),
        (OtherShape, r"'working' answers with shape \(5, 3\), expected \(5, 10\)"),
        (WithGradient, "'working' answers with a gradient attached"),
        (Blind, "'working' answers with what is no number"),
        (Moody, "'working' answers otherwise when asked again"),
        (Crowded, "'working' answers by what else is in the batch"),
        (Learns, "predicting changed the method"),
        (Unseeded, "the same seed gave other weights or another state"),
        (Forgetful, "a restored state is not the one that was saved"),
        (Secretive, "a method that was saved and restored went on otherwise"),
        (GlobalTorch, "a global random generator was used"),
        (GlobalNumpy, "a global random generator was used"),
        (GlobalPython, "a global random generator was used"),
    ],
)
def test_a_broken_method_is_found_out(kind: type[Sound], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(kind)


class SoundStream(SplitDigits):
    """Sound; each scenario below breaks one clause of the contract by what it makes of a task or the tests."""

    def task(self, index: int) -> Task:
        return self.broken(super().task(index))

    def broken(self, task: Task) -> Task:
        return task

    def remade(self, task: Task, **changes: Any) -> Task:
        usual = {"index": task.index, "samples": task.train(), "order": task.order, "earlier": task.earlier}
        parts: dict[str, Any] = usual | changes
        return Task(**parts)


class Misnumbered(SoundStream):
    def broken(self, task: Task) -> Task:
        return self.remade(task, index=task.index + 1)


class LooksAhead(SoundStream):
    def broken(self, task: Task) -> Task:
        return self.remade(task, earlier=lambda: [SplitDigits.task(self, i) for i in range(self.n_tasks)])


class Repeats(SoundStream):
    def broken(self, task: Task) -> Task:
        return self.remade(task, order=lambda epoch: [*task.order(epoch), task.order(epoch)[0]])


class Floats(SoundStream):
    def broken(self, task: Task) -> Task:
        return self.remade(task, transform=lambda raw, _: raw.float())


class NarrowLabels(SoundStream):
    def broken(self, task: Task) -> Task:
        samples = task.train()
        return self.remade(task, samples=Split(samples.raw, samples.labels.int(), samples.classes))


class LargeBatches(SoundStream):
    def broken(self, task: Task) -> Task:
        return self.remade(task, order=lambda epoch: [torch.cat(list(task.order(epoch)[:2]))])


class ForeignLabels(SoundStream):
    def broken(self, task: Task) -> Task:
        samples = task.train()
        return self.remade(task, samples=Split(samples.raw, (samples.labels + 1) % 10, samples.classes))


class NoSuchOutput(SoundStream):
    def broken(self, task: Task) -> Task:
        samples = task.train()
        return self.remade(task, samples=Split(samples.raw, samples.labels, (*samples.classes, 10)))


class Restless(SoundStream):
    """Another order whenever it is asked."""

    def broken(self, task: Task) -> Task:
        rng = np.random.default_rng()
        return self.remade(task, order=lambda epoch: [o[rng.permutation(len(o))] for o in task.order(epoch)])


class Drifting(SoundStream):
    """Another order every time a task is made; the same within it."""

    def broken(self, task: Task) -> Task:
        epoch_of_its_own = int(np.random.default_rng().integers(1, 2**31))
        return self.remade(task, order=lambda epoch: task.order(epoch_of_its_own))


class Reborn(SoundStream):
    """Another stream every time it is built, whatever the seed."""

    def __init__(self, config: SplitConfig, setting: StreamSetting) -> None:
        super().__init__(config, replace(setting, seed=int(np.random.default_rng().integers(2**31))))


class Seedless(SoundStream):
    def __init__(self, config: SplitConfig, setting: StreamSetting) -> None:
        super().__init__(config, replace(setting, seed=0))


class Shaken(SoundStream):
    def broken(self, task: Task) -> Task:
        torch.rand(1)
        return task


class GrowingTests(SoundStream):
    def tests(self, after: int) -> Sequence[Split]:
        return super().tests(after)[: max(after, 0) + 1]


class EmptyTest(SoundStream):
    def tests(self, after: int) -> Sequence[Split]:
        return [split.select(torch.arange(0)) for split in super().tests(after)]


class ForeignTest(SoundStream):
    def tests(self, after: int) -> Sequence[Split]:
        return [Split(split.raw, split.labels, (0,)) for split in super().tests(after)]


def check_stream(kind: type[SoundStream]) -> None:
    def build(seed: int) -> AnyScenario:
        usual = testing.scenario("seq-digits", seed=seed)
        return kind(usual.config, usual.setting)

    testing.check_scenario(build)


def test_a_sound_scenario_passes() -> None:
    check_stream(SoundStream)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (Misnumbered, "task 0 calls itself 1"),
        (LooksAhead, r"the tasks before task 0 are given as \[0, 1, 2, 3, 4\]"),
        (Repeats, "task 0 shows a sample twice in an epoch"),
        (Floats, r"raw samples are torch\.float32, expected uint8"),
        (NarrowLabels, r"labels are torch\.int32, expected int64"),
        (LargeBatches, "a batch of 16 samples"),
        (ForeignLabels, "task 0 shows a label that is not its own"),
        (NoSuchOutput, "a label without an output"),
        (Restless, "entering the stream at a batch gave another batch"),
        (Drifting, "the same scenario gave another stream the second time"),
        (Reborn, "the same seed gave another stream"),
        (Seedless, "another seed gave the same stream"),
        (Shaken, "a global random generator was used"),
        (GrowingTests, r"the number of test splits changes over time: \[1, 2, 3, 4, 5\]"),
        (EmptyTest, "a test split without samples"),
        (ForeignTest, "a test label that is not one of the split's classes"),
    ],
)
def test_a_broken_scenario_is_found_out(kind: type[SoundStream], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_stream(kind)
