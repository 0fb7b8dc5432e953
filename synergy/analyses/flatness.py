"""Flatness: accuracy and loss while noise is added to the weights.

Buzzega et al. 2020, *Dark Experience for General Continual Learning*: a network in a flat minimum stands more noise on
its weights. Here the noise of a parameter is a share of the root mean square of that parameter, so that a
network with larger weights and the same answers is not called flatter (Dinh et al. 2017, *Sharp Minima Can Generalize
For Deep Nets*).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.analyses.base import Analysis
from synergy.analyses.trained import TrainedRun, accuracy
from synergy.errors import UsageError
from synergy.ops.vectors import trained
from synergy.options import Options, option
from synergy.randomness import torch_generator
from synergy.runs.findings import Chart, Description, Line, Number
from synergy.types import Split


@dataclass(frozen=True)
class FlatnessConfig(Options):
    """Options of the analysis.

    Examples:
        >>> FlatnessConfig(draws=3).levels[1]
        0.2
    """

    levels: tuple[float, ...] = option(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "standard deviations of the noise, in root mean squares of a parameter", low=0
    )
    draws: int = option(5, "draws of the noise", low=1)
    noise_seed: int = option(0, "seed of the draws", low=0)
    samples: int | None = option(None, "test samples of each split, at most; by default all", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.levels) < 2 or list(self.levels) != sorted(set(self.levels)):
            raise UsageError(f"levels: given {self.levels}; allowed: two or more numbers, each above the one before")


@dataclass(frozen=True)
class Curve:
    """Of one predictor.

    Attributes:
        accuracy: final average at each level in each draw, percent, `[L][D]`.
        loss: mean cross-entropy over all test samples, nats, `[L][D]`; None where it is not finite.

    Examples:
        >>> Curve(((90.0, 90.0), (70.0, 80.0)), ((0.3, 0.3), (0.9, 0.8))).accuracy[1]
        (70.0, 80.0)
    """

    accuracy: tuple[tuple[float, ...], ...]
    loss: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Flatness:
    """The curve of each predictor.

    Attributes:
        levels: standard deviations of the noise, `[L]`.
        predictors: by name.

    Examples:
        >>> curve = Curve(((90.0,), (70.0,)), ((0.3,), (0.9,)))
        >>> Flatness((0.0, 0.1), {"working": curve}).levels
        (0.0, 0.1)
    """

    levels: tuple[float, ...]
    predictors: dict[str, Curve]


def flatness(run: TrainedRun, options: FlatnessConfig | None = None) -> Flatness:
    """Accuracy and loss over the test set under noise on all trained weights, at the end of the run.

    A draw is one direction, whose length grows from level to level; all predictors get the same one. At level 0 the
    accuracy is the run's own, to the bit, if all samples are taken. The run is as before afterwards.

    Raises:
        UsageError: no answer is the output of a network.
    """
    config = FlatnessConfig() if options is None else options
    found, splits = {}, run.drawn(config.samples, config.noise_seed)
    for name, net in run.nets("flatness").items():
        points: list[list[tuple[float, float | None]]] = [[] for _ in config.levels]
        for draw in range(config.draws):
            for place, level in enumerate(config.levels):
                with noisy(net, level, torch_generator(config.noise_seed, f"flatness/{draw}")):
                    points[place].append(judged(run, name, splits))
        accuracies = tuple(tuple(point[0] for point in of_level) for of_level in points)
        found[name] = Curve(accuracies, tuple(tuple(point[1] for point in of_level) for of_level in points))
    return Flatness(config.levels, found)


@contextmanager
def noisy(net: nn.Module, level: float, generator: torch.Generator) -> Iterator[None]:
    """Within, the trained parameters of a network carry noise; afterwards they are the same bits as before.

    Args:
        net: changed in place.
        level: standard deviation, in root mean squares of each parameter.
        generator: on the CPU; draws the noise.

    Examples:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(net.weight)
        >>> with noisy(net, 0.5, torch.Generator().manual_seed(0)):
        ...     net.weight.data.ne(1).tolist()
        [[True, True]]
        >>> net.weight.data
        tensor([[1., 1.]])
    """
    parameters = trained(net)
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.data.add_(level * parameter.detach().square().mean().sqrt() * noise)
        yield
    finally:
        for parameter, value in zip(parameters, before, strict=True):
            parameter.data.copy_(value)


def judged(run: TrainedRun, predictor: str, splits: Sequence[Split]) -> tuple[float, float | None]:
    """Final average in percent, and mean cross-entropy over all samples in nats; None if it is not finite."""
    scores, losses = [], []
    for split in splits:
        logits, labels = run.logits(predictor, split), split.labels.cpu()
        scores.append(accuracy(logits, labels))
        losses.append(F.cross_entropy(logits.double(), labels, reduction="none"))
    loss = torch.cat(losses).mean()
    return run.average(scores), _finite(loss)


def _finite(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def described(result: Flatness) -> Description:
    """What to show: means over the draws, and how much accuracy the middle of the levels costs."""
    accuracies, losses, numbers = [], [], []
    middle = len(result.levels) // 2
    for name, curve in result.predictors.items():
        means = [sum(each) / len(each) for each in curve.accuracy]
        accuracies.append(Line(name, result.levels, tuple(means)))
        losses.append(Line(name, result.levels, tuple(map(_mean, curve.loss))))
        title = f"accuracy lost to weight noise of {result.levels[middle]:g}, points"
        numbers.append(Number(title, name, means[0] - means[middle]))
    x_label = "noise on the weights, in root mean squares"
    charts = (
        Chart("flatness: accuracy under weight noise", x_label, "final average, %", tuple(accuracies)),
        Chart("flatness: loss under weight noise", x_label, "cross-entropy, nats", tuple(losses)),
    )
    return Description(tuple(numbers), charts)


ANALYSIS = Analysis("flatness", "how much noise on its weights does it stand?", FlatnessConfig, flatness, described)
