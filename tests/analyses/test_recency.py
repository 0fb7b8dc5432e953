"""The mass of each task, against sums one sample at a time and networks whose mass is known."""

from __future__ import annotations

import math

import pytest
import torch

from synergy.analyses.recency import described, mass_per_task, recency
from synergy.analyses.trained import TrainedRun
from synergy.errors import UsageError


def test_a_constant_network_gives_each_task_the_share_of_its_classes() -> None:
    masses, answers = mass_per_task(torch.full((7, 5), 3.0), [(4, 1), (0,), (2, 3)])
    assert masses.tolist() == [pytest.approx([0.4, 0.2, 0.4])] * 7
    assert answers.sum().item() == 7


def test_a_network_that_knows_the_last_task_alone_gives_it_everything() -> None:
    logits = torch.zeros(3, 4)
    logits[:, 3] = 100.0
    masses, answers = mass_per_task(logits, [(0, 1), (2, 3)])
    assert masses[:, 1].tolist() == pytest.approx([1.0] * 3) and answers.tolist() == [[0.0, 1.0]] * 3


def test_the_mass_of_a_run_is_that_of_its_samples_one_by_one(split_run: TrainedRun) -> None:
    found = recency(split_run)
    classes = split_run.record.task_classes
    total, n = [0.0] * len(classes), 0
    for split in split_run.splits:
        for scores in split_run.logits("semantic", split).double().tolist():
            powers = [math.exp(score) for score in scores]
            total = [
                t + sum(powers[label] for label in own) / sum(powers) for t, own in zip(total, classes, strict=True)
            ]
            n += 1
    assert found.predictors["semantic"].mass == pytest.approx([100 * t / n for t in total])
    assert [sum(each.mass) for each in found.predictors.values()] == pytest.approx([100, 100])
    assert found.predictors.keys() == {"semantic", "working"}
    shares = [len(split) for split in split_run.splits]
    assert found.samples == pytest.approx([100 * share / n for share in shares])
    bias = described(found).numbers[1].value
    assert bias == pytest.approx(found.predictors["working"].mass[-1] - found.samples[-1])


def test_it_is_refused_where_tasks_share_classes(rotated_run: TrainedRun) -> None:
    with pytest.raises(UsageError, match=r"recency: given rot-digits \(domain-IL\), where a class is of several tasks"):
        recency(rotated_run)
