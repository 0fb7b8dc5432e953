"""Weights that are cast together give the bits of weights that autocast casts one by one, in fewer operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from synergy.device import autocast
from synergy.nets.mlp import MLP
from synergy.nets.resnet import ResNet18
from synergy.ops.shadow import Shadowed, is_compiled
from synergy.ops.vectors import Flat, channels_last
from tests.operations import Counted

CPU = torch.device("cpu")
IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def resnet() -> nn.Module:
    return ResNet18(4, 16, generator=torch.Generator().manual_seed(0))


def resnet_with_channels_last() -> nn.Module:
    return channels_last(resnet())


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), MLP(768, 4, generator=torch.Generator().manual_seed(0)))


class Twice(nn.Module):
    """Uses one layer twice, one in a float32 part, one by hand, and one that is computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.shared, self.exact = nn.Linear(768, 20), nn.Linear(20, 20), nn.Linear(20, 20)
            self.again, self.by_hand = nn.Linear(20, 20), nn.Parameter(torch.randn(20, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        seen = self.shared(self.shared(self.first(inputs.flatten(1))).relu())
        with torch.autocast("cpu", enabled=False):
            seen = self.exact(seen.float())
        seen = checkpoint(self.again, seen, use_reentrant=False)
        out: Tensor = seen @ self.by_hand
        return out


def passes(build: Callable[[], nn.Module], shadowed: bool) -> tuple[list[Tensor], Counter[str]]:
    """Outputs, gradients and weights of some steps with two passes each, and the operations of the last step."""
    net = build()
    weights = Flat(net)
    found = []
    for _ in range(3):
        with Counted() as watch, autocast("bf16", CPU)(), Shadowed([weights]) if shadowed else nullcontext():
            own, joint = net(IMAGES[:3]), net(IMAGES)
            if build is Twice:
                own = own.detach()  # more than two gradients of one weight are summed in another order
            weights.backward(F.cross_entropy(joint.float(), LABELS) + own.float().square().mean())
            found += [own.detach(), joint.detach(), weights.grads.clone()]
            weights.values.sub_(weights.grads, alpha=0.1)
            with torch.no_grad():
                found.append(net(IMAGES))  # the weights have changed within the step
    return [*found, weights.values], watch.found


@pytest.mark.parametrize("build", [perceptron, Twice, resnet, resnet_with_channels_last])
def test_the_bits_are_those_of_autocast(build: Callable[[], nn.Module]) -> None:
    expected, found = passes(build, shadowed=False)[0], passes(build, shadowed=True)[0]
    assert all(map(torch.equal, expected, found)) and len(expected) == len(found) == 13


def test_there_are_fewer_operations() -> None:
    one_by_one, together = (passes(resnet, shadowed)[1] for shadowed in (False, True))
    # Three forward and two backward passes of 20 convolutions and a linear layer of two parameters.
    assert one_by_one["_to_copy"] - together["_to_copy"] == 22 * (3 + 2)
    assert together["_foreach_copy_"] == 2 + 2, "the weights were copied twice, the gradients cast back twice"
    views = ("view", "as_strided", "detach", "slice", "permute", "t", "transpose", "_unsafe_view", "alias")
    work = [sum(n for name, n in each.items() if name not in views) for each in (one_by_one, together)]
    assert work[1] < work[0] - 110


def test_a_change_of_one_weight_is_seen() -> None:
    net = perceptron()
    weights = Flat(net)
    with autocast("bf16", CPU)(), Shadowed([weights]), torch.no_grad():
        before = net(IMAGES)
        next(net.parameters()).zero_()
        after = net(IMAGES)
    with autocast("bf16", CPU)(), torch.no_grad():
        assert torch.equal(after, net(IMAGES)) and not torch.equal(before, after)


def test_gradients_of_a_pass_before_a_change_are_right() -> None:
    found = []
    for shadowed in (False, True):
        net = perceptron()
        weights = Flat(net)
        with autocast("bf16", CPU)(), Shadowed([weights]) if shadowed else nullcontext():
            early = net(IMAGES).float().sum()
            weights.values.mul_(0.5)
            late = net(IMAGES).float().sum()
            weights.backward(early + late)
        found.append(weights.grads)
    assert torch.equal(*found)


def test_what_it_does_not_know_stays_as_it_is() -> None:
    net = perceptron()
    average = Flat(net, with_grads=False)
    with autocast("bf16", CPU)(), Shadowed([average]):
        net(IMAGES).float().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())
    with Shadowed([average]):
        assert net(IMAGES).dtype is torch.float32
    frozen = perceptron()
    frozen[1].requires_grad_(False)
    exact = perceptron().double()
    with autocast("bf16", CPU)(), Shadowed([Flat(exact)]):
        assert exact(IMAGES.double()).dtype is torch.float64 and frozen(IMAGES).dtype is torch.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_is_recognised() -> None:
    net = perceptron()
    assert not is_compiled(net)
    net[1].compile()
    compiled: Any = torch.compile(perceptron(), backend="eager")
    assert is_compiled(net) and is_compiled(nn.Sequential(compiled)) and is_compiled(compiled)
