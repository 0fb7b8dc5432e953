"""Weight noise: what is known of it, and that the run is as before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from synergy.analyses.flatness import FlatnessConfig, described, flatness, noisy
from synergy.analyses.trained import TrainedRun, trained_run
from synergy.errors import UsageError
from tests.analyses.runs import finished

BRIEF = FlatnessConfig(levels=(0.0, 0.1, 3.0), draws=2)


def test_without_noise_the_accuracy_is_the_runs_own_to_the_bit(split_run: TrainedRun, rotated_run: TrainedRun) -> None:
    for run in (split_run, rotated_run):
        found = flatness(run, BRIEF)
        for name, curve in found.predictors.items():
            assert set(curve.accuracy[0]) == {run.record.find(name, run.protocol).metrics["final_average"]}
            assert len(set(curve.accuracy[2])) == 2, "two draws are two directions"


def test_some_samples_are_a_draw_of_each_split(rotated_run: TrainedRun) -> None:
    one, other, whole = (rotated_run.drawn(most, seed) for most, seed in ((7, 0), (7, 1), (10_000, 0)))
    assert [len(split) for split in one] == [7, 7, 7]
    assert not all(torch.equal(a.raw, b.raw) for a, b in zip(one, other, strict=True))
    assert all(torch.equal(a.raw, b.raw) for a, b in zip(whole, rotated_run.splits, strict=True))
    accuracy = flatness(rotated_run, FlatnessConfig(BRIEF.levels, 1, samples=7)).predictors["working"].accuracy[0][0]
    assert round(accuracy * 21 / 100, 9).is_integer()


def test_the_loss_is_the_mean_over_samples_one_by_one(split_run: TrainedRun) -> None:
    total, n = 0.0, 0
    for split in split_run.splits:
        logits = split_run.logits("working", split).double()
        for scores, label in zip(logits, split.labels.tolist(), strict=True):
            total -= float(scores[label] - scores.logsumexp(0))
            n += 1
    assert flatness(split_run, BRIEF).predictors["working"].loss[0][0] == pytest.approx(total / n)


def test_much_noise_leaves_chance(split_run: TrainedRun) -> None:
    curve = flatness(split_run, FlatnessConfig(levels=(0.0, 50.0), draws=5)).predictors["working"]
    assert sum(curve.accuracy[1]) / 5 < 30 < curve.accuracy[0][0]


def test_the_noise_has_the_size_it_says_and_goes_away() -> None:
    first, last = nn.Linear(400, 300), nn.Linear(300, 1).requires_grad_(False)
    net = nn.Sequential(first, last)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(KeyError), noisy(net, 0.5, torch.Generator().manual_seed(1)):
        size = (first.weight - before[0]).square().mean().sqrt() / before[0].square().mean().sqrt()
        assert size.item() == pytest.approx(0.5, rel=0.02)
        assert torch.equal(last.weight, before[2]), "frozen weights stay"
        raise KeyError
    assert all(torch.equal(p, value) for p, value in zip(net.parameters(), before, strict=True))


def test_two_times_are_one_result(split_run: TrainedRun) -> None:
    assert flatness(split_run, BRIEF) == flatness(split_run, BRIEF)
    assert flatness(split_run, BRIEF) != flatness(split_run, FlatnessConfig(BRIEF.levels, 2, noise_seed=1))


def test_the_number_is_what_the_middle_level_costs(split_run: TrainedRun) -> None:
    result = flatness(split_run, BRIEF)
    curve = result.predictors["semantic"]
    number = described(result).numbers[0]
    assert number.value == pytest.approx(curve.accuracy[0][0] - sum(curve.accuracy[1]) / 2)
    assert number.title == "accuracy lost to weight noise of 0.1, points"


def test_levels_grow() -> None:
    with pytest.raises(UsageError, match="levels: given"):
        FlatnessConfig(levels=(0.0, 0.2, 0.1))


def test_an_answer_that_is_no_network_is_refused(tmp_path: Path) -> None:
    run = trained_run(finished(tmp_path, "seq-digits", "ncm", max_tasks=2))
    with pytest.raises(UsageError, match="flatness: given ncm, whose nearest_mean is no plain network"):
        flatness(run, BRIEF)
