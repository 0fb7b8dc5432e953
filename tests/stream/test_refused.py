"""What is refused is told in one line, and leaves nothing behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from synergy import Learner
from synergy.data.view import CIFAR
from synergy.methods.sgd import FineTuning
from tests.stream.test_learner import FEATURES, TRAINED, few, method_of, net, raises, same_scores
from tests.stream.test_rehearsal import X, Y, embedding, normed


@pytest.mark.parametrize("name", TRAINED)  # the others only store, or sum up, what they are given
@pytest.mark.parametrize("judged", ["learning", "answering"])
def test_the_labels_of_a_refused_batch_stay_unknown(name: str, judged: str, tmp_path: Path) -> None:
    weights = {"c": 2.0} if name == "er" else None
    learner = Learner(embedding(), name, class_weights=weights, prequential=judged, **few(name))
    good, bad = torch.randint(0, 20, (4, 3)), torch.full((4, 3), 20)
    for _ in range(3):
        learner.observe(good, ["a", "b", "a", "b"])
    scores, before = learner.scores(good), learner.metrics()
    raises("samples: a number is larger than the network's embedding", lambda: learner.observe(bad, [*"abcd"]))
    assert learner.classes == ["a", "b"] and learner.metrics() == before
    assert torch.equal(learner.scores(good), scores)
    learner.observe(good, ["a", "b", "d", "c"])
    assert learner.classes == ["a", "b", "d", "c"] and learner.scores(good).shape == (4, 4)
    learner.save(tmp_path / "saved")
    other = Learner.load(tmp_path / "saved", embedding())
    for each in (learner, other):
        each.observe(good, ["e", "b", "d", "c"])
    assert torch.equal(learner.scores(good), other.scores(good)) and learner.classes == other.classes


def test_what_cannot_be_learned_from_memory_is_told_when_it_is_asked() -> None:
    learner = Learner(embedding(), "gdumb", **few("gdumb"))
    learner.observe(torch.zeros(4, 3, dtype=torch.int64), [0, 1, 0, 1])
    learner.observe(torch.full((4, 3), 20), [0] * 4)
    x = torch.zeros(1, 3, dtype=torch.int64)
    raises("samples: a number is larger than the network's embedding", lambda: learner.predict(x))
    assert learner.forget(lambda sample, _: bool((sample > 19).any())) > 0
    assert learner.predict(x)[0] in (0, 1)


def test_a_memory_that_was_emptied_has_nothing_to_say() -> None:
    learner = Learner(net(), "gdumb", **few("gdumb"))
    learner.observe(X, Y)
    learner.predict(X)
    assert learner.memory.forget(lambda *_: True) == 8
    calls: list[Callable[[], object]] = [
        lambda: learner.predict(X),
        lambda: learner.predict_proba(X),
        lambda: learner.evaluate(X, Y),
        lambda: learner.predict(X, "fitted"),
    ]
    for call in calls:
        raises("predict: there is nothing to answer from, since the memory is empty", call)


def test_samples_are_looked_at_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(net(), "gdumb", **few("gdumb"))
    learner.observe(X, Y)
    monkeypatch.setattr(type(method_of(learner)), "_fit", lambda _: pytest.fail("it trained"))
    raises("samples: number 0 of the batch holds NaN", lambda: learner.predict(X * float("nan")))
    raises("samples: given shape", lambda: learner.evaluate(X[:, :2], Y))


def test_floats_are_no_pixels_for_an_augment() -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    learner = Learner(own, "sgd", transform=CIFAR)
    x = torch.rand(4, 3, 8, 8)
    raises("samples: given torch.float32 with an ImageView", lambda: learner.observe(x, [0, 1, 0, 1]))
    learner.observe((255 * x).byte(), [0, 1, 0, 1])


class Fours(FineTuning):
    only_batch_size = 4


def test_a_method_with_a_size_of_its_own() -> None:
    learner = Learner(net(), Fours, lr=0.1)
    raises("samples: given a batch of 3; allowed: 4, the one size", lambda: learner.observe(X[:3], Y[:3]))
    raises("samples: given a batch of 8; allowed: 4, the one size", lambda: learner.observe(X, Y))
    learner.observe(X[:4], Y[:4])
    assert learner.metrics()["batches"] == 1


def test_a_schedule_that_ends_takes_the_batch_back() -> None:
    def three(optimizer: torch.optim.Optimizer) -> OneCycleLR:
        return OneCycleLR(optimizer, 0.1, total_steps=3)

    learner = Learner(net(), "sgd", scheduler=three)
    for _ in range(3):
        learner.observe(X, Y)
    before = learner.scores(X)
    for _ in range(2):
        with pytest.raises(ValueError, match="Tried to step 4 times"):
            learner.observe(X, Y)
    assert learner.metrics()["batches"] == 3 and torch.equal(learner.scores(X), before)


def test_a_first_batch_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    own = nn.Linear(FEATURES, 2)
    learner = Learner(own, "der", buffer_bytes=48, minibatch_size=1)
    x = torch.randn(6, FEATURES)
    raises("buffer_bytes: given 48; allowed: at least 56", lambda: learner.observe(x, list(range(6))))
    assert learner.classes == [] and learner.metrics()["batches"] == 0
    for call in (lambda: learner.predict(x), lambda: learner.predict_proba(x), lambda: learner.save(tmp_path / "it")):
        raises("(predict|save): nothing was learned yet", call)
    assert copy.deepcopy(learner).classes == []
    fresh = Learner(own, "der", buffer_bytes=48, minibatch_size=1)
    for each in (learner, fresh):
        each.observe(x, [0, 1] * 3)
        each.observe(x, [1, 0] * 3)
    assert learner.classes == [0, 1] and same_scores(learner, fresh)


def test_a_lazy_layer_takes_no_shape_from_what_is_refused() -> None:
    learner = Learner(nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2)), "sgd", loss="mse")
    raises("targets: given shape", lambda: learner.observe(torch.randn(4, 7), torch.randn(4, 5)))
    learner.observe(torch.randn(4, 3), torch.randn(4, 2))
    assert learner.predict(torch.randn(2, 3)).shape == (2, 2)


def test_a_refused_batch_is_not_counted() -> None:
    learner = Learner(normed(), "sgd", prequential="answering")
    for _ in range(2):
        learner.observe(X, Y)
    before = learner.metrics()["accuracy"]
    for _ in range(5):
        raises("samples: given a batch of 1", lambda: learner.observe(X[:1], Y[:1]))
    assert learner.metrics()["accuracy"] == before


@pytest.mark.parametrize("kind", ["uint16", "uint32", "uint64"])
def test_types_that_torch_cannot_store(kind: str) -> None:
    learner = Learner(net(), "er", transform=lambda raw: raw.float(), **few("er"))
    raises(f"samples: given torch.{kind}", lambda: learner.observe(np.ones((8, FEATURES), kind), Y))


class WritesToAnswer(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            inputs.sub_(1)
        return super().forward(inputs)


def test_a_network_that_writes_when_it_answers() -> None:
    raises("network: it writes to its inputs", lambda: Learner(WritesToAnswer(FEATURES, 2), "er").observe(X, Y))


def test_targets_are_called_so() -> None:
    learner = Learner(nn.Linear(FEATURES, 1), "sgd", loss="mse")
    raises("targets: number 2 of the batch holds NaN", lambda: learner.observe(X[:3], [0.0, 1.0, float("nan")]))
    half = Learner(nn.Linear(FEATURES, 1).half(), "sgd", loss="mse")
    raises("targets: number 0 of the batch holds NaN or inf", lambda: half.observe(X[:1], torch.tensor([10**6])))


def test_memory_is_fitted_as_precisely_as_is_asked() -> None:
    seen = []

    class Watching(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append((self.training, torch.is_autocast_enabled("cpu")))
            return super().forward(inputs)

    learner = Learner(Watching(FEATURES, 2), "gdumb", precision="bf16", **few("gdumb"))
    learner.observe(X, Y)
    seen.clear()
    learner.predict(X)
    assert {training for training, _ in seen} == {True, False} and all(cast for _, cast in seen)
    single = Learner(normed(), "gdumb", **few("gdumb"))
    single.observe(X[:1], ["a"])
    raises("samples: given a batch of 1, by which a BatchNorm", lambda: single.predict(X))
