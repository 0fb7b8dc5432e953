"""The first batch is rehearsed: what cannot work is said in one line, while nothing has changed."""

from __future__ import annotations

import copy
import datetime
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from synergy import Learner, TrainingError, UsageError
from synergy.randomness import TorchRandomness
from tests.stream.test_learner import FEATURES, FREE, batches, few, method_of, net, raises, same_scores

X, Y = batches(1, labels=2, size=8)[0]


class Unused(nn.Module):
    """The linear layer registered last gives no logits, though it is of the right size."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.auxiliary = nn.Linear(FEATURES, 2), nn.Linear(FEATURES, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.logits(inputs)
        return scores


class SharedBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(FEATURES, 2), nn.Linear(2, 2)
        self.head.bias = self.body.bias

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(inputs))
        return scores


class Writing(nn.Module):
    """Works in place on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FEATURES, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs -= 0.5
        scores: Tensor = self.head(inputs)
        return scores


class Strict(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        assert inputs.shape[0] < 5, "small batches only"
        return super().forward(inputs)


def embedding() -> nn.Module:
    return nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(12, 2))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def dropping() -> nn.Module:
    return nn.Sequential(net(16), nn.Dropout(0.5), net(2, 16))


NO_GROWTH = "cannot get more outputs without the rest of the network; name the layer that gives the logits"
REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, dict[str, Any], str]] = {
    "an unused layer": (Unused, X, {}, f"head: the linear layer 'auxiliary' {NO_GROWTH}"),
    "BatchNorm after the head": (
        lambda: nn.Sequential(nn.Linear(FEATURES, 2), nn.BatchNorm1d(2)),
        X,
        {},
        f"head: the linear layer '0' {NO_GROWTH}",
    ),
    "a head with weight norm": (
        lambda: nn.Sequential(net(4), torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))),
        X,
        {},
        r"head: the linear layer '1' cannot get more outputs .*, since its weights are computed from others \(a param",
    ),
    "a head with another's bias": (
        SharedBias,
        X,
        {},
        "head: given 'head', which shares its weights with another layer",
    ),
    "an embedding that is too small": (
        embedding,
        torch.full((2, 3), 20),
        {},
        r"network: it cannot take samples of shape \[2, 3\] .*index out of range",
    ),
    "an assertion": (lambda: Strict(FEATURES, 2), X, {}, "network: it cannot take samples .*small batches only"),
    "one sample and BatchNorm": (normed, X[:1], {}, "samples: given a batch of 1, by which a BatchNorm cannot"),
    "BatchNorm and samples one by one": (
        normed,
        X,
        {"method": "mer"},
        "network: given one with BatchNorm for a method",
    ),
    "a network in place": (Writing, X, {}, "network: it writes to its inputs, which are your samples"),
    "a transform in place": (net, X, {"transform": lambda raw: raw.sub_(1)}, "transform: it writes to the samples"),
    "an augment in place": (net, X, {"augment": lambda raw, rng: raw.sub_(1)}, "augment: it writes to the samples"),
    "a transform to nothing": (net, X, {"transform": lambda raw: None}, "transform: it made a NoneType of 8 samples"),
    "a transform that fails": (net, X, {"transform": lambda raw: raw.no}, r"transform: it cannot take samples .*'no'"),
    "a transform to fewer": (
        net,
        X,
        {"transform": lambda raw: raw[:2]},
        r"transform: it made a tensor of shape \[2, 6\]",
    ),
    "a transform to NaN": (net, X, {"transform": torch.log}, "transform: it made NaN or infinity of the first batch"),
    "an augment of one argument": (net, X, {"augment": lambda raw: raw}, "augment: it cannot take samples"),
    "an augment to other samples": (
        net,
        X,
        {"augment": lambda raw, rng: raw[:, :3]},
        r"augment: it made \[8, 3\] of torch.float32 from \[8, 6\]",
    ),
    "an optimiser of other parameters": (
        net,
        X,
        {"optimizer": lambda parameters: torch.optim.Adam(net().parameters())},
        "optimizer: it made one of other parameters than those it was given",
    ),
    "no optimiser": (net, X, {"optimizer": lambda parameters: None}, "optimizer: it made a NoneType; allowed"),
    "an optimiser with a closure": (net, X, {"optimizer": torch.optim.LBFGS}, "optimizer: it made a LBFGS; allowed"),
    "no schedule": (net, X, {"scheduler": lambda optimizer: None}, "scheduler: it made a NoneType; allowed"),
    "a schedule by a measure": (
        net,
        X,
        {"scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau},
        "scheduler: it made a ReduceLROnPlateau",
    ),
    "a schedule of nothing": (
        net,
        X,
        {"method": "gdumb", "scheduler": lambda optimizer: None},
        "scheduler: given for gdumb, which has no optimiser",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_said_before_anything_changes(what: str) -> None:
    make, given, options, message = REFUSED[what]
    mine, before = given.clone(), given.clone()
    learner = Learner(make(), **options)
    chances = torch.get_rng_state()
    raises(message, lambda: learner.observe(mine, ["a"] * len(mine)))
    assert torch.equal(mine, before) and torch.equal(chances, torch.get_rng_state())
    assert learner.classes == [] and method_of(learner) is None and len(learner.memory) == 0


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("net", {"net": None}, "net: given None; allowed: a network"),
        ("net", {"net": nn.Linear}, "net: given <class .*; allowed: a network"),
        ("method", {"method": 5}, "method: given 5; allowed: a name such as 'er', or a class of Method"),
        ("method", {"method": nn.Linear}, "method: given <class"),
        (
            "optimizer",
            {"optimizer": torch.optim.SGD(net().parameters(), 0.1)},
            r"optimizer: given SGD \( .*allowed: a cal",
        ),
        ("scheduler", {"scheduler": "cosine"}, "scheduler: given 'cosine'; allowed: a callable"),
        ("transform", {"transform": "half"}, "transform: given 'half'; allowed: a callable"),
        ("augment", {"augment": 3}, "augment: given 3; allowed: a callable"),
        (
            "class_weights",
            {"class_weights": [1, 2]},
            r"class_weights: given a list; allowed: a mapping, \{label: weight\}",
        ),
        ("class_weights", {"class_weights": {"b": 3.0}, "classes": ["a", 1, 2]}, "class_weights: given 'b'; allowed"),
        ("head", {"head": "1", "classes": [0, 1, 2]}, r"unknown linear layer \(head\) '1'"),
        ("device", {"device": "cuda:99"}, "device: given cuda:99, which this machine does not have"),
        ("device", {"device": ["cpu"]}, r"device: given \['cpu'\], which this machine does not have"),
    ],
)
def test_arguments_that_are_none(what: str, options: dict[str, Any], message: str) -> None:
    raises(message, lambda: Learner(**{"net": net(), **options}))


