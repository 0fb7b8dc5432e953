"""The checks of a scenario pass for those of the library, and each finds the scenario that breaks its clause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from synergy import testing
from synergy.scenarios import SCENARIOS
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.scenarios.split import SplitConfig, SplitDigits
from synergy.types import Split, Task

DIGITS = [name for name in SCENARIOS if name.endswith("-digits")]


@pytest.mark.parametrize("name", DIGITS)
def test_every_digits_scenario(name: str) -> None:
    testing.check_scenario(lambda seed: testing.scenario(name, seed=seed))


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


class Doubles(SoundStream):
    def broken(self, task: Task) -> Task:
        return self.remade(task, transform=lambda raw, _: raw.double())


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


def builder(kind: type[SoundStream]) -> Callable[[int], AnyScenario]:
    def build(seed: int) -> AnyScenario:
        usual = testing.scenario("seq-digits", seed=seed)
        return kind(usual.config, usual.setting)

    return build


def checks(kind: type[SoundStream]) -> list[testing.Check]:
    return testing.scenario_checks(builder(kind))


def test_a_sound_scenario_passes() -> None:
    testing.check_scenario(builder(SoundStream))


BROKEN: list[tuple[type[SoundStream], str, str]] = [
    (Misnumbered, "tasks", "task 0 calls itself 1"),
    (LooksAhead, "tasks", r"before task 0 .* \[0, 1, 2, 3, 4\]"),
    (Repeats, "epochs", "task 0 shows a sample twice"),
    (Doubles, "samples", r"torch\.float64, expected uint8, float32 or int64"),
    (NarrowLabels, "samples", r"torch\.int32, expected int64"),
    (LargeBatches, "samples", "a batch of 16 samples"),
    (ForeignLabels, "samples", "task 0 shows the labels"),
    (NoSuchOutput, "classes", "class 10, the network 10 outputs"),
    (Restless, "entering", "task 0, entered at batch"),
    (Drifting, "repeats", "second time"),
    (Reborn, "same seed", "another stream"),
    (Seedless, "other seed", "the same stream"),
    (Shaken, "global randomness", "global"),
    (GrowingTests, "tests", r"\[1, 2, 3, 4, 5\]"),
    (EmptyTest, "tests", "test split 0 has no samples"),
    (ForeignTest, "tests", r"test split 0 has the labels \[1\]"),
]


@pytest.mark.parametrize(("kind", "name", "complaint"), BROKEN)
def test_a_broken_scenario_is_found_out(kind: type[SoundStream], name: str, complaint: str) -> None:
    check = {check.name: check for check in checks(kind)}[name]
    with pytest.raises(AssertionError, match=f"^{name}: .*{complaint}"):
        check()


def test_checks_have_names_of_their_own_and_a_sentence_each() -> None:
    found = checks(SoundStream)
    assert len({check.name for check in found}) == len(found) == 10
    assert all(check.reason.endswith(".") and "\n" not in check.reason for check in found)
