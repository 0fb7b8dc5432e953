"""SI's path integral, where it is known, and its penalty by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.methods.si import SI, SiConfig
from synergy.ops.vectors import parameter_vector
from synergy.types import Batch
from tests.methods import small

CURVATURE = 3.0


def quadratic(monkeypatch: pytest.MonkeyPatch, start: float, lr: float) -> tuple[SI, Batch]:
    """One weight theta, and the loss 1/2 * CURVATURE * theta^2."""

    def build_net(name: str) -> nn.Module:
        net = nn.Linear(1, 1, bias=False, dtype=torch.float64, device="meta").to_empty(device="cpu")
        nn.init.constant_(net.weight, start)
        return net

    def loss(outputs: Tensor, labels: Tensor, **options: Any) -> Tensor:
        return CURVATURE / 2 * outputs.square().sum()

    monkeypatch.setattr(F, "cross_entropy", loss)
    one = torch.ones(1, 1, dtype=torch.float64)
    return SI(SiConfig(lr=lr, c=0.0, xi=0.25), small.setting(build_net=build_net)), Batch(one, one, torch.zeros(1))


def test_path_integral_on_a_quadratic(monkeypatch: pytest.MonkeyPatch) -> None:
    """theta_k = r^k theta_0 with r = 1 - lr a, so that omega = lr a^2 theta_0^2 (1 - r^2n) / (1 - r^2)."""
    start, lr, steps = 0.3, 0.05, 7
    method, batch = quadratic(monkeypatch, start, lr)
    for _ in range(steps):
        method.observe(batch)
    r = 1 - lr * CURVATURE
    omega = lr * CURVATURE**2 * start**2 * (1 - r ** (2 * steps)) / (1 - r**2)
    assert method.path.values.item() == pytest.approx(omega, rel=1e-12)
    moved = start * (1 - r**steps)
    method.end_task(small.task(0))
    assert method.importance.values.item() == pytest.approx(omega / (moved**2 + 0.25), rel=1e-12)
    assert method.path.values.item() == 0
    assert method.anchor.values.item() == pytest.approx(start * r**steps, rel=1e-12)


def test_path_integral_is_by_how_much_the_loss_fell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the gradient is clipped, as it is here until theta is 1/3."""
    start, lr, steps = 2.0, 1e-3, 2500
    method, batch = quadratic(monkeypatch, start, lr)
    before = method.observe(batch).losses["loss"]
    for _ in range(steps - 1):
        method.observe(batch)
    end = parameter_vector(method.net).item()
    assert 0 < end < 0.2
    fell = before.item() - CURVATURE / 2 * end**2
    assert method.path.values.item() == pytest.approx(fell, rel=1e-2)


def test_a_step_is_bounded_by_the_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = quadratic(monkeypatch, start=100.0, lr=0.05)
    method.observe(batch)
    assert parameter_vector(method.net).item() == pytest.approx(100.0 - 0.05)
    assert method.path.values.item() == pytest.approx(0.05 * CURVATURE * 100.0)


def test_weights_that_raised_the_loss_have_no_importance() -> None:
    method = SI(SiConfig(c=1.0, xi=0.1), small.setting())
    method.path.values.copy_(torch.linspace(-1, 1, len(method.path.values)))
    method.end_task(small.task(0))
    assert torch.equal(method.importance.values > 0, torch.linspace(-1, 1, len(method.path.values)) > 0)
    assert method.importance.values.min() == 0


def test_penalty_by_hand_over_two_tasks() -> None:
    method = SI(SiConfig(lr=0.4, c=20.0, xi=0.01), small.setting())
    by_hand = small.twin(method.net)
    importance, anchor = torch.zeros_like(parameter_vector(by_hand)), parameter_vector(by_hand)
    for index in range(2):
        path = torch.zeros_like(anchor)
        for number in range(4):
            batch = small.batch(10 * index + number)
            drift = torch.cat([p.reshape(-1) for p in by_hand.parameters()]) - anchor
            penalty = (importance * drift.square()).sum()
            ce = F.cross_entropy(by_hand(batch.inputs), batch.labels)
            losses = method.observe(batch).losses
            torch.testing.assert_close(losses["loss"], (ce + 20.0 * penalty).detach())
            unpenalised = small.gradient(by_hand, ce)
            direction = unpenalised + 20.0 * 2 * importance * drift.detach()
            before = parameter_vector(by_hand)
            small.move(by_hand, direction.clamp(-1, 1), lr=0.4)
            path -= unpenalised * (parameter_vector(by_hand) - before)
            small.assert_same_weights(method.net, by_hand)
        assert index == 0 or losses["penalty"] > 0
        torch.testing.assert_close(method.path.values, path, rtol=1e-9, atol=1e-12)
        method.end_task(small.task(index))
        drift = parameter_vector(by_hand) - anchor
        importance = importance + path.clamp(min=0) / (drift.square() + 0.01)
        anchor = parameter_vector(by_hand)
        torch.testing.assert_close(method.importance.values, importance, rtol=1e-9, atol=1e-12)
