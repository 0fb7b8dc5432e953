"""Class-incremental streams: every task brings classes that were not there before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from synergy.errors import UsageError
from synergy.options import option
from synergy.randomness import generator
from synergy.scenarios.base import Scenario, ScenarioConfig, StreamSetting
from synergy.types import ProtocolName, Split, Task


@dataclass(frozen=True)
class SplitConfig(ScenarioConfig):
    """Options of a split stream."""

    n_tasks: int = option(5, "tasks of equally many classes", low=1)
    class_order_seed: int | None = option(None, "shuffles the order of the classes; by default the labels' own", low=0)


class SplitScenario(Scenario[SplitConfig]):
    """The classes in order, `n_classes / n_tasks` new ones in each task.

    Labels are not renumbered: label k stays output k, and a task's classes are those whose turn it is.

    Reference: van de Ven & Tolias 2019, "Three scenarios for continual learning".

    Raises:
        UsageError: the tasks do not divide the classes, or a class has no samples in the source.
    """

    Config = SplitConfig
    protocols: ClassVar[tuple[ProtocolName, ...]] = ("class-IL", "task-IL")

    def __init__(self, config: SplitConfig, setting: StreamSetting) -> None:
        super().__init__(config, setting)
        if self.n_classes % config.n_tasks:
            divisors = [str(n) for n in range(1, self.n_classes + 1) if self.n_classes % n == 0]
            raise UsageError(
                f"n_tasks: given {config.n_tasks}; allowed: a divisor of the {self.n_classes} classes of {self.name}: "
                + ", ".join(divisors)
            )
        for split, where in ((self.train, "training"), (self.test, "test")):
            missing = sorted(set(split.classes) - set(split.labels.unique().tolist()))
            if missing:
                raise UsageError(f"{self.name}: class {missing[0]} has no {where} samples in the source {self.dataset}")

    @property
    def n_tasks(self) -> int:
        return self.config.n_tasks

    def task(self, index: int) -> Task:
        samples = self._part(self.train, index)
        order = self.shuffled(str(index), len(samples), drop_last=True)
        return Task(index, samples, order, earlier=self.earlier(index))

    def tests(self, after: int) -> Sequence[Split]:
        return self._tests

    @cached_property
    def class_order(self) -> tuple[int, ...]:
        """The classes in the order of their appearance."""
        classes = self.train.classes
        if self.config.class_order_seed is None:
            return classes
        shuffled = generator(self.config.class_order_seed, "class order").permutation(len(classes))
        return tuple(classes[i] for i in shuffled)

    def _classes(self, index: int) -> tuple[int, ...]:
        size = self.n_classes // self.n_tasks
        return tuple(sorted(self.class_order[index * size : (index + 1) * size]))

    def _part(self, split: Split, index: int) -> Split:
        classes = self._classes(index)
        chosen: Tensor = torch.isin(split.labels, torch.tensor(classes, device=split.labels.device))
        return split.select(chosen.nonzero()[:, 0], classes)

    @cached_property
    def _tests(self) -> list[Split]:
        return [self._part(self.test, index) for index in range(self.n_tasks)]


class SplitMnist(SplitScenario):
    """Split MNIST: five tasks of two digits."""

    name = "seq-mnist"
    dataset = "mnist"
    default_batch_size = 10


class SplitDigits(SplitScenario):
    """The same over the bundled 8x8 digits."""

    name = "seq-digits"
    dataset = "digits"
    default_batch_size = 10
