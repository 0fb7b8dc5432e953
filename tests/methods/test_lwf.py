"""LwF: its distillation against plain sums, its warm-up, and a step of the second task by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.data.view import ImageView
from synergy.errors import UsageError
from synergy.methods.lwf import LwF, LwfConfig, distillation
from synergy.nets.backbone import Backbone
from synergy.ops.vectors import parameter_vector
from synergy.types import Batch, Task
from tests.methods import normalised, small

OLD, NEW = (0, 1), (2, 3)  # and 4 is never seen
FLIP = ImageView(flip=True, dtype=torch.float64)


def softened(row: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation_is_cross_entropy_with_soft_targets(temperature: float) -> None:
    logits, target = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = 0.0
    for ours, theirs in zip(logits.tolist(), target.tolist(), strict=True):
        pairs = zip(softened(ours, temperature), softened(theirs, temperature), strict=True)
        total -= sum(soft * math.log(p) for p, soft in pairs)
    assert math.isclose(distillation(logits, target, temperature).item(), total / 5, rel_tol=1e-12)


def test_distillation_at_temperature_one_of_sure_targets_is_plain_cross_entropy() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2, 1, 1, 0])
    sure = 1000 * F.one_hot(labels, 3).float()
    torch.testing.assert_close(distillation(logits, sure, 1.0), F.cross_entropy(logits, labels))


def after_first_task(config: LwfConfig, augment: ImageView = small.VIEW) -> LwF:
    method = LwF(config, small.setting(view=augment), small.budget())
    first = small.task(0, classes=OLD)
    method.begin_task(first)
    method.observe(small.batch(1, classes=OLD))
    method.end_task(first)
    return method


def test_first_task_knows_its_own_classes_only() -> None:
    method = LwF(LwfConfig(lr=0.5, wd_reg=0.01), small.setting(), small.budget())
    by_hand = small.twin(method.net)
    method.begin_task(small.task(0, classes=OLD))
    small.assert_same_weights(method.net, by_hand)
    batch = small.batch(1, classes=OLD)
    norm = sum(p.square().sum() for p in by_hand.parameters())
    loss = F.cross_entropy(by_hand(batch.inputs)[:, :2], batch.labels) + 0.01 * norm
    small.step(by_hand, loss, lr=0.5)
    torch.testing.assert_close(method.observe(batch).losses["loss"], loss.detach())
    small.assert_same_weights(method.net, by_hand)


def warm_up_by_hand(net: nn.Module, raw: Tensor, labels: Tensor) -> None:
    """One step on outputs 2 and 3, by the gradient of a linear classifier's cross-entropy."""
    assert isinstance(net, Backbone)
    features, new = net.features(small.VIEW.plain(raw)).detach(), slice(2, 4)
    with torch.no_grad():
        logits = features @ net.classifier.weight[new].T + net.classifier.bias[new]
        error = (logits.softmax(1) - F.one_hot(labels - 2, 2)) / len(labels)
        net.classifier.weight[new] -= 0.5 * error.T @ features
        net.classifier.bias[new] -= 0.5 * error.sum(0)


def test_warm_up_trains_the_new_outputs_alone() -> None:
    method = after_first_task(LwfConfig(lr=0.5))
    by_hand = small.twin(method.net)
    task = small.task(1, classes=NEW)
    warm_up_by_hand(by_hand, *task.take(torch.arange(len(task))))
    method.begin_task(task)
    small.assert_same_weights(method.net, by_hand)
    assert method.net.training
    assert torch.equal(parameter_vector(method.old), parameter_vector(method.net)), "frozen after the warm-up"


def test_a_step_of_the_second_task() -> None:
    config = LwfConfig(lr=0.5, alpha=0.8, softmax_temp=2.5, wd_reg=0.01)
    method = after_first_task(config, FLIP)
    method.begin_task(small.task(1, classes=NEW))
    frozen, by_hand = small.twin(method.net), small.twin(method.net)
    for seed in (5, 6):
        seen = small.batch(seed, classes=NEW)
        batch = Batch(seen.raw, seen.inputs.flip(3), seen.labels)
        loss = _second_task_loss(by_hand, frozen(seen.inputs).detach(), batch, config)
        small.step(by_hand, loss, lr=0.5)
        torch.testing.assert_close(method.observe(batch).losses["loss"], loss.detach())
        small.assert_same_weights(method.net, by_hand)
    small.assert_same_weights(method.old, frozen)


def _second_task_loss(net: nn.Module, target: Tensor, batch: Batch, config: LwfConfig) -> Tensor:
    logits, t = net(batch.inputs), config.softmax_temp
    soft = (target[:, :2] / t).softmax(1)
    kept = -(soft * (logits[:, :2] / t).log_softmax(1)).sum(1).mean()
    norm = torch.stack([p.square().sum() for p in net.parameters()]).sum()
    loss: Tensor = F.cross_entropy(logits[:, :4], batch.labels) + config.alpha * kept + config.wd_reg * norm
    return loss


def test_classes_that_come_again_are_not_new() -> None:
    method = after_first_task(LwfConfig(lr=0.5))
    by_hand = small.twin(method.net)
    method.begin_task(small.task(1, classes=OLD))
    small.assert_same_weights(method.net, by_hand)
    task = small.task(2, n=30, classes=(1, 2, 3))
    new = (task.labels != 1).nonzero()[:, 0]
    assert 0 < len(new) < 30
    warm_up_by_hand(by_hand, *task.take(new))
    method.begin_task(task)
    small.assert_same_weights(method.net, by_hand)
    assert method.seen.tolist() == [True, True, True, True, False]
    assert method.old_classes[: method.n_old].tolist() == [0, 1]


def test_a_network_without_features_is_refused() -> None:
    def build_net(name: str) -> nn.Module:
        return nn.Sequential(nn.Flatten(), small.build_net(name))

    with pytest.raises(UsageError, match="given Sequential; allowed for lwf: a Backbone"):
        LwF(LwfConfig(), small.setting(build_net=build_net), small.budget())


@pytest.mark.parametrize(("budget", "steps"), [(None, 4), (3, 3), (9, 4)])
def test_warm_up_takes_every_epoch_in_its_own_order(budget: int | None, steps: int) -> None:
    method = LwF(LwfConfig(lr=0.5), small.setting(), small.budget(n_epochs=2, max_steps_per_task=budget))
    method.begin_task(small.task(0, classes=OLD))
    by_hand, samples = small.twin(method.net), small.samples(101, 10, NEW)
    parts = [torch.arange(10).split(6), torch.arange(10).flip(0).split(6)]
    task = Task(1, samples, lambda epoch: parts[epoch])
    for chosen in [*parts[0], *parts[1]][:steps]:
        warm_up_by_hand(by_hand, *task.take(chosen))
    method.begin_task(task)
    small.assert_same_weights(method.net, by_hand)


def test_warm_up_and_the_frozen_network_leave_running_statistics_alone() -> None:
    method = LwF(LwfConfig(), small.setting(build_net=normalised.build), small.budget())
    method.begin_task(small.task(0, classes=OLD))
    method.observe(small.batch(1, classes=OLD))
    before = normalised.statistics(method.net)
    method.begin_task(small.task(1, classes=NEW))
    assert torch.equal(normalised.statistics(method.net), before)
    method.observe(small.batch(2, classes=NEW))
    assert not torch.equal(normalised.statistics(method.net), before)
    assert torch.equal(normalised.statistics(method.old), before)
