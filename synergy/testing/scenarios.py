"""Contract checks of a scenario: its tasks, its tests, and what they depend on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor

from synergy.scenarios.base import AnyScenario
from synergy.state import same
from synergy.testing.checks import Check, global_randomness_untouched, require, run_all
from synergy.types import Task

BATCHES = 3
"""Batches of each task that a check looks at."""
STORED = (torch.uint8, torch.float32, torch.int64)
"""Types of stored samples: pixels, features, tokens."""


def scenario_checks(build: Callable[[int], AnyScenario]) -> list[Check]:
    """The checks of a scenario, in order.

    Args:
        build: makes the scenario from a seed.

    Examples:
        >>> from synergy import testing
        >>> checks = scenario_checks(lambda seed: testing.scenario("seq-digits", seed=seed))
        >>> for check in checks[:2]:
        ...     print(check.name, "-", check.reason)
        ...     check()
        tasks - Every task knows its place in the stream and the tasks before it.
        epochs - An epoch shows every sample at most once.
    """
    return _ScenarioTrial(build).checks()


def check_scenario(build: Callable[[int], AnyScenario]) -> None:
    """Run all checks of a scenario.

    Args:
        build: makes the scenario from a seed.

    Raises:
        AssertionError: says which clause of the contract is broken.

    Examples:
        >>> from synergy import testing
        >>> check_scenario(lambda seed: testing.scenario("seq-digits", seed=seed))
    """
    run_all(scenario_checks(build))


class _ScenarioTrial:
    """The clauses of the contract, each a method that raises AssertionError if the scenario breaks it."""

    def __init__(self, build: Callable[[int], AnyScenario]) -> None:
        self.build = build

    def checks(self) -> list[Check]:
        return [
            Check("tasks", "Every task knows its place in the stream and the tasks before it.", self.tasks),
            Check("epochs", "An epoch shows every sample at most once.", self.epochs),
            Check(
                "samples",
                "Batches hold bytes or numbers, and int64 labels of the task's classes.",
                self.samples,
            ),
            Check("classes", "Every class has an output.", self.classes),
            Check("entering", "A stream entered at a batch goes on as one that came there.", self.entering),
            Check("tests", "The number of test splits stays; none is empty or has foreign labels.", self.tests),
            Check("repeats", "A scenario gives the same stream every time.", self.repeats),
            Check("same seed", "The same seed gives the same stream.", self.same_seed),
            Check("other seed", "Another seed gives another stream.", self.other_seed),
            Check("global randomness", "A scenario uses its own generators only.", self.global_randomness),
        ]

    @cached_property
    def scenario(self) -> AnyScenario:
        return self.build(1)

    def tasks(self) -> None:
        for index, task in enumerate(self._tasks()):
            require(task.index == index, f"task {index} calls itself {task.index}")
            earlier = [each.index for each in task.earlier()]
            require(earlier == list(range(index)), f"the tasks before task {index} are given as {earlier}")

    def epochs(self) -> None:
        for task in self._tasks():
            used = torch.cat(list(task.order(0)))
            require(len(used.unique()) == len(used), f"task {task.index} shows a sample twice in an epoch")

    def samples(self) -> None:
        most = self.scenario.setting.batch_size
        for task in self._tasks():
            for raw, labels in itertools.islice(task.batches(0), BATCHES):
                require(raw.dtype in STORED, f"raw samples are {raw.dtype}, expected uint8, float32 or int64")
                require(labels.dtype == torch.int64, f"labels are {labels.dtype}, expected int64")
                right = 0 < len(labels) == len(raw) <= most
                require(right, f"a batch of {len(raw)} samples with {len(labels)} labels, expected 1 to {most} of both")
                foreign = set(labels.tolist()) - set(task.classes)
                require(not foreign, f"task {task.index} shows the labels {sorted(foreign)}, which are not its own")

    def classes(self) -> None:
        for task in self._tasks():
            highest, outputs = max(task.classes), self.scenario.n_classes
            require(highest < outputs, f"task {task.index} has the class {highest}, the network {outputs} outputs")

    def entering(self) -> None:
        for task in self._tasks():
            middle = len(task.order(0)) // 2
            entered, passed = task.batches(0, start=middle), itertools.islice(task.batches(0), middle, None)
            require(same(list(next(entered)), list(next(passed))), f"task {task.index}, entered at batch {middle}")

    def tests(self) -> None:
        counts = {len(self.scenario.tests(after)) for after in range(-1, self.scenario.n_tasks)}
        require(len(counts) == 1, f"the number of test splits changes over time: {sorted(counts)}")
        for number, split in enumerate(self.scenario.tests(self.scenario.n_tasks - 1)):
            require(len(split) > 0, f"test split {number} has no samples")
            foreign = set(split.labels.tolist()) - set(split.classes)
            require(not foreign, f"test split {number} has the labels {sorted(foreign)}, which are not its own")

    def repeats(self) -> None:
        right = same(_beginning(self.scenario), _beginning(self.scenario))
        require(right, "the same scenario gave another stream the second time")

    def same_seed(self) -> None:
        right = same(_beginning(self.scenario), _beginning(self.build(1)))
        require(right, "the same seed gave another stream")

    def other_seed(self) -> None:
        right = not same(_beginning(self.scenario), _beginning(self.build(2)))
        require(right, "another seed gave the same stream")

    def global_randomness(self) -> None:
        with global_randomness_untouched():
            scenario = self.build(1)
            _beginning(scenario)
            scenario.tests(scenario.n_tasks - 1)

    def _tasks(self) -> Iterator[Task]:
        return map(self.scenario.task, range(self.scenario.n_tasks))


def _beginning(of: AnyScenario) -> list[Tensor]:
    """The first batches of every task."""
    tasks = (of.task(index) for index in range(of.n_tasks))
    return [part for task in tasks for batch in itertools.islice(task.batches(0), BATCHES) for part in batch]
