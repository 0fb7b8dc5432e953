"""A tiny world for tests of a method's mathematics: float64, 4x4 images, five classes, everything from small seeds."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from synergy.data.view import ImageView
from synergy.methods.base import Budget, Setting
from synergy.nets.mlp import MLP
from synergy.ops.vectors import parameter_vector
from synergy.randomness import generator, torch_generator
from synergy.types import Batch, Split, Task

CLASSES = 5
VIEW = ImageView(dtype=torch.float64)


def build_net(name: str) -> nn.Module:
    return MLP(16, CLASSES, hidden=5, generator=torch_generator(0, name)).double()


def setting(**changes: Any) -> Setting:
    """The usual setting of these tests; `changes` replace fields."""
    return replace(Setting(build_net, VIEW, CLASSES, seed=0), **changes)


def budget(**changes: Any) -> Budget:
    """Two tasks, batches of six, one epoch; `changes` replace fields."""
    return replace(Budget(n_tasks=2, batch_size=6, n_epochs=1), **changes)


def samples(seed: int, n: int, classes: tuple[int, ...] = tuple(range(CLASSES))) -> Split:
    rng = generator(seed, "small samples")
    raw = torch.from_numpy(rng.integers(0, 256, size=(n, 1, 4, 4))).to(torch.uint8)
    return Split(raw, torch.from_numpy(rng.choice(classes, size=n)), classes)


def batch(seed: int, n: int = 6, classes: tuple[int, ...] = tuple(range(CLASSES)), augment: ImageView = VIEW) -> Batch:
    """A batch whose inputs are not augmented."""
    split = samples(seed, n, classes)
    return Batch(split.raw, augment.plain(split.raw), split.labels)


def task(index: int, n: int = 10, classes: tuple[int, ...] = tuple(range(CLASSES))) -> Task:
    """A task of one batch."""
    return Task(index, samples(100 + index, n, classes), lambda epoch: [torch.arange(n)])


def twin(net: nn.Module) -> nn.Module:
    """A copy to train by hand."""
    return deepcopy(net)


def gradient(net: nn.Module, loss: Tensor) -> Tensor:
    """The gradient by all parameters as one vector `[P]`."""
    return torch.cat([grad.reshape(-1) for grad in torch.autograd.grad(loss, list(net.parameters()))])


def move(net: nn.Module, direction: Tensor, lr: float) -> None:
    """One step of plain SGD along a gradient `[P]`."""
    nn.utils.vector_to_parameters(parameter_vector(net) - lr * direction, net.parameters())


def step(net: nn.Module, loss: Tensor, lr: float) -> None:
    """One step of plain SGD on a loss."""
    move(net, gradient(net, loss), lr)


def assert_same_weights(net: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(parameter_vector(net), parameter_vector(other), rtol=1e-12, atol=1e-14)
