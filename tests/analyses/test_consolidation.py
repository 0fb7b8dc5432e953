"""Fisher mass per layer, against one sample at a time and what the method holds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from synergy.analyses.consolidation import ConsolidationConfig, consolidation, described
from synergy.analyses.trained import TrainedRun
from synergy.methods.synergy import Synergy


def test_the_mass_is_that_of_single_samples(split_run: TrainedRun) -> None:
    """All samples of the task are drawn, so that their order does not matter."""
    found = consolidation(split_run, ConsolidationConfig(samples=10_000))
    net = split_run.nets("a test")["working"]
    task = split_run.prepared.scenario.task(4)
    inputs, labels = split_run.prepared.scenario.view.plain(task.train().raw), task.labels
    sums = dict.fromkeys(found.layers, 0.0)
    for x, y in zip(inputs.split(1), labels.split(1), strict=True):
        loss = F.cross_entropy(net(x), y)
        for (name, _), grad in zip(net.named_parameters(), torch.autograd.grad(loss, [*net.parameters()]), strict=True):
            sums[name.rpartition(".")[0]] += float(grad.double().square().sum()) / len(labels)
    assert found.mass["working"][4] == pytest.approx([sums[layer] for layer in found.layers], rel=1e-4)


def test_what_the_method_holds_comes_from_every_checkpoint(split_run: TrainedRun) -> None:
    held = consolidation(split_run, ConsolidationConfig(samples=5)).held["fisher"]
    assert held.tasks == (1, 2, 3, 4, 5)
    method = split_run.prepared.method
    assert isinstance(method, Synergy)
    assert sum(held.mass[-1]) == pytest.approx(float(method.fisher.values.double().sum()))
    assert held.mass[0] != held.mass[-1]


def test_a_method_without_importance_holds_none(rotated_run: TrainedRun) -> None:
    result = consolidation(rotated_run, ConsolidationConfig(samples=5))
    assert result.held == {} and len(result.mass["working"]) == 3
    grid = described(result).grids[0]
    assert (grid.rows, grid.columns) == (result.layers, ("1", "2", "3"))
    for column in zip(*grid.values, strict=True):
        assert sum(share or 0 for share in column) == pytest.approx(100)


def test_the_draw_repeats_and_follows_its_seed(rotated_run: TrainedRun) -> None:
    one, same, other = (consolidation(rotated_run, ConsolidationConfig(5, seed)) for seed in (0, 0, 1))
    assert one == same != other
