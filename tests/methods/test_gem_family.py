"""A-GEM, its reservoir variant and GEM, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.data.view import ImageView
from synergy.errors import UsageError
from synergy.methods.agem import AGem, AGemConfig
from synergy.methods.agem_r import AGemR
from synergy.methods.base import ReplayConfig
from synergy.methods.gem import Gem, GemConfig
from synergy.types import Batch, Task
from tests.methods import small

FLIP = ImageView(flip=True, dtype=torch.float64)
REPLAY = ReplayConfig(lr=0.5, buffer_size=6, minibatch_size=6)


def ce_gradient(net: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    return small.gradient(net, F.cross_entropy(net(inputs), labels))


def against(batch: Batch) -> Batch:
    """The same inputs with other labels: a step on it harms the original."""
    return Batch(batch.raw, batch.inputs, (batch.labels + 2) % small.CLASSES)


def projected(gradient: Tensor, reference: Tensor) -> Tensor:
    dot = (gradient @ reference).item()
    return gradient if dot >= 0 else gradient - dot / (reference @ reference).item() * reference


@pytest.mark.parametrize("harmful", [True, False])
def test_agem_r_projects_on_a_draw_that_is_not_augmented(harmful: bool) -> None:
    method = AGemR(REPLAY, small.setting(view=FLIP))
    by_hand = small.twin(method.net)
    first = small.batch(1)
    second = against(first) if harmful else first

    small.step(by_hand, F.cross_entropy(by_hand(first.inputs), first.labels), lr=0.5)
    reference = ce_gradient(by_hand, first.inputs, first.labels)
    gradient = ce_gradient(by_hand, second.inputs, second.labels)
    assert (gradient @ reference < 0) == harmful
    small.move(by_hand, projected(gradient, reference), lr=0.5)

    method.observe(first)
    method.observe(second)
    small.assert_same_weights(method.net, by_hand)


def test_agem_projects_on_the_samples_of_past_tasks_augmented() -> None:
    setting = small.setting(view=FLIP)
    method = AGem(AGemConfig(lr=0.5, buffer_size=7, minibatch_size=6), setting, small.budget())
    method.observe(small.batch(1))
    assert not len(method.memory), "memory is filled only at task ends"
    method.end_task(small.task(0, classes=(0, 1)))
    assert method.memory.sizes == [3]
    by_hand = small.twin(method.net)
    kept = method.memory.of(0)
    second = against(Batch(kept.raw, FLIP.plain(kept.raw), kept.labels))

    order = setting.rng("replay").choice(3, size=3, replace=False, shuffle=False)
    inputs = FLIP(kept.raw[order], FLIP.decide(3, setting.rng("augment")))
    assert not torch.equal(inputs, FLIP.plain(kept.raw[order]))
    reference = ce_gradient(by_hand, inputs, kept.labels[order])
    gradient = ce_gradient(by_hand, second.inputs, second.labels)
    assert gradient @ reference < 0
    small.move(by_hand, projected(gradient, reference), lr=0.5)

    method.observe(second)
    small.assert_same_weights(method.net, by_hand)


def gem_after(tasks: list[Task], gamma: float) -> Gem:
    method = Gem(GemConfig(lr=0.5, buffer_size=8, gamma=gamma), small.setting(), small.budget())
    for task in tasks:
        method.observe(small.batch(task.index))
        method.end_task(task)
    return method


def past_gradients(method: Gem) -> list[Tensor]:
    kept = [method.memory.of(task) for task in range(len(method.memory.sizes))]
    return [ce_gradient(method.net, small.VIEW.plain(part.raw), part.labels) for part in kept]


@pytest.mark.parametrize("gamma", [0.5, 30.0])
def test_gem_with_one_past_task_has_a_closed_form(gamma: float) -> None:
    method = gem_after([small.task(0)], gamma)
    by_hand = small.twin(method.net)
    kept = method.memory.of(0)
    batch = against(Batch(kept.raw, small.VIEW.plain(kept.raw), kept.labels))

    (past,) = past_gradients(method)
    gradient = ce_gradient(by_hand, batch.inputs, batch.labels)
    assert gradient @ past < 0
    multiplier = max(gamma, (-(gradient @ past) / (past @ past + 1e-3)).item())
    small.move(by_hand, gradient + multiplier * past, lr=0.5)

    method.observe(batch)
    small.assert_same_weights(method.net, by_hand)


def test_gem_harms_none_of_two_past_tasks() -> None:
    method = gem_after([small.task(0, classes=(0,)), small.task(1, classes=(1,))], gamma=0.0)
    assert method.memory.sizes == [4, 4]
    before = small.twin(method.net)
    one, other = past_gradients(method)
    kept = method.memory.draw(8)
    batch = against(Batch(kept.raw, small.VIEW.plain(kept.raw), kept.labels))
    gradient = ce_gradient(before, batch.inputs, batch.labels)
    assert gradient @ one < 0 and gradient @ other < 0

    method.observe(batch)
    moved = [p - q for p, q in zip(before.parameters(), method.net.parameters(), strict=True)]
    step = torch.cat([part.detach().reshape(-1) for part in moved]) / 0.5
    for past in (one, other):
        assert step @ past > -1e-2 * step.norm() * past.norm()
    assert step @ gradient > 0


def test_gem_keeps_a_gradient_that_harms_none() -> None:
    method = gem_after([small.task(0)], gamma=0.5)
    by_hand = small.twin(method.net)
    kept = method.memory.of(0)
    batch = Batch(kept.raw, small.VIEW.plain(kept.raw), kept.labels)
    small.step(by_hand, F.cross_entropy(by_hand(batch.inputs), batch.labels), lr=0.5)
    method.observe(batch)
    small.assert_same_weights(method.net, by_hand)


@pytest.mark.parametrize(
    ("kind", "config"), [(AGem, AGemConfig(buffer_size=3, minibatch_size=3)), (Gem, GemConfig(buffer_size=3))]
)
def test_a_memory_smaller_than_the_number_of_tasks_is_refused(kind: Any, config: Any) -> None:
    with pytest.raises(UsageError, match="given 3; allowed: at least 4"):
        kind(config, small.setting(), small.budget(n_tasks=4))
