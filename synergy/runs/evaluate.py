"""Evaluation: every predictor of a method on every test split, under every protocol of the scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from synergy.runs.metrics import expected_calibration_error
from synergy.state import State
from synergy.types import Predictor, ProtocolName, Split, View

CALIBRATION_BINS = 15
BATCH = 1000
MOST = 10_000
INPUT_BYTES = 32 * 2**20
"""On an accelerator a batch has up to `MOST` samples, if their inputs take no more than that."""


@dataclass(frozen=True)
class Evaluation:
    """What one predictor scored under one protocol, in percent.

    Attributes:
        accuracies: on each split.
        per_class: over all splits, by label. Classes without test samples are left out.
        calibration_error: expected calibration error over all splits, 15 bins of equal width; None without samples.
    """

    accuracies: tuple[float, ...]
    per_class: dict[int, float]
    calibration_error: float | None


Evaluations = dict[tuple[str, ProtocolName], Evaluation]


def evaluate(
    predictors: Mapping[str, Predictor],
    splits: Sequence[Split],
    view: View,
    protocols: Sequence[ProtocolName],
) -> Evaluations:
    """Evaluate all predictors. The host waits for the device once, at the end.

    Args:
        predictors: by name; each maps inputs `[B, C, H, W]` to scores `[B, n_classes]`.
        splits: the test data; each split has at least one sample.
        view: predictors see its plain view.
        protocols: under task-IL only the scores of the split's own classes count.

    Returns:
        One evaluation per predictor and protocol, in the given order.
    """
    tallies: dict[tuple[str, ProtocolName], list[Tensor]] = {(n, p): [] for n in predictors for p in protocols}
    for split in splits:
        of_split: dict[tuple[str, ProtocolName], Tensor] = {}
        size = batch_size(split, view)
        for start in range(0, len(split), size):
            inputs = view.plain(split.raw[start : start + size])
            labels = split.labels[start : start + size]
            for name, predictor in predictors.items():
                scores = predictor(inputs)
                for protocol in protocols:
                    counted = own_classes(scores, split.classes) if protocol == "task-IL" else scores
                    tally = _tally(counted, labels)
                    key = (name, protocol)
                    of_split[key] = of_split[key] + tally if key in of_split else tally
        for key, tally in of_split.items():
            tallies[key].append(tally)
    return {key: _evaluation(torch.stack(per_split).cpu()) for key, per_split in tallies.items()}


def batch_size(split: Split, view: View) -> int:
    """Samples that are answered at once: on an accelerator many, since every batch costs its launches."""
    if split.raw.device.type == "cpu":
        return BATCH
    return max(BATCH, min(MOST, INPUT_BYTES // view.plain(split.raw[:1]).nbytes))


def to_state(evaluations: Evaluations) -> list[State]:
    """Evaluations as a part of a checkpoint, in their order."""
    return [
        {
            "predictor": predictor,
            "protocol": protocol,
            "accuracies": list(evaluation.accuracies),
            "per_class": dict(evaluation.per_class),
            "calibration_error": evaluation.calibration_error,
        }
        for (predictor, protocol), evaluation in evaluations.items()
    ]


def from_state(state: list[State]) -> Evaluations:
    """The evaluations that `to_state` was given.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: `state` has another form.
    """
    evaluations: Evaluations = {}
    for each in state:
        per_class, error = each["per_class"], each["calibration_error"]
        values = [*each["accuracies"], *per_class.values(), 0.0 if error is None else error]
        finite = all(isinstance(value, float) and math.isfinite(value) for value in values)
        if not finite or not all(isinstance(key, int) for key in per_class):
            raise ValueError("an evaluation holds something else than finite numbers")
        if not isinstance(each["predictor"], str) or each["protocol"] not in get_args(ProtocolName):
            raise ValueError("an evaluation names no known protocol")
        key = (each["predictor"], each["protocol"])
        evaluations[key] = Evaluation(tuple(each["accuracies"]), per_class, error)
    return evaluations


def own_classes(scores: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Scores `[B, n_classes]` as task-IL counts them: those of other classes are minus infinity."""
    own = torch.zeros(scores.shape[1], dtype=torch.bool)
    own[list(classes)] = True
    return scores.masked_fill(~own.to(scores.device, non_blocking=True), -torch.inf)


def answered(scores: Tensor) -> tuple[Tensor, Tensor]:
    """From scores `[B, n_classes]` the confidence, the greatest softmax probability, and its class, both `[B]`."""
    # MPS has no float64. There float32 counts exactly up to 16 million.
    exact = torch.float32 if scores.device.type == "mps" else torch.float64
    confidence, predicted = scores.to(exact).softmax(1).max(1)
    return confidence, predicted


def confidence_bin(confidence: Tensor) -> Tensor:
    """The bin of each confidence (0 to 1), of `CALIBRATION_BINS` of equal width, `int64 [B]`."""
    return (confidence * CALIBRATION_BINS).long().clamp_(0, CALIBRATION_BINS - 1)


def _tally(scores: Tensor, labels: Tensor) -> Tensor:
    """Counts `float64 [3, n_classes + bins]`: row 0 all samples, row 1 correct ones, row 2 the sum of confidences.

    The first `n_classes` columns are by class, the others by bin of confidence.
    """
    confidence, predicted = answered(scores)
    correct = (predicted == labels).to(confidence.dtype)
    values = torch.stack([torch.ones_like(correct), correct, confidence])
    add = added_by_columns if scores.device.type == "cpu" else added_in_one_product
    by_class = add(values, labels, scores.shape[1])
    return torch.cat([by_class, add(values, confidence_bin(confidence), CALIBRATION_BINS)], 1)


def added_by_columns(values: Tensor, columns: Tensor, n: int) -> Tensor:
    """The sums over all samples of a column: `[3, B]`, and the column of each sample, `int64 [B]` -> `[3, n]`."""
    return values.new_zeros(len(values), n).index_add_(1, columns, values)


def added_in_one_product(values: Tensor, columns: Tensor, n: int) -> Tensor:
    """The same for an accelerator, which would add the samples of a column in another order each time."""
    return values @ (columns[:, None] == torch.arange(n, device=columns.device)).to(values.dtype)


def _evaluation(tallies: Tensor) -> Evaluation:
    """From the tallies of all splits, `[K, 3, n_classes + bins]`."""
    by_class, by_bin = tallies[..., :-CALIBRATION_BINS], tallies.sum(0)[:, -CALIBRATION_BINS:]
    accuracies = 100 * by_class[:, 1].sum(1) / by_class[:, 0].sum(1)
    samples, correct = by_class.sum(0)[:2].tolist()
    return Evaluation(
        accuracies=tuple(accuracies.tolist()),
        per_class={label: 100 * c / n for label, (n, c) in enumerate(zip(samples, correct, strict=True)) if n},
        calibration_error=expected_calibration_error(by_bin[2].numpy(), by_bin[1].numpy(), by_bin[0].numpy()),
    )
