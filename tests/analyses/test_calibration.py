"""Reliability, against known cases and the record's own error."""

from __future__ import annotations

import pytest
import torch

from synergy.analyses.calibration import FEWEST, calibration, described, reliability
from synergy.analyses.trained import TrainedRun


def test_a_perfect_classifier_has_no_error() -> None:
    found = reliability(torch.ones(50), torch.ones(50, dtype=torch.bool))
    assert (found.error, found.count[-1], found.accuracy[-1], found.confidence[0]) == (0.0, 50, 100.0, None)


def test_the_error_of_one_that_is_always_sure_and_never_right_is_everything() -> None:
    found = reliability(torch.ones(10), torch.zeros(10, dtype=torch.bool))
    assert (found.error, found.mean_confidence, found.mean_accuracy) == (100.0, 100.0, 0.0)


def test_the_bins_are_those_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(400, generator=generator, dtype=torch.float64)
    correct = torch.rand(400, generator=generator) < 0.6
    found = reliability(confidence, correct)
    error = 0.0
    for b in range(15):
        inside = [i for i, c in enumerate(confidence.tolist()) if b / 15 <= c < (b + 1) / 15]
        mean = sum(confidence[i].item() for i in inside) / len(inside)
        right = sum(bool(correct[i]) for i in inside) / len(inside)
        assert found.count[b] == len(inside)
        assert found.confidence[b] == pytest.approx(100 * mean) and found.accuracy[b] == pytest.approx(100 * right)
        error += len(inside) / 400 * abs(mean - right) * 100
    assert found.error == pytest.approx(error)


def test_the_error_of_a_run_is_the_one_in_its_record(split_run: TrainedRun, rotated_run: TrainedRun) -> None:
    for run in (split_run, rotated_run):
        for name, each in calibration(run).predictors.items():
            judged = run.record.find(name, run.protocol)
            assert each.error == pytest.approx(judged.calibration_error, rel=1e-12)
            assert sum(each.count) == sum(map(len, run.splits))


def test_the_figure_leaves_out_bins_of_a_few_samples(split_run: TrainedRun) -> None:
    result = calibration(split_run)
    (chart,) = described(result).charts
    for line in chart.lines:
        counts = result.predictors[line.predictor].count
        assert [y is not None for y in line.y] == [n >= FEWEST for n in counts]
