"""Every method trains a network with BatchNorm for three tasks with its shipped values, and all losses are finite."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synergy import presets, testing
from synergy.data.view import ImageView
from synergy.engine.watch import LossWatch
from synergy.methods import METHODS, method_class
from synergy.methods.base import make_method
from synergy.nets.resnet import ResNet18
from synergy.randomness import generator, torch_generator
from synergy.types import Batch, ViewDraws

STEPS = 40
"""Steps of each task: HAL with anchors in evaluation mode diverges at step 84."""
TASKS = 3


class Coloured:
    """The digits in three equal channels, cropped at random."""

    image = ImageView(padding=1)

    def decide(self, n: int, rng: np.random.Generator) -> ViewDraws:
        return self.image.decide(n, rng)

    def __call__(self, raw: Tensor, draws: ViewDraws) -> Tensor:
        return self.image(raw, draws).expand(-1, 3, -1, -1).contiguous()

    def plain(self, raw: Tensor) -> Tensor:
        return self.image.plain(raw).expand(-1, 3, -1, -1).contiguous()


def shipped(method: str) -> dict[str, Any]:
    """The values for split CIFAR-10, with a memory of 200 if there is one; the defaults where there are none."""
    found = presets.available("seq-cifar10", method)
    values = dict(found[0].values) if found else {}
    names = method_class(method).Config.names()
    known = {"buffer_size": 200, "fitting_epochs": 2, **values, "fisher_update_freq": 0.02}
    return {name: value for name, value in known.items() if name in names}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if method_class(name).only_batch_size is None])
def test_losses_stay_finite(name: str) -> None:
    kind = method_class(name)
    stream = testing.scenario("seq-digits", batch_size=32)

    def build_net(net: str) -> nn.Module:
        return ResNet18(10, 8, generator=torch_generator(0, f"net/{net}"))

    setting = replace(testing.setting(stream), build_net=build_net, view=Coloured())
    method = make_method(kind, kind.Config(**shipped(name)), setting, replace(testing.budget(stream), max_tasks=TASKS))
    view, rng, watch = Coloured(), generator(0, "normalised"), LossWatch("step", name)
    number = 0
    for index in range(TASKS):
        task = stream.task(index)
        method.begin_task(task)
        epochs = itertools.chain.from_iterable(task.batches(epoch) for epoch in itertools.count())
        for raw, labels in itertools.islice(epochs, STEPS):
            number += 1
            step = method.observe(Batch(raw, view(raw, view.decide(len(raw), rng)), labels))
            watch.add(number, step.losses)
        watch.look()
        method.end_task(task)
    for answer in method.predictors().values():
        assert torch.isfinite(answer(view.plain(stream.tests(-1)[0].raw))).all()
