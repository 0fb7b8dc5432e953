"""Reliability: is a network right as often as it says?

Guo et al. 2017, *On Calibration of Modern Neural Networks*: predictions are sorted into bins of confidence; in each bin
the mean confidence is compared with the accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from synergy.analyses.base import Analysis, NoOptions
from synergy.analyses.trained import TrainedRun
from synergy.runs.evaluate import CALIBRATION_BINS, answered, confidence_bin
from synergy.runs.findings import Chart, Description, Line, Number
from synergy.runs.metrics import expected_calibration_error

FEWEST = 20
"""Samples below which a bin is left out of the figure: its accuracy is chance."""


@dataclass(frozen=True)
class Reliability:
    """Of one predictor, over all test samples, in bins of equal width.

    Attributes:
        count: predictions in each bin, `[B]`.
        confidence: their mean confidence, percent, `[B]`; None for an empty bin.
        accuracy: how many of them are right, percent, `[B]`; None for an empty bin.
        error: expected calibration error, percent.
        mean_confidence, mean_accuracy: over all samples, percent. A greater confidence is overconfidence.

    Examples:
        >>> reliability(torch.ones(2), torch.tensor([True, False])).error
        50.0
    """

    count: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    error: float
    mean_confidence: float
    mean_accuracy: float


@dataclass(frozen=True)
class Calibration:
    """The reliability of each predictor, by name.

    Examples:
        >>> Calibration({"working": reliability(torch.ones(2), torch.tensor([True, True]))}).predictors["working"].error
        0.0
    """

    predictors: dict[str, Reliability]


def calibration(run: TrainedRun, options: NoOptions | None = None) -> Calibration:
    """Confidence against accuracy over all test samples, at the end of the run, with 15 bins."""
    found = {}
    for name in run.predictors:
        confidences, correct = [], []
        for split in run.splits:
            confidence, predicted = answered(run.logits(name, split))
            confidences.append(confidence)
            correct.append(predicted == split.labels.cpu())
        found[name] = reliability(torch.cat(confidences), torch.cat(correct))
    return Calibration(found)


def reliability(confidence: torch.Tensor, correct: torch.Tensor) -> Reliability:
    """Sort predictions into bins.

    Args:
        confidence: of each prediction, 0 to 1, `[N]`, N at least 1.
        correct: whether it is right, `bool [N]`.

    Examples:
        >>> each = reliability(torch.tensor([1.0, 1.0, 0.5, 0.5]), torch.tensor([True, True, True, False]))
        >>> each.error, each.count[-1], each.accuracy[7]
        (0.0, 2, 50.0)
    """
    confidence, bins = confidence.double(), confidence_bin(confidence)
    sums = torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64)
    sums.index_add_(1, bins, torch.stack([torch.ones_like(confidence), correct.double(), confidence]))
    count, right, confident = sums.numpy()
    error = expected_calibration_error(confident, right, count)
    assert error is not None, "there is a prediction"
    return Reliability(
        count=tuple(int(n) for n in count),
        confidence=_share(confident, count),
        accuracy=_share(right, count),
        error=error,
        mean_confidence=float(100 * confident.sum() / count.sum()),
        mean_accuracy=float(100 * right.sum() / count.sum()),
    )


def _share(part: NDArray[np.float64], count: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(float(100 * p / n) if n else None for p, n in zip(part, count, strict=True))


def described(result: Calibration) -> Description:
    """What to show of the reliability."""
    middles = tuple(100 * (b + 0.5) / CALIBRATION_BINS for b in range(CALIBRATION_BINS))
    lines = tuple(
        Line(name, middles, tuple(a if n >= FEWEST else None for a, n in zip(each.accuracy, each.count, strict=True)))
        for name, each in result.predictors.items()
    )
    numbers = [
        number
        for name, each in result.predictors.items()
        for number in (
            Number("expected calibration error, %", name, each.error),
            Number("confidence over accuracy, points", name, each.mean_confidence - each.mean_accuracy),
        )
    ]
    perfect = Line("", (0.0, 100.0), (0.0, 100.0))
    chart = Chart("reliability", "confidence, %", "accuracy, %", lines, perfect, "as right as it says")
    return Description(tuple(numbers), (chart,))


ANALYSIS = Analysis("calibration", "is it right as often as it says?", NoOptions, calibration, described)
