"""Per-class confusion: what is taken for what."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from synergy.analyses.base import Analysis, NoOptions
from synergy.analyses.trained import TrainedRun
from synergy.runs.evaluate import answered
from synergy.runs.findings import Description, Grid, Number


@dataclass(frozen=True)
class Confusion:
    """Answers against labels, over all test samples.

    Attributes:
        classes: names of the classes of the stream, `[C]`.
        counts: of each predictor, by name, `[C][C]`: samples of class (row) that are answered with class (column).

    Examples:
        >>> Confusion(("cat", "dog"), {"working": ((9, 1), (0, 10))}).counts["working"][0]
        (9, 1)
    """

    classes: tuple[str, ...]
    counts: dict[str, tuple[tuple[int, ...], ...]]


def confusion(run: TrainedRun, options: NoOptions | None = None) -> Confusion:
    """Count answers against labels, at the end of the run, under the protocol of its result."""
    names = run.class_names()
    counts = {}
    for name in run.predictors:
        parts = [confused(run.logits(name, split), split.labels.cpu()) for split in run.splits]
        counts[name] = tuple(tuple(row) for row in torch.stack(parts).sum(0).tolist())
    return Confusion(tuple(names), counts)


def confused(logits: Tensor, labels: Tensor) -> Tensor:
    """Count pairs of label (row) and answer (column), `int64 [C, C]`: logits `[N, C]`, labels `int64 [N]`.

    Examples:
        >>> confused(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])).tolist()
        [[1, 0], [1, 1]]
    """
    n = logits.shape[1]
    return torch.bincount(labels * n + answered(logits)[1], minlength=n * n).view(n, n)


def described(result: Confusion) -> Description:
    """What to show of the confusion: shares of each class, and the class that is known worst."""
    grids, numbers = [], []
    for name, counts in result.counts.items():
        shares = [tuple(100 * n / sum(row) if sum(row) else None for n in row) for row in counts]
        right = [row[label] for label, row in enumerate(shares)]
        known = [value for value in right if value is not None]
        numbers.append(Number("accuracy on the worst class, %", name, min(known)))
        grids.append(
            Grid("confusion", name, "class", "answer", result.classes, result.classes, tuple(shares)),
        )
    return Description(tuple(numbers), (), tuple(grids))


ANALYSIS = Analysis("confusion", "which classes does it take for which?", NoOptions, confusion, described)
