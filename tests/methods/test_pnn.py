"""PNN: lateral connections by hand, and columns that stay as they are."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.methods.base import MethodConfig
from synergy.methods.pnn import PNN
from synergy.nets.progressive import MLPColumn
from synergy.state import same
from synergy.types import Task
from tests.methods import small

TASKS = ((1,), (0, 4), (2, 3))


def task(number: int) -> Task:
    return small.task(number, classes=TASKS[number])


def trained(tasks: int = 3) -> PNN:
    pnn = PNN(MethodConfig(lr=0.1), small.setting())
    for number in range(tasks):
        pnn.begin_task(task(number))
        for seed in range(2):
            pnn.observe(small.batch(seed, classes=TASKS[number]))
        pnn.end_task(task(number))
    return pnn


def column(pnn: PNN, number: int) -> MLPColumn:
    found = pnn.net.columns[number]
    assert isinstance(found, MLPColumn)
    return found


def affine(x: Tensor, layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    out = x @ layer.weight.T
    return out if layer.bias is None else out + layer.bias


def adapted(h: Tensor, adapter: nn.Module) -> Tensor:
    """U relu(V h), U without a bias."""
    assert isinstance(adapter, nn.Sequential)
    down, _, up = adapter
    assert isinstance(up, nn.Linear) and up.bias is None
    return affine(affine(h, down).clamp(min=0), up)


def test_connections_by_hand() -> None:
    pnn = trained()
    x = small.batch(7).inputs
    flat = x.flatten(1)
    first, second, third = (column(pnn, number) for number in range(3))
    assert not len(first.adapters)
    a1 = affine(flat, first.own.fc1).relu()
    a2 = affine(a1, first.own.fc2).relu()
    b1 = affine(flat, second.own.fc1).relu()
    b2 = (affine(b1, second.own.fc2) + adapted(a1, second.adapters[0])).relu()
    c1 = affine(flat, third.own.fc1).relu()
    c2 = (affine(c1, third.own.fc2) + adapted(torch.cat([a1, b1], 1), third.adapters[0])).relu()
    logits = torch.stack(
        [
            affine(a2, first.own.classifier),
            affine(b2, second.own.classifier) + adapted(a2, second.adapters[1]),
            affine(c2, third.own.classifier) + adapted(torch.cat([a2, b2], 1), third.adapters[1]),
        ]
    )
    torch.testing.assert_close(pnn.net(x), logits)
    answers = pnn.predictors()["columns"](x)
    for number, classes in enumerate(TASKS):
        torch.testing.assert_close(answers[:, classes], logits[number][:, classes])


def test_frozen_columns_stay_bit_equal_and_the_newest_learns() -> None:
    pnn = trained(tasks=1)
    for number in (1, 2):
        pnn.begin_task(task(number))
        frozen = [{k: v.clone() for k, v in column(pnn, n).state_dict().items()} for n in range(number)]
        newest = {k: v.clone() for k, v in column(pnn, number).state_dict().items()}
        pnn.observe(small.batch(5, classes=TASKS[number]))
        for n, before in enumerate(frozen):
            assert same(before, column(pnn, n).state_dict())
            assert not any(p.requires_grad or p.grad is not None for p in column(pnn, n).parameters())
        after = column(pnn, number).state_dict()
        assert not any(torch.equal(newest[name], after[name]) for name in newest if "weight" in name)


def test_loss_is_among_the_classes_of_the_task() -> None:
    pnn = trained(tasks=1)
    pnn.begin_task(task(1))
    batch = small.batch(3, classes=TASKS[1])
    logits = pnn.net(batch.inputs)[-1][:, TASKS[1]].detach()
    labels = torch.tensor([TASKS[1].index(int(label)) for label in batch.labels])
    torch.testing.assert_close(pnn.observe(batch).losses["loss"], F.cross_entropy(logits, labels))


@pytest.mark.parametrize("tasks", [0, 1, 3])
def test_columns_come_back_when_a_state_is_loaded(tasks: int) -> None:
    pnn, other = trained(tasks), trained(tasks=2)
    other.load_state_dict(pnn.state_dict())
    assert same(pnn.state_dict(), other.state_dict())
    x = small.batch(7).inputs
    assert torch.equal(pnn.predictors()["columns"](x), other.predictors()["columns"](x))
    for learner in (pnn, other):
        learner.begin_task(small.task(3, classes=(1, 2)))
        learner.observe(small.batch(8, classes=(1, 2)))
    assert same(pnn.state_dict(), other.state_dict())


def test_a_state_of_another_method_is_refused() -> None:
    with pytest.raises(ValueError, match="state has parts"):
        trained(1).load_state_dict({"net": {}})


@pytest.mark.parametrize("change", [{"tasks": 10**12}, {"tasks": 1}, {"column_of": torch.full((5,), 2)}])
def test_a_state_whose_columns_do_not_go_together_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="2 columns do not go with"):
        trained(1).load_state_dict(trained(2).state_dict() | change)


def test_what_it_needs_is_said() -> None:
    with pytest.raises(UsageError, match="given Linear; allowed for pnn: MLP, ResNet18"):
        PNN(MethodConfig(), small.setting(build_net=lambda name: nn.Linear(16, small.CLASSES)))


def test_the_first_task_too_is_trained_among_its_own_classes() -> None:
    pnn = PNN(MethodConfig(lr=0.1), small.setting())
    pnn.begin_task(task(0))
    batch = small.batch(1, classes=TASKS[0])
    logits = pnn.net(batch.inputs)[-1]
    own = torch.full_like(logits, -torch.inf)
    own[:, list(TASKS[0])] = logits[:, list(TASKS[0])]
    expected = torch.nn.functional.cross_entropy(own, batch.labels)
    assert torch.allclose(pnn.observe(batch).losses["loss"], expected.detach())
