"""New classes: known rows stay bit-equal in every network, vector and optimiser state, and learning goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synergy.data.view import ImageView
from synergy.errors import UsageError
from synergy.methods import METHODS, method_class
from synergy.methods.base import Answer, Budget, Method, Setting, make_method
from synergy.nets.mlp import MLP
from synergy.ops.growth import classifier, classifier_name, widen
from synergy.ops.vectors import Flat
from synergy.types import Batch

FREE = [name for name in METHODS if not method_class(name).needs_boundaries]
IMAGE = (1, 4, 4)
MLP_HEAD = "classifier"


def perceptron(name: str, n_classes: int = 3) -> nn.Module:
    return MLP(16, n_classes, 8, generator=torch.Generator().manual_seed(1))


def convolutional(name: str) -> nn.Module:
    """A network of a user's own: BatchNorm, and a classifier that has no name."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), head)


def adam(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr)


def made(name: str, build_net: Callable[[str], nn.Module], **options: Any) -> Method:  # type: ignore[type-arg]
    kind = method_class(name)
    few = {
        "buffer_size": 12,
        "minibatch_size": 4,
        "fitting_epochs": 2,
        "fisher_update_freq": 1.0,
        "ema_update_freq": 0.5,
    }
    chosen = {key: value for key, value in few.items() if key in kind.Config.names()}
    return make_method(kind, kind.Config(**chosen), replace(Setting(build_net, ImageView(), 3), **options), Budget())


def observe(method: Method, steps: int, labels: int, seed: int = 0) -> None:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    size = method.only_batch_size or 6
    for _ in range(steps):
        raw = torch.from_numpy(rng.integers(0, 256, (size, *IMAGE), dtype=np.uint8))
        method.observe(Batch(raw, ImageView().plain(raw), torch.from_numpy(rng.integers(0, labels, size))))


def networks(method: Method) -> dict[str, nn.Module]:  # type: ignore[type-arg]
    return {name: part for name, part in vars(method).items() if isinstance(part, nn.Module)}


@pytest.mark.parametrize("build_net", [perceptron, convolutional])
@pytest.mark.parametrize("name", sorted(set(FREE) - {"gdumb"}))
def test_known_rows_do_not_change_by_a_bit(name: str, build_net: Callable[[str], nn.Module]) -> None:
    method = made(name, build_net, make_optimizer=adam)
    observe(method, 4, labels=3)
    inputs = torch.rand(5, *IMAGE)
    before = {key: {n: p.clone() for n, p in net.named_parameters()} for key, net in networks(method).items()}
    answers = {key: Answer(net)(inputs) for key, net in networks(method).items()}
    assert before
    head = classifier_name(build_net("net"))
    method.grow(2, head)
    for key, net in networks(method).items():
        assert classifier(net, head).out_features == 5
        for parameter_name, parameter in net.named_parameters():
            old = before[key][parameter_name]
            assert torch.equal(parameter[: len(old)], old)
            assert not parameter[len(old) :].any()
        scores = Answer(net)(inputs)
        assert torch.allclose(scores[:, :3], answers[key], atol=1e-6)
        assert not scores[:, 3:].any()
    observe(method, 4, labels=5, seed=1)
    if "optimizer" in vars(method):
        assert any(classifier(net, head).weight[3:].any() for net in networks(method).values()), (
            "new rows never learned"
        )


