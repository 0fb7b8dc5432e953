"""Evaluation against the same thing written slowly, one sample at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from synergy.data.view import ImageView
from synergy.runs import evaluate as evaluate_module
from synergy.runs.evaluate import (
    CALIBRATION_BINS,
    Evaluation,
    added_by_columns,
    added_in_one_product,
    batch_size,
    evaluate,
)
from synergy.types import ProtocolName, Split

PLAIN = ImageView(dtype=torch.float64)


class Table:
    """Answers with stored scores: a sample's raw pixels hold the number of its row. Counts its batches."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores
        self.batches: list[int] = []

    def __call__(self, inputs: Tensor, /) -> Tensor:
        high, low = (inputs * 255).round().long().flatten(1).T
        self.batches.append(len(inputs))
        return self.scores[high * 256 + low]


class Whole:
    """Answers with one stored tensor, itself and not a copy."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def __call__(self, inputs: Tensor, /) -> Tensor:
        return self.scores


def splits_of(labels: Sequence[Sequence[int]], classes: Sequence[tuple[int, ...]]) -> list[Split]:
    """Samples numbered through all splits, their numbers in two pixels."""
    made, first = [], 0
    for of_split, own in zip(labels, classes, strict=True):
        numbers = torch.arange(first, first + len(of_split))
        raw = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8).view(-1, 1, 1, 2)
        made.append(Split(raw, torch.tensor(of_split), own))
        first += len(of_split)
    return made


def by_hand(scores: np.ndarray[Any, Any], splits: Sequence[Split], protocol: ProtocolName) -> Evaluation:
    """What `evaluate` is to give for one predictor under one protocol."""
    accuracies, judged, number = [], [], 0
    for split in splits:
        right = 0
        for label in split.labels.tolist():
            row = scores[number].astype(np.float64)
            number += 1
            if protocol == "task-IL":
                row = np.array([score if k in split.classes else -math.inf for k, score in enumerate(row)])
            exponentials = np.exp(row - row.max())
            probabilities = exponentials / exponentials.sum()
            predicted = int(probabilities.argmax())
            right += predicted == label
            judged.append((label, predicted == label, float(probabilities.max())))
        accuracies.append(100 * right / len(split))
    classes = sorted({label for label, _, _ in judged})
    of_class = {k: [right for label, right, _ in judged if label == k] for k in classes}
    return Evaluation(
        accuracies=tuple(accuracies),
        per_class={k: 100 * sum(rights) / len(rights) for k, rights in of_class.items()},
        calibration_error=calibration_by_hand([(right, confidence) for _, right, confidence in judged]),
    )


def calibration_by_hand(judged: Sequence[tuple[bool, float]]) -> float:
    error = 0.0
    for b in range(CALIBRATION_BINS):
        low, high = b / CALIBRATION_BINS, (b + 1) / CALIBRATION_BINS
        inside = [(r, c) for r, c in judged if low <= c < high or (b == CALIBRATION_BINS - 1 and c == 1)]
        if inside:
            accuracy = sum(r for r, _ in inside) / len(inside)
            confidence = sum(c for _, c in inside) / len(inside)
            error += len(inside) / len(judged) * abs(accuracy - confidence)
    return 100 * error


def assert_equal(given: Evaluation, expected: Evaluation) -> None:
    assert given.accuracies == pytest.approx(expected.accuracies)
    assert given.per_class == pytest.approx(expected.per_class)
    assert given.calibration_error == pytest.approx(expected.calibration_error)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Split], np.random.Generator, int]:
    """Splits of 1 to 40 samples whose labels are among their own classes, which may overlap."""
    n_classes = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels, classes = [], []
    for _ in range(draw(st.integers(1, 4))):
        own = tuple(sorted(draw(st.sets(st.integers(0, n_classes - 1), min_size=1))))
        classes.append(own)
        labels.append(rng.choice(own, size=draw(st.integers(1, 40))).tolist())
    return splits_of(labels, classes), rng, n_classes


@given(worlds())
def test_random_predictors_against_one_sample_at_a_time(world: tuple[list[Split], np.random.Generator, int]) -> None:
    splits, rng, n_classes = world
    n = sum(map(len, splits))
    scores = {"sharp": rng.normal(scale=3, size=(n, n_classes)), "blunt": rng.normal(size=(n, n_classes))}
    predictors = {name: Table(torch.from_numpy(values)) for name, values in scores.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_module, "BATCH", 16)
        found = evaluate(predictors, splits, PLAIN, ("class-IL", "task-IL"))
    keys = [(name, protocol) for name in scores for protocol in ("class-IL", "task-IL")]
    assert list(found) == keys
    for (name, protocol), evaluation in found.items():
        assert_equal(evaluation, by_hand(scores[name], splits, protocol))
    sizes = [min(16, len(split) - start) for split in splits for start in range(0, len(split), 16)]
    assert predictors["sharp"].batches == sizes


def test_several_batches_of_the_usual_size() -> None:
    n = 2 * evaluate_module.BATCH + 1
    scores = np.random.default_rng(0).normal(size=(n, 3))
    splits = splits_of([[0, 1, 2] * (n // 3)], [(0, 1, 2)])
    assert len(splits[0]) == n
    predictor = Table(torch.from_numpy(scores))
    found = evaluate({"one": predictor}, splits, PLAIN, ("domain-IL",))
    assert predictor.batches == [1000, 1000, 1]
    assert_equal(found["one", "domain-IL"], by_hand(scores, splits, "domain-IL"))


@pytest.mark.parametrize("protocol", ["class-IL", "task-IL", "domain-IL", "general"])
def test_one_split_of_one_sample(protocol: ProtocolName) -> None:
    splits = splits_of([[1]], [(1, 2)])
    scores = torch.tensor([[9.0, 1.0, 0.0]])
    found = evaluate({"one": Table(scores)}, splits, PLAIN, (protocol,))["one", protocol]
    # Class 0 wins with all outputs, class 1 among the split's own.
    assert found.accuracies == ((100.0,) if protocol == "task-IL" else (0.0,))
    assert found.per_class == {1: found.accuracies[0]}
    assert_equal(found, by_hand(scores.numpy(), splits, protocol))


def test_certain_answers_fall_into_the_last_bin() -> None:
    splits = splits_of([[0, 1]], [(0, 1)])
    found = evaluate({"sure": Table(torch.tensor([[1e4, 0.0], [1e4, 0.0]]))}, splits, PLAIN, ("general",))
    assert found["sure", "general"] == Evaluation((50.0,), {0: 100.0, 1: 0.0}, 50.0)


def test_masking_leaves_the_scores_alone() -> None:
    splits = splits_of([[1, 1]], [(1,)])
    scores = torch.tensor([[5.0, 1.0, 0.0], [0.0, 1.0, 5.0]])
    before = scores.clone()
    found = evaluate({"one": Whole(scores)}, splits, PLAIN, ("task-IL", "class-IL"))
    assert torch.equal(scores, before)
    assert found["one", "task-IL"].accuracies == (100.0,)
    assert found["one", "class-IL"].accuracies == (0.0,)


def test_predictors_see_the_plain_view() -> None:
    """Normalised as in training, but neither cropped nor mirrored."""
    augment = ImageView(padding=2, flip=True, mean=(0.5,), std=(0.25,))
    seen: list[Tensor] = []

    def look(inputs: Tensor, /) -> Tensor:
        seen.append(inputs)
        return torch.zeros(len(inputs), 2)

    raw = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    evaluate({"one": look}, [Split(raw, torch.tensor([0]), (0, 1))], augment, ("general",))
    torch.testing.assert_close(seen[0], torch.tensor([-2.0, -1.2, -0.4, 2.0]).view(1, 1, 2, 2))


def test_nothing_to_evaluate() -> None:
    assert evaluate({}, splits_of([[0]], [(0,)]), PLAIN, ("general",)) == {}


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 9))
def test_an_accelerator_adds_up_the_same(seed: int, samples: int, n: int) -> None:
    """In one product, whose order repeats: `index_add_` on CUDA adds in any order."""
    rng = np.random.default_rng(seed)
    confidence, columns = torch.from_numpy(rng.random(samples)), torch.from_numpy(rng.integers(0, n, samples))
    values = torch.stack([torch.ones_like(confidence), (confidence > 0.5).double(), confidence])
    one, other = added_by_columns(values, columns, n), added_in_one_product(values, columns, n)
    assert torch.equal(one[:2], other[:2])
    torch.testing.assert_close(one[2], other[2], rtol=1e-13, atol=1e-13)


def test_an_accelerator_answers_many_samples_at_once() -> None:
    def size(*shape: int) -> int:
        raw = torch.empty(20_000, *shape, dtype=torch.uint8, device="meta")
        return batch_size(Split(raw, torch.empty(20_000, dtype=torch.int64, device="meta"), (0,)), Shaped())

    assert size(1, 28, 28) == 10_000 and size(3, 32, 32) == 2730 and size(3, 64, 64) == 1000


class Shaped(ImageView):
    """A view without values."""

    def plain(self, raw: Tensor) -> Tensor:
        return raw.float()