def test_a_device_may_be_an_object() -> None:
    for device in (torch.device("cpu"), "cpu:0"):
        assert Learner(net(), device=device).device == torch.device("cpu")  # type: ignore[arg-type]


def test_arguments_of_calls() -> None:
    learner = Learner(net(), "er")
    learner.observe(X, Y)
    raises(r"unknown predictor '\['a'\]'", lambda: learner.predict(X, ["a"]))  # type: ignore[arg-type]
    raises("predicate: given None", lambda: learner.forget(None))  # type: ignore[arg-type]
    raises("predicate: it gave Tensor of several values", lambda: learner.forget(lambda sample, label: sample > 0))  # type: ignore[arg-type,return-value]
    raises("path: given None", lambda: learner.save(None))  # type: ignore[arg-type]
    raises(r"path: given 'a\\x00b'", lambda: Learner.load("a\0b", net()))


STRANGE: dict[str, tuple[Any, Any, str]] = {
    "what float32 cannot hold": (
        X.double() * 1e300,
        Y,
        "samples: number . of the batch holds NaN or infinity.*float32",
    ),
    "a sparse tensor": (X.to_sparse(), Y, "samples: given a sparse, nested or meta tensor"),
    "masked samples": (np.ma.masked_array(X.numpy(), mask=X.numpy() > 0), Y, "samples: given an array with masked"),
    "objects": (X.numpy().astype(object), Y, r"samples: given .*x.astype\('float32'\)"),
    "masked labels": (
        X,
        np.ma.masked_array(Y.numpy(), mask=[True] + [False] * 7),
        "labels: given an array with masked",
    ),
    "a frame of labels": (X[:1], pd.DataFrame({"label": [0]}), "labels: given a DataFrame; allowed: a list"),
    "a mapping of labels": (X[:1], {"a": 1}, "labels: given a dict; allowed: a list"),
    "a set of labels": (X[:2], {0, 1}, "labels: given a set; allowed: a list"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_strange_batches_are_refused_and_change_nothing(what: str) -> None:
    x, y, message = STRANGE[what]
    learner, undisturbed = Learner(net(), "er", **few("er")), Learner(net(), "er", **few("er"))
    for each in (learner, undisturbed):
        each.observe(X, Y)
    raises(message, lambda: learner.observe(x, y))
    for each in (learner, undisturbed):
        each.observe(X, Y)
    assert same_scores(learner, undisturbed) and learner.metrics() == undisturbed.metrics()


def test_arrays_of_the_other_byte_order_and_series_are_taken() -> None:
    one, other = Learner(net(), "er", **few("er")), Learner(net(), "er", **few("er"))
    one.observe(X, Y)
    other.observe(X.numpy().astype(">f4"), pd.Series(Y.numpy(), index=range(10, 18)))
    assert same_scores(one, other) and one.classes == other.classes


def test_a_number_without_a_row_in_the_embedding() -> None:
    learner = Learner(embedding(), "er", **few("er"))
    good, bad = torch.zeros(4, 3, dtype=torch.int64), torch.full((4, 3), -1)
    learner.observe(good, [0, 1, 0, 1])
    for call in (lambda: learner.observe(bad, [0] * 4), lambda: learner.predict(bad)):
        raises("samples: a number is larger than the network's embedding has rows for", call)
    learner.observe(good, [0, 1, 0, 1])


def test_one_sample_is_enough_for_a_method_that_only_stores_it() -> None:
    learner = Learner(normed(), "gdumb", **few("gdumb"))
    learner.observe(X[:1], ["a"])
    assert learner.classes == ["a"]


def test_a_batch_that_counts_nothing_teaches_nothing() -> None:
    learner = Learner(net(), "sgd", class_weights={0: 0.0})
    learner.observe(X, Y)
    before = learner.scores(X)
    assert float(learner.observe(X, [0] * 8)["loss"]) == 0
    assert torch.equal(before, learner.scores(X))


@pytest.mark.parametrize("name", FREE)
def test_dropout_goes_on_bit_by_bit(name: str, tmp_path: Path) -> None:
    """Its random numbers are the learner's own: the global generator makes no difference, and is left alone."""
    learner = Learner(dropping(), name, **few(name))
    for x, y in batches(3, labels=2):
        learner.observe(x, y)
    learner.save(tmp_path / "learner")
    others = [Learner.load(tmp_path / "learner", dropping()), copy.deepcopy(learner)]
    before = torch.get_rng_state()
    for x, y in batches(3, labels=2, seed=1):
        learner.observe(x, y)
    assert torch.equal(before, torch.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        for other in others:
            for x, y in batches(3, labels=2, seed=1):
                other.observe(x, y)
    assert all(same_scores(learner, other) for other in others)


def test_dropout_drops_otherwise_every_time() -> None:
    chance = TorchRandomness(0, "test", torch.device("cpu"))
    draws = []
    for _ in range(2):
        with chance.drawing():
            draws.append(torch.rand(4))
    assert not torch.equal(*draws)
    again = TorchRandomness(0, "test", torch.device("cpu"))
    with again.drawing():
        assert torch.equal(draws[0], torch.rand(4))
    chance.load_state_dict(again.state_dict())
    with chance.noticing() as drawn:
        assert torch.equal(draws[1], torch.rand(4))
    with chance.noticing() as none:
        pass
    assert drawn.drawn and not none.drawn


def test_lazy_layers_are_the_same_whatever_was_drawn_before() -> None:
    learners = []
    for seed in (1, 2):
        learners.append(Learner(nn.Sequential(nn.LazyLinear(8), nn.ReLU(), net(2, 8)), "er", **few("er")))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            learners[-1].observe(X, Y)
    assert same_scores(*learners)


@pytest.mark.parametrize("name", ["er", "synergy", "gdumb"])
def test_it_learns_within_no_grad_and_inference_mode(name: str, tmp_path: Path) -> None:
    """A user's context is none of its business, whichever comes first."""
    plain, inside = (Learner(dropping(), name, **few(name)) for _ in range(2))
    plain.observe(X, Y)
    with torch.inference_mode():
        inside.observe(X.clone(), Y)
        inside.predict(X)
    plain.observe(X, Y)
    with torch.no_grad():
        inside.observe(X, Y)
    assert same_scores(plain, inside)
    plain.save(tmp_path / "learner")
    with torch.inference_mode():
        loaded = Learner.load(tmp_path / "learner", dropping())
        frozen = X.clone()
    plain.observe(X, Y)
    loaded.observe(frozen, Y)
    assert same_scores(plain, loaded)


def test_a_fit_is_the_same_beside_another_thread() -> None:
    """Whatever was fitted before."""
    alone, beside = (Learner(dropping(), "gdumb", **few("gdumb")) for _ in range(2))
    for _ in range(2):
        alone.observe(X, Y)
    scores = alone.scores(X)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        for _ in range(2):
            beside.observe(X, Y)
            beside.scores(X)
        assert torch.equal(beside.scores(X), scores)
    finally:
        stop.set()
        thread.join()


def test_bytes_bound_the_memory_while_stored_logits_grow(tmp_path: Path) -> None:
    learner = Learner(net(2), "der", buffer_bytes=3000, minibatch_size=4)
    unstarted = copy.deepcopy(learner)
    for each in (learner, unstarted):
        each.observe(X, Y)
    assert learner.memory.summary() == unstarted.memory.summary()
    capacities = []
    for number in range(20):
        learner.observe(X, [f"class {number}"] * 8)
        summary = learner.memory.summary()
        capacities.append(summary["capacity"])
        assert summary["bytes"] <= 3000 and summary["capacity"] == 3000 // (4 * FEATURES + 8 + 4 * len(learner.classes))
    assert capacities[0] > capacities[-1] and len(learner.memory) == capacities[-1]
    learner.save(tmp_path / "learner")
    for other in (Learner.load(tmp_path / "learner", net(2)), copy.deepcopy(learner)):
        other.observe(X, ["more"] * 8)
        assert other.memory.summary()["capacity"] < capacities[-1]
    with pytest.raises(UsageError, match="buffer_bytes: given 44; allowed: at least"):
        small = Learner(net(2), "der", buffer_bytes=44, minibatch_size=1)
        small.observe(X, Y)
        small.observe(X, ["new", "newer"] * 4)
    assert small.classes == [0, 1]
    small.observe(X, Y)


def test_labels_that_no_file_can_hold_can_be_copied() -> None:
    labels = [datetime.date(2020, 1, 1), frozenset({1})] * 4
    learner = Learner(net(2), "er", class_weights={labels[0]: 2.0}, **few("er"))
    with pytest.warns(UserWarning, match="a date cannot be saved"):
        learner.observe(X, labels)
    twin = copy.deepcopy(learner)
    for each in (learner, twin):
        each.observe(X, labels)
    assert same_scores(learner, twin) and twin.classes == labels[:2]


def test_labels_and_weights_of_numpy_can_be_saved(tmp_path: Path) -> None:
    labels = [(np.int64(0), "a"), np.int64(7)] * 4
    learner = Learner(net(2), "er", class_weights={np.int64(7): 2.0}, **few("er"))
    learner.observe(X, labels)
    learner.save(tmp_path / "learner")
    loaded = Learner.load(tmp_path / "learner", net(2))
    for each in (learner, loaded):
        each.observe(X, labels)
    assert same_scores(learner, loaded) and loaded.classes == [(0, "a"), 7]


def test_what_was_fitted_on_forgotten_samples_is_forgotten(tmp_path: Path) -> None:
    learner = Learner(net(2), "gdumb", **few("gdumb"))
    learner.observe(X, Y)
    before = learner.scores(X)
    assert learner.forget(lambda sample, label: label == 1) > 0
    learner.save(tmp_path / "learner")
    assert not torch.equal(before, learner.scores(X))
    assert same_scores(learner, Learner.load(tmp_path / "learner", net(2)))


def test_answers_have_the_precision_of_the_network() -> None:
    learner = Learner(net(), "er", precision="bf16", **few("er"))
    learner.observe(X, Y)
    assert learner.scores(X).dtype == learner.predict_proba(X).dtype == torch.float32


def test_a_loss_that_grows_out_of_bounds_is_still_found() -> None:
    with pytest.raises(TrainingError, match="the loss became"):
        learner = Learner(dropping(), "er", lr=1e30, **few("er"))
        for x, y in batches(9, labels=2):
            learner.observe(1e3 * x, y)
