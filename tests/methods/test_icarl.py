"""iCaRL: the loss, the choice of exemplars and the answer, each by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.methods.icarl import UNSEEN, ICaRL, IcarlConfig, incremental_bce
from synergy.nets.backbone import Backbone
from synergy.nets.mlp import MLP
from synergy.ops.herding import herd
from synergy.ops.vectors import parameter_vector
from synergy.randomness import torch_generator
from synergy.types import Task
from tests.methods import normalised, small

FIRST, SECOND = (1, 3), (0, 4)


def method(buffer_size: int = 12, wd_reg: float = 0.0) -> ICaRL:
    return ICaRL(IcarlConfig(lr=0.2, buffer_size=buffer_size, wd_reg=wd_reg), small.setting(build_net=wide))


def wide(name: str) -> nn.Module:
    """Wide enough that no sample's features are all zero."""
    return MLP(16, small.CLASSES, hidden=20, generator=torch_generator(0, name)).double()


def after_one_task(buffer_size: int = 12, wd_reg: float = 0.0) -> tuple[ICaRL, Task]:
    icarl, task = method(buffer_size, wd_reg), small.task(0, n=20, classes=FIRST)
    icarl.begin_task(task)
    icarl.observe(small.batch(1, classes=FIRST))
    icarl.end_task(task)
    return icarl, task


def unit(vectors: Tensor) -> Tensor:
    lengths = vectors.square().sum(-1, keepdim=True).sqrt()
    assert lengths.all()
    return vectors / lengths


def features(net: nn.Module, raw: Tensor) -> Tensor:
    assert isinstance(net, Backbone)
    return unit(net.features(small.VIEW.plain(raw)).detach())


def bce_by_hand(logits: Tensor, targets: Tensor) -> Tensor:
    p = logits.sigmoid()
    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()


def test_first_task_is_one_hot_among_its_own_classes() -> None:
    icarl = method(wd_reg=0.01)
    by_hand, batch = small.twin(icarl.net), small.batch(1, classes=FIRST)
    targets = torch.stack([(batch.labels == k).double() for k in FIRST], 1)
    norm = torch.cat([p.reshape(-1) for p in by_hand.parameters()]).square().sum()
    loss = bce_by_hand(by_hand(batch.inputs)[:, FIRST], targets) + 0.01 * norm
    small.step(by_hand, loss, lr=0.2)
    icarl.begin_task(small.task(0, classes=FIRST))
    losses = icarl.observe(batch).losses
    torch.testing.assert_close(losses["loss"], loss.detach())
    small.assert_same_weights(icarl.net, by_hand)


def test_later_tasks_distil_old_classes_and_mix_exemplars_in() -> None:
    icarl, _ = after_one_task()
    old, by_hand = small.twin(icarl.net), small.twin(icarl.net)
    exemplars = icarl.memory.all()
    icarl.begin_task(small.task(1, n=24, classes=SECOND))
    rng, owed, joined = icarl.setting.rng("replay"), 0.0, 0
    for seed in range(8):
        batch = small.batch(seed, n=3, classes=SECOND)
        owed += 3 * 12 / 24
        drawn = rng.choice(12, size=int(owed) - joined, replace=False, shuffle=False)
        joined += len(drawn)
        inputs = torch.cat([batch.inputs, small.VIEW.plain(exemplars.raw[drawn])])
        labels = torch.cat([batch.labels, exemplars.labels[drawn]])
        targets = torch.stack([(labels == k).double() for k in SECOND], 1)
        targets = torch.cat([old(inputs).sigmoid()[:, FIRST], targets], 1).detach()
        loss = bce_by_hand(by_hand(inputs)[:, FIRST + SECOND], targets)
        small.step(by_hand, loss, lr=0.2)
        losses = icarl.observe(batch).losses
        torch.testing.assert_close(losses["loss"], loss.detach())
        small.assert_same_weights(icarl.net, by_hand)
    assert joined == 12, "in an epoch as many join as there are exemplars"
    assert torch.equal(parameter_vector(icarl.old), parameter_vector(old)), "the old network must not learn"


