"""`split:FOLDER`: streams of your own data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from synergy.data import sources
from synergy.data.folder import FolderReader
from synergy.data.labelled import HeldOut
from synergy.data.sources import Reader, Source
from synergy.data.view import AS_STORED, ImageView
from synergy.errors import UsageError, unknown
from synergy.options import option
from synergy.randomness import generator
from synergy.registry import label
from synergy.scenarios.base import Scenario, ScenarioConfig, StreamSetting
from synergy.types import ProtocolName, Split, Task, View

USUAL_TASKS = 5
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
    test_share: float = option(0.2, "share of each class held out where there is no test set", low=0.01, high=0.9)
    test_seed: int = option(0, "seed of the choice of these samples", low=0)

    def __post_init__(self) -> None:
        if isinstance(self.class_order, Iterable) and not isinstance(self.class_order, str):
            object.__setattr__(self, "class_order", tuple(map(str, self.class_order)))
        super().__post_init__()
        if self.class_order is not None and self.class_order_seed is not None:
            raise UsageError("class_order: given with class_order_seed; allowed: one of them")

    @property
    def held_out(self) -> HeldOut:
        """The test set where the data bring none."""
        return HeldOut(self.test_share, self.test_seed)


ConfigT = TypeVar("ConfigT", bound=OwnConfig)


class OwnScenario(Scenario[ConfigT]):
    """Classes in order, some new ones in each task. Label k stays output k, whatever the order.

    The tasks have equally many classes; where that does not come out even, earlier tasks have one more. A batch that is
    not full is learned too: in an epoch every training sample occurs exactly once.

    Reference: van de Ven & Tolias 2019, "Three scenarios for continual learning".

    Raises:
        UsageError: there are more tasks than classes, or the order of the classes is no order of all of them.
    """

    Config: ClassVar[type[OwnConfig]] = OwnConfig
    protocols: tuple[ProtocolName, ...] = ("class-IL", "task-IL")
    default_epochs = 5
    given: ClassVar[str]
    """What the name says after its first colon."""
    place: ClassVar[Path]
    """The absolute path of the data."""

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
        self.groups = grouped(self.class_order, config.n_tasks, config.first_task)
        """The new classes of each task, in their order."""

    @abstractmethod
    def _view(self) -> View:
        """What a network sees of the samples."""

    @property
    def n_tasks(self) -> int:
        return len(self.groups)

    def task(self, index: int) -> Task:
        samples = self._part(self.train, index)
        order = self.shuffled(str(index), len(samples), drop_last=False)
        return Task(index, samples, order, earlier=self.earlier(index))

    def tests(self, after: int) -> Sequence[Split]:
        return self._tests

    @cached_property
    def class_order(self) -> tuple[int, ...]:
        """The classes in the order of their appearance."""
        given, seed, classes = self.config.class_order, self.config.class_order_seed, self.train.classes
        if given is not None:
            return parsed_order(given, self.setting.source.info.classes)
        if seed is None:
            return classes
        return tuple(classes[i] for i in generator(seed, "class order").permutation(len(classes)))

    def _part(self, split: Split, index: int) -> Split:
        classes = tuple(sorted(self.groups[index]))
        chosen: Tensor = torch.isin(split.labels, torch.tensor(classes, device=split.labels.device))
        return split.select(chosen.nonzero()[:, 0], classes)

    @cached_property
    def _tests(self) -> list[Split]:
        return [self._part(self.test, index) for index in range(self.n_tasks)]


def parsed_order(given: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """The labels in a given order, by the names of the classes or else by their numbers.

    Raises:
        UsageError: it is no order of all classes.

    Examples:
        >>> names = ["ant", "bee", "cow"]
        >>> parsed_order(["cow", "ant", "bee"], names), parsed_order(["2", "0", "1"], names)
        ((2, 0, 1), (2, 0, 1))
    """
    numbers = {str(label): label for label in range(len(names))}
    by_name = {name: label for label, name in enumerate(names)}
    known = by_name if set(given) & (by_name.keys() - numbers.keys()) or by_name.keys() <= set(given) else numbers
    for position, name in enumerate(given):
        if name not in known:
            raise unknown("class in class_order", name, known)
        if name in given[:position]:
            raise UsageError(f"class_order: '{name}' is given twice; allowed: each of the {len(names)} classes once")
    if left := [name for name in known if name not in given]:
        raise UsageError(
            f"class_order: given {len(given)} of {len(names)} classes, without {', '.join(left[:5])}; "
            "allowed: each of them once"
        )
    return tuple(known[name] for name in given)


def grouped(order: Sequence[int], n_tasks: int | None, first: int | None) -> list[tuple[int, ...]]:
    """The classes of each task: `first` in the first one, or else as many as in the others.

    Raises:
        UsageError: a task would have no class.

    Examples:
        >>> grouped(range(7), 3, None), grouped(range(7), 3, 4)
        ([(0, 1, 2), (3, 4), (5, 6)], [(0, 1, 2, 3), (4, 5), (6,)])
    """
    classes = len(order)
    tasks = min(USUAL_TASKS, classes) if n_tasks is None else n_tasks
    if tasks > classes:
        raise UsageError(f"n_tasks: given {tasks}; allowed: at most {classes}, the number of classes")
    most = classes - tasks + 1
    if first is not None and (first > most or (tasks == 1 and first < classes)):
        allowed = f"1 to {most}" if tasks > 1 else str(classes)
        raise UsageError(
            f"first_task: given {first}; allowed: {allowed}, so that {tasks} tasks share {classes} classes"
        )
    sizes = _shares(classes, tasks) if first is None else [first, *_shares(classes - first, tasks - 1)]
    return [tuple(order[start:end]) for start, end in pairwise(accumulate(sizes, initial=0))]


def _shares(total: int, parts: int) -> list[int]:
    """As equal as whole numbers allow, the larger ones first."""
    return [total // parts + (part < total % parts) for part in range(parts)] if parts else []


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


class Folder(OwnImages[ImagesConfig]):
    """A folder of one folder for each class; or of `train/` and `test/`, with such folders in each.

    Examples:
        >>> from synergy.scenarios import scenario_class
        >>> scenario_class("split:animals").place.name
        'animals'
    """

    Config = ImagesConfig

    @classmethod
    def reader(cls, config: ImagesConfig) -> Reader:
        existing(cls.given, cls.place)
        return FolderReader(cls.place, label(cls.given), config.held_out, config.image_size)


def existing(given: str, place: Path) -> None:
    """Raises UsageError, with the nearest name, if there is nothing at a place."""
    if place.exists():
        return
    siblings = [path.name for path in place.parent.iterdir()] if place.parent.is_dir() else []
    near = get_close_matches(place.name, siblings, n=1)
    hint = f"; did you mean '{place.with_name(near[0])}'?" if near else ""
    raise UsageError(f"split:{given}: there is no {place}{hint or '; allowed: a folder of images'}")


@cache
def own_scenario(given: str, place: str | None) -> type[OwnScenario[Any]]:
    """The class of the scenario `split:FOLDER`. Equal names give the same class.

    Args:
        given: a folder.
        place: its absolute path when a configuration was kept; by default it is looked up from here.

    Raises:
        UsageError: the name is empty.
    """
    if not given:
        raise UsageError("split:: given no name; allowed: split:FOLDER")
    where = Path(given if place is None else place).resolve()
    return type("Own", (Folder,), {"given": given, "place": where, "name": f"split:{given}", "__doc__": Folder.__doc__})
