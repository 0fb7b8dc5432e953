"""Online EWC against one sample at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.methods import ewc_on
from synergy.methods.ewc_on import EwcConfig, EwcOn
from synergy.ops.vectors import parameter_vector
from synergy.types import Task
from tests.methods import normalised, small


def fisher_one_by_one(net: nn.Module, task: Task) -> Tensor:
    data = task.train()
    total = torch.zeros_like(parameter_vector(net))
    for raw, label in zip(small.VIEW.plain(data.raw), data.labels, strict=True):
        score = -F.cross_entropy(net(raw[None]), label[None])
        total += score.detach().exp() * small.gradient(net, score).square()
    return total / len(data)


def test_penalty_and_fisher_over_three_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ewc_on, "CHUNK", 4)  # ten samples: chunks of unequal size
    method = EwcOn(EwcConfig(lr=0.2, e_lambda=30.0, gamma=0.6), small.setting())
    by_hand = small.twin(method.net)
    fisher, anchor = torch.zeros_like(parameter_vector(by_hand)), parameter_vector(by_hand)
    for index in range(3):
        task = small.task(index)
        method.begin_task(task)
        for batch in (small.batch(2 * index), small.batch(2 * index + 1)):
            drift = torch.cat([p.reshape(-1) for p in by_hand.parameters()]) - anchor
            penalty = (fisher * drift.square()).sum()
            loss = F.cross_entropy(by_hand(batch.inputs), batch.labels) + 30.0 * penalty
            small.step(by_hand, loss, lr=0.2)
            losses = method.observe(batch).losses
            torch.testing.assert_close(losses["loss"], loss.detach())
            small.assert_same_weights(method.net, by_hand)
        assert index == 0 or losses["penalty"] > 0
        method.end_task(task)
        fisher, anchor = 0.6 * fisher + fisher_one_by_one(by_hand, task), parameter_vector(by_hand)
        torch.testing.assert_close(method.fisher.values, fisher, rtol=1e-9, atol=1e-15)
        assert torch.equal(method.anchor.values, parameter_vector(method.net))


def test_the_fisher_information_leaves_running_statistics_alone() -> None:
    method = EwcOn(EwcConfig(), small.setting(build_net=normalised.build))
    method.observe(small.batch(1))
    before = normalised.statistics(method.net)
    method.end_task(small.task(0))
    assert torch.equal(normalised.statistics(method.net), before)
    assert method.fisher.values.any()