def test_exemplars_are_those_of_herding_and_old_ones_are_cut_to_the_share() -> None:
    icarl, first = after_one_task()
    of_first = {label: icarl.memory.of(label).raw for label in FIRST}
    data = first.train()
    for label in FIRST:
        raw = data.raw[data.labels == label]
        of_class, chosen = features(icarl.net, raw), list[int]()
        for _ in range(6):
            left = [n for n in range(len(raw)) if n not in chosen]
            distance = [(of_class.mean(0) - of_class[[*chosen, n]].mean(0)).norm() for n in left]
            chosen.append(left[int(torch.stack(distance).argmin())])
        assert torch.equal(of_first[label], raw[chosen])
    second = small.task(1, n=20, classes=SECOND)
    icarl.begin_task(second)
    icarl.observe(small.batch(2, classes=SECOND))
    icarl.end_task(second)
    assert icarl.memory.sizes == [3, 3, 3, 3]
    for label in FIRST:
        assert torch.equal(icarl.memory.of(label).raw, of_first[label][:3])


def test_answer_is_the_nearest_mean_of_exemplar_features() -> None:
    icarl, task = after_one_task()
    icarl.observe(small.batch(5, classes=FIRST))
    means = {label: unit(features(icarl.net, icarl.memory.of(label).raw).mean(0)) for label in FIRST}
    (predictor,) = icarl.predictors().values()
    raw = task.train().raw
    scores = predictor(small.VIEW.plain(raw))
    for label in range(small.CLASSES):
        if label in FIRST:
            expected = -(features(icarl.net, raw) - means[label]).square().sum(1)
            torch.testing.assert_close(scores[:, label], expected)
        else:
            assert (scores[:, label] == UNSEEN).all()
    assert icarl.net.training


def test_there_is_no_answer_without_exemplars() -> None:
    icarl = method()
    icarl.begin_task(small.task(0))
    icarl.observe(small.batch(1))
    assert not icarl.predictors()


def test_a_class_that_comes_again_is_learned_as_new_and_chosen_from_old_and_new() -> None:
    icarl, _ = after_one_task()
    task = small.task(1, n=18, classes=(3, 0))
    icarl.begin_task(task)
    assert icarl.distilled.nonzero()[:, 0].tolist() == [1]
    data = task.train()
    raw = torch.cat([data.raw[data.labels == 3], icarl.memory.of(3).raw])
    icarl.end_task(task)
    assert torch.equal(icarl.memory.of(3).raw, raw[herd(features(icarl.net, raw), 4)])
    assert sorted(icarl.memory.classes) == [0, 1, 3]


def test_choosing_and_answering_leaves_statistics_and_mode_alone() -> None:
    icarl = ICaRL(IcarlConfig(buffer_size=12), small.setting(build_net=normalised.build))
    before = normalised.statistics(icarl.net)
    icarl.end_task(small.task(0, n=20, classes=FIRST))
    icarl.predictors()["nearest_mean"](small.batch(1).inputs)
    assert torch.equal(normalised.statistics(icarl.net), before)
    assert all(module.training for module in icarl.net.modules())
    assert not any(module.training for module in icarl.old.modules())


def test_bce_is_the_mean_over_seen_classes() -> None:
    logits, targets = torch.tensor([[1.0, -2.0, 50.0]]), torch.tensor([[1.0, 0.25, 0.0]])
    seen = torch.tensor([True, True, False])
    torch.testing.assert_close(incremental_bce(logits, targets, seen), bce_by_hand(logits[:, :2], targets[:, :2]))


def test_what_it_needs_is_said() -> None:
    with pytest.raises(UsageError, match=r"buffer_size: given 4; allowed: at least 5, one sample for each class"):
        method(buffer_size=4)
    with pytest.raises(UsageError, match="given Linear; allowed for icarl: a Backbone"):
        ICaRL(IcarlConfig(), small.setting(build_net=lambda name: nn.Linear(16, small.CLASSES)))
