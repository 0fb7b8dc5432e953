"""What a scenario is: a stream of tasks, the splits it is judged on, and the network that is usual for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from synergy.data.sources import Source
from synergy.data.view import ImageView
from synergy.errors import UsageError
from synergy.nets.mlp import MLP
from synergy.options import Options
from synergy.randomness import generator
from synergy.types import ProtocolName, Split, Task


@dataclass(frozen=True)
class ScenarioConfig(Options):
    """Options of a scenario; none by default."""

    @property
    def reduced(self) -> bool:
        """Whether the scenario is made smaller than the benchmark is, so that a run on it is a partial one."""
        return False


@dataclass(frozen=True)
class StreamSetting:
    """What a scenario is given besides its own options.

    Attributes:
        source: the data it is made of.
        seed: of the run; everything random about the stream derives from it.
        batch_size: samples of a stream batch.
        device: where the stream lives.
    """

    source: Source
    seed: int
    batch_size: int
    device: torch.device

    def rng(self, name: str) -> np.random.Generator:
        """The stream's own generator of that name."""
        return generator(self.seed, f"stream/{name}")


ConfigT = TypeVar("ConfigT", bound=ScenarioConfig)


class Scenario(ABC, Generic[ConfigT]):
    """Base of all scenarios. Built once; never depends on the method or on training.

    Raises:
        UsageError: a class has no samples in the source.
    """

    Config: ClassVar[type[ScenarioConfig]] = ScenarioConfig
    name: ClassVar[str]
    dataset: ClassVar[str]
    """The source it is made of, a name that `data.sources.load` knows."""
    protocols: ClassVar[tuple[ProtocolName, ...]]
    """How it is judged, the usual one first."""
    boundaries: ClassVar[bool] = True
    """Whether a method may know where a task ends."""
    default_batch_size: ClassVar[int]
    default_epochs: ClassVar[int] = 1
    view: ClassVar[ImageView] = ImageView()
    variant_option: ClassVar[str | None] = None
    """The option, if any, that tuned values depend on."""

    def __init__(self, config: ConfigT, setting: StreamSetting) -> None:
        self.config = config
        self.setting = setting
        self.train = setting.source.train.to(setting.device)
        self.test = setting.source.test.to(setting.device)
        self._need_every_class(self.train, "training")
        self._need_every_class(self.test, "test")

    @property
    @abstractmethod
    def n_tasks(self) -> int:
        """Stretches of the stream; after each one the method is evaluated."""

    @property
    def n_classes(self) -> int:
        """Outputs of the network."""
        return len(self.train.classes)

    @abstractmethod
    def task(self, index: int) -> Task:
        """The task at `index`, from 0 to `n_tasks - 1`; equal at each call."""

    @abstractmethod
    def tests(self, after: int) -> Sequence[Split]:
        """The splits to evaluate after task `after` (-1: before the first), always equally many."""

    @property
    def source_labels(self) -> tuple[int, ...]:
        """The data set's label of each class of the stream; empty if the stream keeps these labels."""
        return ()

    def own_metrics(self, last: int, per_class: Mapping[int, float]) -> dict[str, float]:
        """Metrics of this scenario alone, by name, percent; none by default.

        Args:
            last: index of the last task that was learned.
            per_class: accuracy after it by class of the stream, percent.
        """
        return {}

    def earlier(self, index: int) -> Callable[[], Sequence[Task]]:
        """The tasks before `index`, made when asked for."""
        return lambda: [self.task(i) for i in range(index)]

    def build_net(self, generator: torch.Generator) -> nn.Module:
        """The scenario's usual network, on the CPU."""
        return MLP(self.train.raw[0].numel(), self.n_classes, generator=generator)

    def _need_every_class(self, split: Split, kind: str) -> None:
        missing = sorted(set(split.classes) - set(split.labels.unique().tolist()))
        if missing:
            raise UsageError(
                f"{self.name}: class {missing[0]} has none of the {len(split)} {kind} samples of {self.dataset}; "
                "allowed: data with samples of every class (with --validation, enough of them to hold some out)"
            )

    def shuffled(self, name: str, size: int, *, drop_last: bool) -> Callable[[int], Sequence[Tensor]]:
        """Batches of `size` samples in random order, another for each epoch, for `Task.order`."""

        def order(epoch: int) -> Sequence[Tensor]:
            permutation = self.setting.rng(f"order/{name}/{epoch}").permutation(size)
            indices = torch.from_numpy(permutation).to(self.setting.device)
            batches: tuple[Tensor, ...] = indices.split(self.setting.batch_size)
            return batches[:-1] if drop_last and len(batches[-1]) < self.setting.batch_size else batches

        return order


AnyScenario = Scenario[Any]
