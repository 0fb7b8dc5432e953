"""Class-incremental streams: every task brings new classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from synergy.data.view import CIFAR, TINY_IMAGENET
from synergy.errors import UsageError
from synergy.options import option
from synergy.randomness import generator
from synergy.scenarios.base import Scenario, ScenarioConfig, StreamSetting
from synergy.types import ProtocolName, Split, Task


@dataclass(frozen=True)
class SplitConfig(ScenarioConfig):
    """Options of a split stream.

    Examples:
        >>> SplitConfig(n_tasks=2).as_mapping()
        {'n_tasks': 2}
    """

    n_tasks: int = option(5, "tasks of equally many classes", low=1)
    class_order_seed: int | None = option(
        None, "shuffles the order of the classes; by default that of the labels", low=0
    )


class SplitScenario(Scenario[SplitConfig]):
    """The classes in order, `n_classes / n_tasks` new ones in each task.

    Label k stays output k, whatever the order of the classes.

    Reference: van de Ven & Tolias 2019, "Three scenarios for continual learning".

    Raises:
        UsageError: the number of tasks does not divide the number of classes.

    Examples:
        >>> from synergy import testing
        >>> stream = testing.scenario("seq-digits", options={"class_order_seed": 1})
        >>> [stream.task(index).classes for index in range(stream.n_tasks)]
        [(2, 6), (1, 5), (0, 7), (4, 8), (3, 9)]
    """

    Config = SplitConfig
    protocols: tuple[ProtocolName, ...] = ("class-IL", "task-IL")

    def __init__(self, config: SplitConfig, setting: StreamSetting) -> None:
        super().__init__(config, setting)
        if self.n_classes % config.n_tasks:
            divisors = [str(n) for n in range(1, self.n_classes + 1) if self.n_classes % n == 0]
            raise UsageError(
                f"n_tasks: given {config.n_tasks}; allowed: a divisor of the {self.n_classes} classes of {self.name}: "
                + ", ".join(divisors)
            )

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


@dataclass(frozen=True)
class TenTasksConfig(SplitConfig):
    """The same with ten tasks by default.

    Examples:
        >>> TenTasksConfig().n_tasks
        10
    """

    n_tasks: int = option(10, "tasks of equally many classes", low=1)


class SplitImages(SplitScenario):
    """Colour images, learned by a ResNet-18.

    Examples:
        >>> SplitImages.default_net, SplitImages.default_epochs
        ('resnet18', 50)
    """

    default_batch_size = 32
    default_epochs = 50
    default_net = "resnet18"


class SplitMnist(SplitScenario):
    """Split MNIST: five tasks of two digits.

    Examples:
        >>> SplitMnist.dataset, SplitMnist.Config().n_tasks
        ('mnist', 5)
    """

    name = "seq-mnist"
    dataset = "mnist"
    default_batch_size = 10


class SplitDigits(SplitScenario):
    """Split MNIST over the bundled digits of 8x8 pixels.

    Examples:
        >>> SplitDigits.dataset, SplitDigits.default_epochs
        ('digits', 5)
    """

    name = "seq-digits"
    dataset = "digits"
    default_batch_size = 10
    default_epochs = 5


class SplitCifar10(SplitImages):
    """Split CIFAR-10: five tasks of two classes.

    Reference: Buzzega et al. 2020, "Dark Experience for General Continual Learning", NeurIPS.

    Examples:
        >>> SplitCifar10.dataset, SplitCifar10.Config().n_tasks
        ('cifar10', 5)
    """

    name = "seq-cifar10"
    dataset = "cifar10"
    view = CIFAR


class SplitCifar100(SplitImages):
    """Split CIFAR-100: ten tasks of ten classes, or 5 or 20 tasks.

    Reference: Arani, Sarfraz & Zonooz 2022, "Learning Fast, Learning Slow", ICLR.

    Examples:
        >>> SplitCifar100.dataset, SplitCifar100.Config().n_tasks
        ('cifar100', 10)
    """

    Config = TenTasksConfig
    name = "seq-cifar100"
    dataset = "cifar100"
    view = CIFAR


class SplitTinyImagenet(SplitImages):
    """Split Tiny-ImageNet: ten tasks of twenty classes, 64x64 pixels.

    Reference: Buzzega et al. 2020, "Dark Experience for General Continual Learning", NeurIPS.

    Examples:
        >>> SplitTinyImagenet.dataset, SplitTinyImagenet.Config().n_tasks
        ('tiny-imagenet', 10)
    """

    Config = TenTasksConfig
    name = "seq-tinyimg"
    dataset = "tiny-imagenet"
    view = TINY_IMAGENET
