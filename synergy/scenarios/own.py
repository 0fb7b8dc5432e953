"""`split:FOLDER`, `split:FILE`, `split:hf:NAME`: streams of your own images and tables."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synergy.data import sources
from synergy.data.folder import FolderReader
from synergy.data.hub import HubReader
from synergy.data.labelled import HeldOut
from synergy.data.sources import Domains, Reader, Source
from synergy.data.tables import TableReader
from synergy.data.view import AS_STORED, FeatureView, ImageView
from synergy.errors import UsageError
from synergy.ops.arrival import blurred, drifting, grouped, parsed_order
from synergy.options import option
from synergy.randomness import generator
from synergy.registry import label
from synergy.scenarios.base import Scenario, ScenarioConfig, StreamSetting
from synergy.types import ProtocolName, Split, Task, View

Numbers: TypeAlias = NDArray[np.int64]

OF_CLASSES = ("n_tasks", "first_task", "class_order", "class_order_seed")
"""Options about the division of classes into tasks."""
LOOKED_AT = 10_000
"""Training images, evenly apart, that the normalisation is measured on."""


@dataclass(frozen=True)
class OwnConfig(ScenarioConfig):
    """Options of a stream of your own data.

    Examples:
        >>> OwnConfig(n_tasks=6, first_task=50).as_mapping()["first_task"]
        50
    """

    n_tasks: int | None = option(None, "tasks; by default 5, or one for each class if there are fewer", low=1)
    first_task: int | None = option(None, "classes of the first task; the others share the rest equally", low=1)
    class_order: tuple[str, ...] | None = option(
        None, "the classes as they appear, by name or by number from 0; by default in their own order"
    )
    class_order_seed: int | None = option(None, "shuffles the order of the classes", low=0)
    domains: str | None = option(None, "the column with the domain of each sample: every domain is a task")
    blur: float = option(
        0.0, "share of each class that is moved to the tasks before and after its own", low=0, high=0.5
    )
    drift: float | None = option(
        None,
        "tasks run into one another, unmarked, each this much longer than one (0: they only touch)",
        low=0,
        high=1000,
    )
    test_share: float = option(0.2, "share of each class held out where there is no test set", low=0.01, high=0.9)
    test_seed: int = option(0, "seed of the choice of these samples", low=0)

    def __post_init__(self) -> None:
        if isinstance(self.class_order, Iterable) and not isinstance(self.class_order, str):
            object.__setattr__(self, "class_order", tuple(map(str, self.class_order)))
        super().__post_init__()
        if self.class_order is not None and self.class_order_seed is not None:
            raise UsageError("class_order: given with class_order_seed; allowed: one of them")
        if self.blur and self.drift is not None:
            raise UsageError("blur: given with drift; allowed: one of them")
        of_classes = [name for name in OF_CLASSES if vars(self)[name] is not None]
        if self.domains is not None and of_classes:
            raise UsageError(f"{of_classes[0]}: given with domains; allowed: one of them, as every domain is a task")

    @property
    def held_out(self) -> HeldOut:
        """The test set where the data bring none."""
        return HeldOut(self.test_share, self.test_seed)


ConfigT = TypeVar("ConfigT", bound=OwnConfig)


class OwnScenario(Scenario[ConfigT]):
    """Tasks of new classes, or of a domain each; they may share samples, or run into one another.

    Classes: each task has as many new ones as the others; where that does not come out even, earlier tasks have one
    more. Label k stays output k, whatever the order. Domains: each task has the samples of one, in the order of their
    names.

    Blur: of each class the share `blur` moves to the task before and the task after, half to each; at the ends all of
    it moves to the one neighbour.

    Drift: a sample of task t, from 0, stands at t + (1 + `drift`) * U, where U is uniform in [0, 1). The stream is the
    samples in the order of these places, cut into as many equal parts as there are tasks. The method is judged after
    each part on all tests, and never knows where a part ends.

    A batch that is not full is learned too: in an epoch every training sample occurs exactly once. Tests are never
    blurred, and never drift.

    Reference: van de Ven & Tolias 2019, "Three scenarios for continual learning".

    Raises:
        UsageError: there are more tasks than classes, the order of the classes is no order of all of them, or a domain
            lacks samples.
    """

    Config: ClassVar[type[OwnConfig]] = OwnConfig
    protocols: tuple[ProtocolName, ...] = ("class-IL", "task-IL", "domain-IL")
    default_epochs = 5
    given: ClassVar[str]
    """What the name says after its first colon."""
    place: ClassVar[Path | None]
    """The absolute path of the data; None for a data set of the hub."""

    @classmethod
    @abstractmethod
    def reader(cls, config: ConfigT) -> Reader:
        """Reads the data as the options say. Raises UsageError if there are none."""

    @classmethod
    def load_source(cls, data_dir: Path | None) -> Source:
        config: Any = cls.Config()
        return cls.read_source(config, data_dir)

    @classmethod
    def read_source(cls, config: ConfigT, data_dir: Path | None) -> Source:
        return sources.read(cls.reader(config))

    def __init__(self, config: ConfigT, setting: StreamSetting) -> None:
        super().__init__(config, setting)
        self.view = self._view()
        self.boundaries = config.drift is None
        self.protocols = self._protocols()
        homes, test_homes = self._homes()
        self._tests = [self._chosen(self.test, np.flatnonzero(test_homes == index)) for index in range(self.n_tasks)]
        if config.drift is not None:
            self.parts = drifting(homes, config.drift, self.n_tasks, setting.rng("drift"))
            """The training samples of each task, `int64 [N]` on the host; of a drift in the order of the stream."""
        else:
            if config.blur:
                homes = blurred(homes, self._kinds(), config.blur, self.n_tasks, setting.rng("blur"))
            self.parts = [np.flatnonzero(homes == index) for index in range(self.n_tasks)]

    @abstractmethod
    def _view(self) -> View:
        """What a network sees of the samples."""

    @property
    def n_tasks(self) -> int:
        return len(self.groups) if self.domains is None else len(self.domains.names)

    def task(self, index: int) -> Task:
        samples = self._chosen(self.train, self.parts[index])
        shuffled = self.shuffled(str(index), len(samples), drop_last=False)
        return Task(
            index, samples, shuffled if self.boundaries else self._in_order(len(samples)), earlier=self.earlier(index)
        )

    def tests(self, after: int) -> Sequence[Split]:
        return self._tests

    @property
    def domains(self) -> Domains | None:
        """The domain of each sample, if every domain is a task."""
        return None if self.config.domains is None else self.setting.source.domains

    @cached_property
    def groups(self) -> list[tuple[int, ...]]:
        """The new classes of each task, in their order."""
        return grouped(self.class_order, self.config.n_tasks, self.config.first_task)

    @cached_property
    def class_order(self) -> tuple[int, ...]:
        """The classes in the order of their appearance."""
        given, seed, classes = self.config.class_order, self.config.class_order_seed, self.train.classes
        if given is not None:
            return parsed_order(given, self.setting.source.info.classes)
        if seed is None:
            return classes
        return tuple(classes[i] for i in generator(seed, "class order").permutation(len(classes)))

    def _protocols(self) -> tuple[ProtocolName, ...]:
        if self.domains is not None:
            return ("domain-IL",)
        return ("class-IL",) if self.config.blur or not self.boundaries else ("class-IL", "task-IL")

    def _homes(self) -> tuple[Numbers, Numbers]:
        """The task that each sample belongs to, training and test, `int64 [N]`."""
        if self.domains is None:
            task_of = np.empty(self.n_classes, np.int64)
            for index, classes in enumerate(self.groups):
                task_of[list(classes)] = index
            return task_of[self.train.labels.cpu().numpy()], task_of[self.test.labels.cpu().numpy()]
        homes = self.domains.train.numpy(), self.domains.test.numpy()
        for of_samples, kind in zip(homes, ("training", "test"), strict=True):
            missing = np.flatnonzero(np.bincount(of_samples, minlength=self.n_tasks) == 0)
            if len(missing):
                raise UsageError(
                    f"domains: '{self.domains.names[missing[0]]}' has no {kind} samples; allowed: domains with samples "
                    "for training and for the test"
                )
        return homes

    def _kinds(self) -> Numbers:
        """The class of each training sample, or its class in its domain, `int64 [N]`."""
        labels: Numbers = self.train.labels.cpu().numpy()
        return labels if self.domains is None else labels + self.n_classes * self.domains.train.numpy()

    def _chosen(self, split: Split, indices: Numbers) -> Split:
        chosen = torch.from_numpy(indices).to(split.labels.device)
        return split.select(chosen, tuple(split.labels[chosen].unique().tolist()))

    def _in_order(self, size: int) -> Callable[[int], Sequence[Tensor]]:
        """The same in every epoch: the stream drifts, so its order stays."""
        batches = torch.arange(size, device=self.setting.device).split(self.setting.batch_size)
        return lambda epoch: batches


@dataclass(frozen=True)
class ImagesConfig(OwnConfig):
    """Options of a stream of your own images.

    Examples:
        >>> ImagesConfig(image_size=32).augment
        'none'
    """

    image_size: int | None = option(
        None, "pixels of both sides: images are scaled to cover this square, and their middle is kept", low=1, high=4096
    )
    augment: str = option(
        "none",
        "random changes in training: crops of images with an eighth added on each side, flips, or both",
        choices=("none", "crop", "flip", "both"),
    )


ImagesT = TypeVar("ImagesT", bound=ImagesConfig)


class OwnImages(OwnScenario[ImagesT]):
    """Images, learned by a ResNet-18, normalised by the mean and the deviation of each channel of the training set."""

    Config: ClassVar[type[OwnConfig]] = ImagesConfig
    default_net = "resnet18"

    def _view(self) -> View:
        raw, augment = self.train.raw, self.config.augment
        if raw.is_floating_point():
            return AS_STORED
        looked_at = raw[:: -(-len(raw) // LOOKED_AT)].float().div_(255)
        mean, std = looked_at.mean((0, 2, 3)), looked_at.std((0, 2, 3))
        return ImageView(
            padding=max(1, raw.shape[-1] // 8) if augment in ("crop", "both") else 0,
            flip=augment in ("flip", "both"),
            mean=tuple(mean.tolist()),
            std=tuple(torch.where(std > 0, std, 1.0).tolist()),
        )


@dataclass(frozen=True)
class FolderConfig(ImagesConfig):
    """Options of a stream of images in a folder.

    Examples:
        >>> FolderConfig(domains="folder").as_mapping()["domains"]
        'folder'
    """

    domains: str | None = option(
        None,
        "'folder' if there is a folder for each domain above those of the classes: every domain is a task",
        choices=("folder",),
    )


class Folder(OwnImages[FolderConfig]):
    """A folder of one folder for each class; or of `train/` and `test/`, with such folders in each.

    Examples:
        >>> from synergy.scenarios import scenario_class
        >>> scenario_class("split:animals").place.name
        'animals'
    """

    Config = FolderConfig
    place: ClassVar[Path]

    @classmethod
    def reader(cls, config: FolderConfig) -> Reader:
        existing(cls.given, cls.place)
        has_domains = config.domains is not None
        return FolderReader(cls.place, label(cls.given), config.held_out, config.image_size, has_domains)


@dataclass(frozen=True)
class TableConfig(OwnConfig):
    """Options of a stream of the rows of a table.

    Examples:
        >>> TableConfig(label="species").label
        'species'
    """

    label: str | None = option(None, "the column of the classes; by default the one called label, or else the last")


class Table(OwnScenario[TableConfig]):
    """The rows of a CSV or a Parquet file: numbers and a class, learned by an MLP.

    Each feature is brought to mean 0 and standard deviation 1 over the training set.

    Examples:
        >>> from synergy.scenarios import scenario_class
        >>> scenario_class("split:lab/wine.csv").default_net
        'mlp'
    """

    Config = TableConfig
    place: ClassVar[Path]

    @classmethod
    def reader(cls, config: TableConfig) -> Reader:
        existing(cls.given, cls.place)
        return TableReader(cls.place, label(cls.given), config.held_out, config.label, config.domains)

    def _view(self) -> View:
        return FeatureView.of(self.train.raw)


@dataclass(frozen=True)
class HubConfig(ImagesConfig):
    """Options of a stream of the images of a Hugging Face data set.

    Examples:
        >>> HubConfig(label="fine_label").label
        'fine_label'
    """

    label: str | None = option(None, "the column of the classes; by default the one of class labels, or called label")


class Hub(OwnImages[HubConfig]):
    """Images of the Hugging Face hub, `split:hf:OWNER/NAME`, or of a folder that `datasets` loads, `split:hf:FOLDER`.

    Examples:
        >>> from synergy.scenarios import scenario_class
        >>> scenario_class("split:hf:me/birds").place is None
        True
    """

    Config = HubConfig

    @classmethod
    def reader(cls, config: HubConfig) -> Reader:
        source = cls.given.removeprefix(HUB) if cls.place is None else str(cls.place)
        return HubReader(
            source,
            label(cls.given),
            cls.place is not None,
            config.held_out,
            config.image_size,
            config.label,
            config.domains,
        )


def existing(given: str, place: Path) -> None:
    """Raises UsageError, with the nearest name, if there is nothing at a place."""
    if place.exists():
        return
    siblings = [path.name for path in place.parent.iterdir()] if place.parent.is_dir() else []
    near = get_close_matches(place.name, siblings, n=1)
    hint = f"did you mean '{place.with_name(near[0])}'?" if near else f"allowed: {FORMS}"
    raise UsageError(f"split:{given}: there is no {place}; {hint}")


FORMS = "split:FOLDER of images, split:FILE.csv, split:FILE.parquet, split:hf:OWNER/NAME"
HUB = "hf:"
TABLES = (".csv", ".parquet")


@cache
def own_scenario(given: str, place: str | None) -> type[OwnScenario[Any]]:
    """The class of the scenario `split:FOLDER`, `split:FILE.csv`, `split:FILE.parquet`, or `split:hf:NAME`.

    Equal names give the same class.

    Args:
        given: what stands after `split:`.
        place: the absolute path of the data when a configuration was kept; by default it is looked up from here.

    Raises:
        UsageError: the name is empty.
    """
    bare = given.removeprefix(HUB)
    if not bare:
        raise UsageError(f"split:{given}: given no name; allowed: {FORMS}")
    where: Path | None = Path(bare if place is None else place).resolve()
    kind: type[OwnScenario[Any]] = Table if bare.lower().endswith(TABLES) else Folder
    if given.startswith(HUB):
        kind, where = Hub, where if place is not None or Path(bare).exists() else None
    return type("Own", (kind,), {"given": given, "place": where, "name": f"split:{given}", "__doc__": kind.__doc__})
