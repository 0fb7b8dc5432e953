"""Short traces of every method, to see when a change alters what a method does.

    python -m tests.methods.golden er_ace          writes tests/golden/er_ace_trace.json

A trace is 20 steps on seq-digits in float64, four of each task: the loss of every step, and a few sums over every
network that the method holds or answers with, and over every vector in its state. Write one when a method is new, or
when its update rule was meant to change; say so in the commit.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synergy import testing
from synergy.data.view import ImageView
from synergy.methods import method_class
from synergy.methods.base import Answer, Method, make_method
from synergy.ops.vectors import PerParameter, parameter_vector
from synergy.randomness import generator, torch_generator
from synergy.scenarios.base import AnyScenario
from synergy.types import Batch

GOLDEN = Path(__file__).parent.parent / "golden"
STEPS = 4
"""Of each task."""
VIEW = ImageView(dtype=torch.float64)
OPTIONS: Mapping[str, Any] = {
    "buffer_size": 20,
    "minibatch_size": 8,
    "ema_update_freq": 0.5,
    "fisher_update_freq": 0.5,
    "plastic_model_update_freq": 0.5,
    "stable_model_update_freq": 0.5,
    "fitting_epochs": 4,
    "ema_warmup": 1.0,
}
"""A memory that overflows, coins that fall on both sides, a short fit, the published warm-up; all else is default."""


def path(name: str) -> Path:
    return GOLDEN / f"{name}_trace.json"


def record(name: str) -> dict[str, Any]:
    """The trace of a method as it is now."""
    kind = method_class(name)
    stream = testing.scenario("seq-digits", batch_size=kind.only_batch_size or 8)
    method = _method(name, stream)
    losses = [loss for index in range(stream.n_tasks) for loss in _task(method, stream, index)]
    vectors = {key: value for key, value in vars(method).items() if isinstance(value, Tensor)}
    vectors |= {key: value.values for key, value in vars(method).items() if isinstance(value, PerParameter)}
    nets = {key: value for key, value in vars(method).items() if isinstance(value, nn.Module)}
    nets |= {key: net for key, net in _answering(method).items() if all(net is not held for held in nets.values())}
    vectors |= {key: parameter_vector(net) for key, net in nets.items()}
    return {"losses": losses, "state": {key: _sums(vector) for key, vector in sorted(vectors.items())}}


def write(name: str) -> Path:
    """Keep the trace of a method as it is now."""
    file = path(name)
    file.write_text(json.dumps(record(name), indent=1) + "\n")
    return file


def _method(name: str, stream: AnyScenario) -> Method[Any]:
    kind = method_class(name)
    config = kind.Config(**{key: value for key, value in OPTIONS.items() if key in kind.Config.names()})

    def build_net(name: str) -> nn.Module:
        net = stream.build_net(torch_generator(0, f"net/{name}")).double()
        _draw_again(net, generator(0, f"golden/{name}"))
        return net

    setting = replace(testing.setting(stream), build_net=build_net, view=VIEW)
    return make_method(kind, config, setting, testing.budget(stream))


def _draw_again(net: nn.Module, rng: np.random.Generator) -> None:
    """Weights in float64, which are the same on every processor; float32 ones are rounded as it has vector units."""
    for parameter in net.parameters():
        if parameter.dim() > 1:
            bound = 1 / math.sqrt(parameter[0].numel())
            parameter.data = torch.from_numpy(rng.uniform(-bound, bound, size=tuple(parameter.shape)))


def _task(method: Method[Any], stream: AnyScenario, index: int) -> list[float]:
    task = stream.task(index)
    method.begin_task(task)
    samples = itertools.islice(task.batches(0), STEPS)
    losses = [method.observe(Batch(raw, VIEW.plain(raw), labels)).losses for raw, labels in samples]
    method.end_task(task)
    return [_rounded(step["loss"]) for step in losses if step]


def _answering(method: Method[Any]) -> dict[str, nn.Module]:
    """The networks behind its predictors: some are trained when they are asked for, and held nowhere else."""
    return {key: answer.net for key, answer in method.predictors().items() if isinstance(answer, Answer)}


def _sums(tensor: Tensor) -> list[float]:
    """Of the values' sizes, of their squares, and of their products with a wave, which tells their order."""
    values = tensor.flatten().double()
    wave = torch.cos(torch.arange(len(values), dtype=values.dtype))
    return [_rounded(values.abs().sum()), _rounded(values.square().sum()), _rounded(values @ wave)]


def _rounded(value: Tensor) -> float:
    return float(f"{value.item():.9g}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write(argument)
