"""What a scenario is: a stream of tasks, the test splits, and the usual network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from synergy.data import sources
from synergy.data.sources import Source
from synergy.data.view import ImageView
from synergy.errors import UsageError
from synergy.nets import NET_CLASSES, net_class
from synergy.nets.base import NetConfig, build
from synergy.options import Options
from synergy.randomness import generator
from synergy.types import ProtocolName, Split, Task, View


@dataclass(frozen=True)
class ScenarioConfig(Options):
    """Options of a scenario; none by default.

    Examples:
        >>> ScenarioConfig().as_mapping()
        {}
    """


@dataclass(frozen=True)
class StreamSetting:
    """What a scenario gets besides its own options.

    Attributes:
        source: the data set.
        seed: of the run; everything random about the stream derives from it.
        batch_size: samples of a stream batch.
        device: where the stream lives.

    Examples:
        >>> digits = sources.load("digits")
        >>> setting = StreamSetting(digits, seed=0, batch_size=16, device=torch.device("cpu"))
        >>> bool(setting.rng("order").random() == setting.rng("order").random())
        True
    """

    source: Source
    seed: int
    batch_size: int
    device: torch.device

    def rng(self, name: str) -> np.random.Generator:
        """A generator of the stream's own; equal names give equal numbers."""
        return generator(self.seed, f"stream/{name}")


ConfigT = TypeVar("ConfigT", bound=ScenarioConfig)


class Scenario(ABC, Generic[ConfigT]):
    """Base of all scenarios. Built once; independent of the method and of training.

    Raises:
        UsageError: a class has no samples in the source.

    Examples:
        >>> from synergy import testing
        >>> stream = testing.scenario("seq-digits", batch_size=10)
        >>> stream.n_tasks, stream.n_classes, stream.shape
        (5, 10, (1, 8, 8))
        >>> raw, labels = next(stream.task(1).batches(epoch=0))
        >>> raw.shape, raw.dtype, set(labels.tolist())
        (torch.Size([10, 1, 8, 8]), torch.uint8, {2, 3})
    """

    Config: ClassVar[type[ScenarioConfig]] = ScenarioConfig
    name: ClassVar[str]
    """For messages; the name of the class, unless it says another."""
    dataset: ClassVar[str] = "its own"
    """A data set that `data.sources.load` knows, unless `load_source` brings another."""
    protocols: tuple[ProtocolName, ...]
    """How accuracy is taken, the usual protocol first. Every scenario names at least one. A class whose options decide
    names all it may have."""
    boundaries: bool = True
    """Whether a method may know where a task ends."""
    default_batch_size: ClassVar[int] = 32
    default_epochs: ClassVar[int] = 1
    default_net: ClassVar[str] = "mlp"
    """Name of the usual network, in any form that `--net` takes."""
    view: View = ImageView()
    variant_option: ClassVar[str | None] = None
    """The option that tuned values depend on; None if they depend on no option."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = cls.__name__

    @classmethod
    def load_source(cls, data_dir: Path | None) -> Source:
        """The data set. A scenario on data of its own overrides this.

        Args:
            data_dir: the option `--data_dir`.

        Raises:
            UsageError: the data are missing or damaged.
        """
        return sources.load(cls.dataset, data_dir)

    @classmethod
    def read_source(cls, config: ConfigT, data_dir: Path | None) -> Source:
        """The data set, for a scenario whose options decide how it is read; by default what `load_source` gives.

        Args:
            config: the options of the scenario.
            data_dir: the option `--data_dir`.

        Raises:
            UsageError: the data are missing, damaged, or not what the options ask for.
        """
        return cls.load_source(data_dir)

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
        """Parts of the stream; the method is evaluated after each."""

    @property
    def n_classes(self) -> int:
        """Outputs of the network."""
        return len(self.train.classes)

    @abstractmethod
    def task(self, index: int) -> Task:
        """The task at `index`, from 0 to `n_tasks - 1`; the same at each call."""

    @abstractmethod
    def tests(self, after: int) -> Sequence[Split]:
        """The test splits after task `after` (-1: before the first); their number is always the same."""

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
        """The tasks before `index`, built when called."""
        return lambda: [self.task(i) for i in range(index)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample as the network sees it, such as `(1, 28, 28)`."""
        return tuple(self.view.plain(self.train.raw[:1]).shape[1:])

    def build_net(self, generator: torch.Generator) -> nn.Module:
        """The usual network with its usual options, on the CPU."""
        kind = net_class(self.default_net)
        options = NET_CLASSES.config_of(self.default_net, kind)()
        assert isinstance(options, NetConfig), "every network's options are"
        return build(kind, options, self.shape, self.n_classes, generator)

    def _need_every_class(self, split: Split, kind: str) -> None:
        missing = sorted(set(split.classes) - set(split.labels.unique().tolist()))
        if missing:
            raise UsageError(
                f"{self.name}: class {missing[0]} has none of the {len(split)} {kind} samples of "
                f"{self.setting.source.info.name}; "
                "allowed: data with samples of every class (with --validation, enough of them to hold some out)"
            )

    def shuffled(self, name: str, size: int, *, drop_last: bool) -> Callable[[int], Sequence[Tensor]]:
        """Batches of `size` samples in random order, a new order in each epoch, for `Task.order`."""

        def order(epoch: int) -> Sequence[Tensor]:
            permutation = self.setting.rng(f"order/{name}/{epoch}").permutation(size)
            indices = torch.from_numpy(permutation).to(self.setting.device)
            batches: tuple[Tensor, ...] = indices.split(self.setting.batch_size)
            return batches[:-1] if drop_last and len(batches[-1]) < self.setting.batch_size else batches

        return order


AnyScenario = Scenario[Any]