@pytest.mark.parametrize("name", ["synergy", "er"])
def test_vectors_and_optimiser_state_follow(name: str) -> None:
    """Against the layers' own views: what belonged to a weight before belongs to the same weight afterwards."""
    method = made(name, perceptron, make_optimizer=adam)
    observe(method, 4, labels=3)
    (weights, *_) = [part for part in vars(method).values() if isinstance(part, Flat)]
    state = method.optimizer.state[weights.parameter]  # type: ignore[attr-defined]
    vectors = {"moment": state["exp_avg"], "square": state["exp_avg_sq"]}
    if name == "synergy":
        vectors["fisher"] = method.fisher.values  # type: ignore[attr-defined]
    before = {key: [view.clone() for view in weights.views(vector)] for key, vector in vectors.items()}
    step = state["step"].clone()
    method.grow(2, MLP_HEAD)
    assert list(method.optimizer.state) == [weights.parameter]  # type: ignore[attr-defined]
    state = method.optimizer.state[weights.parameter]  # type: ignore[attr-defined]
    vectors = {"moment": state["exp_avg"], "square": state["exp_avg_sq"]}
    if name == "synergy":
        vectors["fisher"] = method.fisher.values  # type: ignore[attr-defined]
    assert torch.equal(state["step"], step)
    for key, vector in vectors.items():
        for old, new in zip(before[key], weights.views(vector), strict=True):
            assert torch.equal(new[: len(old)], old) and not new[len(old) :].any(), key
        assert vector.any()


@pytest.mark.parametrize("name", ["er_ace"])
def test_growing_in_the_middle_equals_starting_wide(name: str) -> None:
    """A network whose last rows are zeros from the start against one that grows them after a first batch.

    True of a loss that looks only at the classes of the batch.
    """

    def wide(net_name: str) -> nn.Module:
        net = perceptron(net_name)
        widen(classifier(net, MLP_HEAD), 2)
        return net

    grown, started = made(name, perceptron), made(name, wide)
    observe(grown, 1, labels=3)
    observe(started, 1, labels=3)
    grown.grow(2, MLP_HEAD)
    for method in (grown, started):
        observe(method, 5, labels=5, seed=1)
    one, other = (dict(networks(method)["net"].named_parameters()) for method in (grown, started))
    assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)


def test_stored_logits_of_new_classes_are_zero_as_the_network_says() -> None:
    method = made("der", perceptron)
    observe(method, 3, labels=3)
    (memory,) = method.memories()
    before = memory.all().extras["logits"].clone()
    method.grow(2, MLP_HEAD)
    after = memory.all().extras["logits"]
    assert torch.equal(after[:, :3], before) and not after[:, 3:].any()
    observe(method, 3, labels=5)


@pytest.mark.parametrize("name", FREE)
def test_a_grown_method_saves_and_restores(name: str) -> None:
    method = made(name, perceptron)
    observe(method, 3, labels=3)
    method.grow(2, MLP_HEAD)
    observe(method, 2, labels=5)
    other = made(name, lambda net_name: perceptron(net_name, 5))
    other.load_state_dict(method.state_dict())
    for each in (method, other):
        observe(each, 3, labels=5, seed=2)
    one, two = networks(method), networks(other)
    assert all(
        torch.equal(a, b) for key in one for a, b in zip(one[key].parameters(), two[key].parameters(), strict=True)
    )


def test_the_optimiser_moves_what_has_grown() -> None:
    """SGD by hand from the gradients that are left after a step."""
    method = made("sgd", perceptron)
    observe(method, 1, labels=3)
    method.grow(1, MLP_HEAD)
    weights = next(part for part in vars(method).values() if isinstance(part, Flat))
    before = weights.values.clone()
    observe(method, 1, labels=4)
    assert torch.allclose(weights.values, before - 0.1 * weights.grads, atol=1e-7)
    assert weights.grads[-1] != 0, "the newest bias has no gradient"


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.last(self.first(inputs))
        return scores


def test_what_cannot_grow_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no nn\.Linear"):
        classifier_name(nn.Conv2d(1, 1, 1))
    with pytest.raises(UsageError, match="did you mean 'classifier'"):
        classifier(perceptron(""), "clasifier")
    with pytest.raises(UsageError, match="shares its weights"):
        classifier(Tied(), "last")


def test_the_last_linear_layer_is_the_classifier() -> None:
    assert classifier_name(perceptron("")) == "classifier"
    assert classifier_name(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4, bias=False), nn.Identity())) == "2"


def test_a_layer_without_bias_grows() -> None:
    layer = nn.Linear(3, 2, bias=False)
    widen(layer, 1)
    assert layer.weight.shape == (3, 3) and layer.bias is None and layer(torch.ones(1, 3))[0, 2] == 0
