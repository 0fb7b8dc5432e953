"""GDumb: a balanced memory, and a fit by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from synergy.errors import TrainingError, UsageError
from synergy.methods.base import Answer
from synergy.methods.gdumb import GDumb, GdumbConfig
from synergy.ops.vectors import parameter_vector
from synergy.randomness import torch_generator
from synergy.state import same
from synergy.types import Predictor
from tests.methods import small


def method(**changes: Any) -> GDumb:
    options = {"buffer_size": 10, "minibatch_size": 4, "fitting_epochs": 3, "maxlr": 0.5, "minlr": 0.1} | changes
    return GDumb(GdumbConfig.from_mapping(options, "this test"), small.setting())


def fitted(gdumb: GDumb) -> Answer:
    found: Predictor = gdumb.predictors()["fitted"]
    assert isinstance(found, Answer)
    return found


def test_a_stream_out_of_balance_is_stored_in_balance() -> None:
    gdumb = method()
    for number, classes in enumerate([(0, 1), (0, 1), (2,), (3, 4), (4,)]):
        assert gdumb.observe(small.batch(number, n=20, classes=classes)).losses == {}
    assert gdumb.memory.counts().tolist() == [2] * 5


def test_where_all_classes_come_at_once_memory_is_what_came_first() -> None:
    """The rule of the paper: a class that has its share stores nothing any more, however much its images change."""
    gdumb = method()
    gdumb.observe(small.batch(1, n=60))
    first = gdumb.memory.state_dict()
    assert gdumb.memory.counts().tolist() == [2] * 5
    for number in range(2, 6):
        gdumb.observe(small.batch(number, n=60))
    assert same(gdumb.memory.state_dict(), first)


def test_a_fit_by_hand() -> None:
    gdumb = method()
    gdumb.observe(small.batch(1, n=30))
    net, memory = small.build_net("fit"), gdumb.memory.all()
    rng, step = gdumb.setting.rng("order"), 0
    for _ in range(3):
        order = rng.permutation(10)
        for part in (order[:4], order[4:7], order[7:]):
            lr = 0.1 + (0.5 - 0.1) * (1 + math.cos(math.pi * step / 9)) / 2
            loss = F.cross_entropy(net(small.VIEW.plain(memory.raw[part])), memory.labels[part])
            small.step(net, loss, lr=lr)
            step += 1
    small.assert_same_weights(fitted(gdumb).net, net)


def test_a_fit_is_kept_until_memory_changes() -> None:
    gdumb = method()
    assert not gdumb.predictors(), "nothing to answer with before the first sample"
    gdumb.observe(small.batch(1, classes=(0, 1)))
    before = gdumb.state_dict()
    first = fitted(gdumb)
    assert same(before, gdumb.state_dict())
    assert fitted(gdumb).net is first.net
    gdumb.observe(small.batch(2, n=1, classes=(2,)))
    assert fitted(gdumb).net is not first.net
    full = method()
    full.observe(small.batch(1, n=60))
    kept = fitted(full).net
    full.observe(small.batch(2, n=5, classes=(3,)))
    assert full.memory.counts().tolist() == [2] * 5
    assert fitted(full).net is kept, "class 3 has its share, so nothing was stored"


def test_a_fit_follows_from_the_memory_alone() -> None:
    gdumb, other = method(), method()
    gdumb.observe(small.batch(1))
    other.observe(small.batch(2))
    assert not torch.equal(parameter_vector(fitted(gdumb).net), parameter_vector(fitted(other).net))
    other.load_state_dict(gdumb.state_dict())
    assert torch.equal(parameter_vector(fitted(gdumb).net), parameter_vector(fitted(other).net))


def test_lr_stands_in_for_maxlr() -> None:
    one, other = (
        method(maxlr=0.3),
        GDumb(GdumbConfig(lr=0.3, buffer_size=10, minibatch_size=4, fitting_epochs=3, minlr=0.1), small.setting()),
    )
    for gdumb in (one, other):
        gdumb.observe(small.batch(1))
    small.assert_same_weights(fitted(one).net, fitted(other).net)


def test_a_memory_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match=r"buffer_size: given 4; allowed: at least 5, one sample for each class"):
        method(buffer_size=4)


def test_the_learning_rate_cannot_rise() -> None:
    with pytest.raises(UsageError, match=r"minlr: given 0.0005; allowed: at most 0.0001, .* \(lr\)"):
        GdumbConfig(lr=0.0001)
    with pytest.raises(UsageError, match=r"minlr: given 0.2; allowed: at most 0.1, .* \(maxlr\)"):
        GdumbConfig(maxlr=0.1, minlr=0.2)


def linear_layers(name: str) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, small.CLASSES)).double()
    rng = torch_generator(0, name)
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -1, 1, generator=rng)
    return net


def test_a_fit_that_diverges_has_no_answer() -> None:
    # Two layers without ReLU: the answers multiply the weights, so they overflow whatever the weights were.
    config = GdumbConfig(lr=1e30, buffer_size=6, minibatch_size=6)
    method = GDumb(config, small.setting(build_net=linear_layers))
    method.observe(small.batch(1))
    with pytest.raises(TrainingError, match=r"a fit with a learning rate of 1e\+30 diverged; lower lr \(or maxlr\)"):
        method.predictors()
