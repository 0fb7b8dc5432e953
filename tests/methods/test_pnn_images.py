"""PNN on images: a ResNet's lateral connections by hand, and columns that stay as they are, statistics included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from synergy import testing
from synergy.methods.base import MethodConfig
from synergy.methods.pnn import PNN
from synergy.nets.progressive import ResNetColumn
from synergy.nets.resnet import STRIDES, ResNet18
from synergy.ops.vectors import channels_last
from synergy.randomness import torch_generator
from synergy.state import same
from synergy.types import Batch, Split, Task
from tests.methods import small

TASKS = ((1,), (0, 4), (2, 3))
Weights = Mapping[str, Tensor]


def build_net(name: str, width: int = 3) -> nn.Module:
    return ResNet18(small.CLASSES, width, generator=torch_generator(0, name)).double()


def batch(seed: int, n: int = 6, classes: tuple[int, ...] = tuple(range(small.CLASSES))) -> Batch:
    """Images `[n, 3, 8, 8]`."""
    rng = torch_generator(seed, "images")
    raw = torch.randint(256, (n, 3, 8, 8), generator=rng, dtype=torch.uint8)
    labels = torch.tensor(classes)[torch.randint(len(classes), (n,), generator=rng)]
    return Batch(raw, small.VIEW.plain(raw), labels)


def task(number: int) -> Task:
    images = batch(number, classes=TASKS[number])
    return Task(number, Split(images.raw, images.labels, TASKS[number]), lambda epoch: [torch.arange(len(images.raw))])


def trained(tasks: int = 3, width: int = 3) -> PNN:
    setting = small.setting(build_net=lambda name: build_net(name, width))
    pnn = PNN(MethodConfig(lr=0.1), setting)
    for number in range(tasks):
        pnn.begin_task(task(number))
        for seed in range(2):
            pnn.observe(batch(seed, classes=TASKS[number]))
        pnn.end_task(task(number))
    return pnn


def column(pnn: PNN, number: int) -> ResNetColumn:
    found = pnn.net.columns[number]
    assert isinstance(found, ResNetColumn)
    return found


# The slow truth: sums over channels and places as they stand on paper, from the weights alone.


def convolved(x: Tensor, weight: Tensor, stride: int = 1, bias: Tensor | None = None) -> Tensor:
    """Shifted images, weighted and added."""
    reach = weight.shape[2] // 2
    height, width = x.shape[2:]
    padded = x.new_zeros(*x.shape[:2], height + 2 * reach, width + 2 * reach)
    padded[:, :, reach : reach + height, reach : reach + width] = x
    out = x.new_zeros(len(x), len(weight), height, width)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            shifted = padded[:, :, i : i + height, j : j + width]
            out += torch.einsum("oc,bchw->bohw", weight[:, :, i, j], shifted)
    out = out[:, :, ::stride, ::stride]
    return out if bias is None else out + bias[:, None, None]


def normalised(x: Tensor, of: Weights, name: str, newest: bool) -> Tensor:
    """By the batch's own statistics in the newest column, by running ones in the others."""
    if newest:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    else:
        mean, variance = of[f"{name}.running_mean"], of[f"{name}.running_var"]
    scale = of[f"{name}.weight"] / (variance + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + of[f"{name}.bias"][:, None, None]


def block(x: Tensor, of: Weights, name: str, stride: int, newest: bool, side: Tensor | None = None) -> Tensor:
    out = convolved(x, of[f"{name}.conv1.weight"], stride)
    out = normalised(out, of, f"{name}.bn1", newest).clamp(min=0)
    out = normalised(convolved(out, of[f"{name}.conv2.weight"]), of, f"{name}.bn2", newest)
    if f"{name}.shortcut.0.weight" in of:
        x = normalised(convolved(x, of[f"{name}.shortcut.0.weight"], stride), of, f"{name}.shortcut.1", newest)
    out = out + x
    return (out if side is None else out + side).clamp(min=0)


def layers_by_hand(x: Tensor, of: Weights, earlier: list[list[Tensor]], newest: bool) -> list[Tensor]:
    """The outputs of stem and stages, the last averaged over places, and the logits; U takes no stride here, V none."""
    out = normalised(convolved(x, of["own.conv1.weight"]), of, "own.bn1", newest).clamp(min=0)
    layers = [out]
    for number, stride in enumerate(STRIDES):
        side = None
        if earlier:
            below = torch.cat([column[number] for column in earlier], 1)
            inner = convolved(below, of[f"adapters.{number}.0.weight"], bias=of[f"adapters.{number}.0.bias"])
            side = convolved(inner.clamp(min=0), of[f"adapters.{number}.2.weight"])[:, :, ::stride, ::stride]
        out = block(out, of, f"own.layer{number + 1}.0", stride, newest, side)
        out = block(out, of, f"own.layer{number + 1}.1", 1, newest)
        layers.append(out)
    layers[-1] = out.mean((2, 3))
    logits = layers[-1] @ of["own.classifier.weight"].T + of["own.classifier.bias"]
    if earlier:
        below = torch.cat([column[4] for column in earlier], 1)
        inner = below @ of["adapters.4.0.weight"].T + of["adapters.4.0.bias"]
        logits = logits + inner.clamp(min=0) @ of["adapters.4.2.weight"].T
    return [*layers, logits]


def columns_by_hand(pnn: PNN, x: Tensor, learning: bool) -> list[Tensor]:
    """The logits of every column."""
    seen: list[list[Tensor]] = []
    last = len(pnn.net.columns) - 1
    for number, each in enumerate(pnn.net.columns):
        seen.append(layers_by_hand(x, each.state_dict(), seen, newest=learning and number == last))
    return [layers[-1] for layers in seen]


@pytest.mark.parametrize("width", [1, 3])
def test_connections_by_hand(width: int) -> None:
    pnn, x = trained(width=width), batch(7).inputs
    assert not len(column(pnn, 0).adapters)
    expected = columns_by_hand(pnn, x, learning=False)
    answers = pnn.predictors()["columns"](x)
    for number, classes in enumerate(TASKS):
        torch.testing.assert_close(answers[:, classes], expected[number][:, classes])
    expected = columns_by_hand(pnn, x, learning=True)
    torch.testing.assert_close(pnn.net(x), torch.stack(expected))


def test_every_connection_matters() -> None:
    """Every one of them, from every earlier column, moves the newest column's answer."""
    pnn, x = trained(), batch(7).inputs
    before = pnn.predictors()["columns"](x)[:, TASKS[2]]
    for adapter in column(pnn, 2).adapters:
        assert isinstance(adapter, nn.Sequential)
        weight = adapter[0].weight
        assert isinstance(weight, Tensor)
        for half in weight.chunk(2, dim=1):  # of either earlier column
            kept = half.detach().clone()
            half.data.zero_()
            assert not torch.allclose(pnn.predictors()["columns"](x)[:, TASKS[2]], before)
            half.data.copy_(kept)
    torch.testing.assert_close(pnn.predictors()["columns"](x)[:, TASKS[2]], before)


def test_frozen_columns_stay_bit_equal_with_their_statistics_and_the_newest_learns() -> None:
    pnn = trained(tasks=1)
    for number in (1, 2):
        pnn.begin_task(task(number))
        frozen = [{k: v.clone() for k, v in column(pnn, n).state_dict().items()} for n in range(number)]
        newest = {k: v.clone() for k, v in column(pnn, number).state_dict().items()}
        pnn.observe(batch(5, classes=TASKS[number]))
        pnn.predictors()["columns"](batch(6).inputs)
        pnn.observe(batch(6, classes=TASKS[number]))
        for n, before in enumerate(frozen):
            assert any("running_var" in name for name in before)
            assert same(before, column(pnn, n).state_dict())
            assert not any(p.requires_grad or p.grad is not None for p in column(pnn, n).parameters())
        after = column(pnn, number).state_dict()
        assert not any(torch.equal(newest[name], after[name]) for name in newest)


def test_nothing_is_forgotten() -> None:
    pnn, x = trained(tasks=2), batch(7).inputs
    before = pnn.predictors()["columns"](x)
    pnn.begin_task(task(2))
    pnn.observe(batch(5, classes=TASKS[2]))
    after = pnn.predictors()["columns"](x)
    for classes in TASKS[:2]:
        assert torch.equal(after[:, classes], before[:, classes])


@pytest.mark.parametrize("tasks", [0, 1, 3])
def test_columns_come_back_when_a_state_is_loaded(tasks: int) -> None:
    pnn, other = trained(tasks), trained(tasks=2)
    other.load_state_dict(pnn.state_dict())
    assert same(pnn.state_dict(), other.state_dict())
    x = batch(7).inputs
    assert torch.equal(pnn.predictors()["columns"](x), other.predictors()["columns"](x))
    for learner in (pnn, other):
        learner.observe(batch(9, classes=TASKS[max(0, tasks - 1)]))
        learner.begin_task(task(2))
        learner.observe(batch(8, classes=TASKS[2]))
    assert same(pnn.state_dict(), other.state_dict())
    assert len(other.net.columns) == max(1, tasks) + (tasks > 0)


def test_logits_under_autocast_have_the_precision_of_the_parameters() -> None:
    pnn = trained()
    pnn.net.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert pnn.net(batch(7).inputs.float()).dtype == torch.float32


def test_channels_last_gives_the_same() -> None:
    usual = trained(tasks=2, width=16)
    setting = replace(usual.setting, build_net=lambda name: channels_last(build_net(name, 16)))
    other = PNN(usual.config, setting)
    other.load_state_dict(usual.state_dict())
    for learner in (usual, other):
        learner.begin_task(task(2))
    losses = [learner.observe(batch(8, classes=TASKS[2])).losses["loss"] for learner in (usual, other)]
    torch.testing.assert_close(*losses)
    answers = [learner.predictors()["columns"](batch(7).inputs) for learner in (usual, other)]
    torch.testing.assert_close(*answers)


@pytest.mark.slow
@pytest.mark.real_data
def test_the_contract_on_images(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = testing.scenario("seq-cifar10")
    monkeypatch.setattr(stream, "build_net", lambda generator: ResNet18(10, 2, generator=generator))
    testing.check_method(PNN, MethodConfig(lr=0.03), stream)
