"""Generalised class-incremental learning: classes come back, phases differ in size, boundaries are not marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from synergy.data.view import CIFAR
from synergy.errors import UsageError
from synergy.options import option
from synergy.randomness import generator
from synergy.scenarios.base import Scenario, ScenarioConfig, StreamSetting
from synergy.types import ProtocolName, Split, Task

LONG_TAIL = 0.984
LEAST_SAMPLES = 5
"""Fewest samples of a phase for each class it may have; with fewer, a draw with all classes is too rare."""


@dataclass(frozen=True)
class GcilConfig(ScenarioConfig):
    """Options of a generalised class-incremental stream.

    Examples:
        >>> GcilConfig(weight_dist="longtail").phase_class_upper
        50
    """

    weight_dist: str = option("unif", "weight of a class: 1, or 0.984^class", choices=("unif", "longtail"))
    n_tasks: int = option(20, "phases", low=1)
    phase_class_upper: int = option(50, "most classes in a phase", low=1)
    epoch_size: int = option(1000, "samples of a phase", low=1)
    gil_seed: int = option(1993, "fixes the phases, whatever the seed of the run", low=0)


@dataclass(frozen=True)
class Phase:
    """The draw of one phase: its classes (the source's labels) in the order drawn, and the indices of its samples.

    Examples:
        >>> Phase(classes=(7, 2), samples=((70, 71), (20,))).counts()
        {7: 2, 2: 1}
    """

    classes: tuple[int, ...]
    samples: tuple[tuple[int, ...], ...]

    def counts(self) -> dict[int, int]:
        """Samples of each class."""
        return {label: len(chosen) for label, chosen in zip(self.classes, self.samples, strict=True)}


class GcilCifar100(Scenario[GcilConfig]):
    """GCIL over CIFAR-100: every phase brings new samples of some classes.

    A phase has c classes, drawn without replacement from the classes with samples left; c is uniform from 1 to
    `phase_class_upper`, or to the number of those classes. A multinomial draw, with the weights of the classes, divides
    `epoch_size` samples among them, and is repeated until each class has one. A class gives that many unused training
    samples, or all it has left. Labels are numbered by first appearance. The test split holds all test images of all
    classes seen so far.

    Reference: Mi et al. 2020, "Generalized Class Incremental Learning", CVPR workshops.

    Raises:
        UsageError: a phase has too few samples for its classes, or there are not enough for all phases.

    Examples:
        >>> config = GcilConfig(n_tasks=3, phase_class_upper=2, epoch_size=10)
        >>> phases = draw_phases(np.arange(100) % 5, np.ones(5), config)
        >>> [sum(phase.counts().values()) for phase in phases]
        [10, 10, 10]
    """

    Config = GcilConfig
    name = "gcil-cifar100"
    dataset = "cifar100"
    protocols: tuple[ProtocolName, ...] = ("class-IL",)
    boundaries = False
    default_batch_size = 32
    default_epochs = 50
    default_net = "resnet18"
    view = CIFAR
    variant_option = "weight_dist"

    def __init__(self, config: GcilConfig, setting: StreamSetting) -> None:
        super().__init__(config, setting)
        needed = LEAST_SAMPLES * min(config.phase_class_upper, self.n_classes)
        if config.epoch_size < needed:
            lower = config.epoch_size // LEAST_SAMPLES or 1
            raise UsageError(
                f"epoch_size: given {config.epoch_size}; allowed: at least {needed}, {LEAST_SAMPLES} samples for each "
                f"class of a phase (or lower --phase_class_upper to {lower})"
            )
        base = 1.0 if config.weight_dist == "unif" else LONG_TAIL
        weights = np.power(base, np.arange(self.n_classes))
        self.phases = draw_phases(self.train.labels.cpu().numpy(), weights, config)
        if len(self.phases) < config.n_tasks:
            raise UsageError(
                f"n_tasks: given {config.n_tasks}; allowed: at most {len(self.phases)}, then all samples are used "
                f"(or lower --epoch_size, which is {config.epoch_size})"
            )

    @property
    def n_tasks(self) -> int:
        return len(self.phases)

    def task(self, index: int) -> Task:
        phase = self.phases[index]
        indices = torch.tensor([i for chosen in phase.samples for i in chosen], device=self.setting.device)
        classes = tuple(sorted(self.numbering[label] for label in phase.classes))
        samples = self._renumbered(self.train.select(indices, classes))
        order = self.shuffled(str(index), len(samples), drop_last=True)
        return Task(index, samples, order, earlier=self.earlier(index))

    def tests(self, after: int) -> Sequence[Split]:
        """One split: the test images of all classes seen by then. Before the first phase: those of its classes."""
        seen = [label for phase in self.phases[: max(after, 0) + 1] for label in phase.classes]
        known = torch.isin(self.test.labels, torch.tensor(seen, device=self.test.labels.device))
        classes = tuple(sorted({self.numbering[label] for label in seen}))
        return [self._renumbered(self.test.select(known.nonzero()[:, 0], classes))]

    @cached_property
    def numbering(self) -> dict[int, int]:
        """From the source's labels to those of the stream, by first appearance."""
        in_order = dict.fromkeys(label for phase in self.phases for label in phase.classes)
        return {label: number for number, label in enumerate(in_order)}

    @property
    def source_labels(self) -> tuple[int, ...]:
        return tuple(self.numbering)

    def own_metrics(self, last: int, per_class: Mapping[int, float]) -> dict[str, float]:
        """`published_final`: mean over phases of the last network's accuracy on the test images of each phase.

        The published code keeps one test set for every phase, all classes seen by then, and averages over these sets at
        the end. A class of the first phase counts in every set, a class of the last phase in one.
        """
        images = np.bincount(self.test.labels.cpu().numpy(), minlength=self.n_classes)
        correct, total, accuracies = 0.0, 0, []
        seen: set[int] = set()
        for phase in self.phases[: last + 1]:
            for label in set(phase.classes) - seen:
                correct += per_class[self.numbering[label]] * int(images[label])
                total += int(images[label])
            seen.update(phase.classes)
            accuracies.append(correct / total)
        return {"published_final": sum(accuracies) / len(accuracies)}

    def _renumbered(self, split: Split) -> Split:
        table = torch.full((self.n_classes,), -1, device=split.labels.device)
        for label, number in self.numbering.items():
            table[label] = number
        return Split(split.raw, table[split.labels], split.classes)


def draw_phases(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]],
    weights: np.ndarray[tuple[int], np.dtype[np.float64]],
    config: GcilConfig,
) -> list[Phase]:
    """All phases of a stream. `config.gil_seed` alone decides them.

    Args:
        labels: of the training samples, `[N]`.
        weights: of the classes, `[n_classes]`.

    Returns:
        `config.n_tasks` phases, or fewer where the samples run out.
    """
    rng = generator(config.gil_seed, "gcil/phases")
    left = [_in_random_order(label, labels, config.gil_seed) for label in range(len(weights))]
    phases: list[Phase] = []
    while len(phases) < config.n_tasks and any(left):
        available = [label for label, samples in enumerate(left) if samples]
        n_classes = int(rng.integers(1, min(config.phase_class_upper, len(available), config.epoch_size) + 1))
        classes = rng.choice(available, size=n_classes, replace=False)
        counts = _counts(weights[classes] / weights[classes].sum(), config.epoch_size, rng)
        taken = []
        for label, count in zip(classes, counts, strict=True):
            taken.append(tuple(left[label][:count]))
            left[label] = left[label][count:]
        phases.append(Phase(tuple(int(label) for label in classes), tuple(taken)))
    return phases


def _in_random_order(label: int, labels: np.ndarray[tuple[int], np.dtype[np.int64]], seed: int) -> list[int]:
    """Indices of the samples of a class. Each class has its own generator: its size changes no other class."""
    rng = generator(seed, f"gcil/samples/{label}")
    order: list[int] = rng.permutation(np.flatnonzero(labels == label)).tolist()
    return order


def _counts(
    shares: np.ndarray[tuple[int], np.dtype[np.float64]], size: int, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    while True:
        counts = rng.multinomial(size, shares)
        if counts.all():
            return counts
