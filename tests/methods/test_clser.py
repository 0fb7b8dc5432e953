"""CLS-ER beside its parity traces: which network answers, and which coin moves which average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from synergy.methods.base import Answer
from synergy.methods.clser import CLSER, ClserConfig
from synergy.ops.vectors import parameter_vector
from tests.methods import normalised, small


def method(**changes: float) -> CLSER:
    options = {"buffer_size": 6, "minibatch_size": 6} | changes
    return CLSER(ClserConfig.from_mapping(options, "this test"), small.setting())


def test_the_stable_network_answers() -> None:
    clser = method()
    nets = {name: answer.net for name, answer in clser.predictors().items() if isinstance(answer, Answer)}
    assert nets == {"stable": clser.stable, "plastic": clser.plastic, "working": clser.net}
    assert next(iter(nets)) == "stable"


@pytest.mark.parametrize("moving", ["plastic", "stable"])
def test_each_average_has_its_own_probability(moving: str) -> None:
    frequencies = {f"{name}_model_update_freq": float(name == moving) for name in ("plastic", "stable")}
    clser = method(**frequencies)
    start = parameter_vector(clser.net).clone()
    for seed in range(3):
        clser.observe(small.batch(seed))
    moved = {name: not torch.equal(parameter_vector(vars(clser)[name]), start) for name in ("plastic", "stable")}
    assert moved == {"plastic": moving == "plastic", "stable": moving == "stable"}


def test_the_joint_batch_has_the_last_word_on_running_statistics() -> None:
    config = ClserConfig(buffer_size=6, minibatch_size=6)
    clser, alone = CLSER(config, small.setting(build_net=normalised.build)), normalised.build("net")
    first, second = small.batch(1), small.batch(2)
    clser.observe(first)
    clser.observe(second)
    for inputs in (first.inputs, first.inputs, torch.cat([second.inputs, first.inputs])):
        alone(inputs)
    assert isinstance(clser.net, nn.Module)
    torch.testing.assert_close(normalised.statistics(clser.net), normalised.statistics(alone))
