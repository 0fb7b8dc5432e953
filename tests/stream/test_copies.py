"""A learner in other processes and in copies: it goes on as the original does."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synergy import Learner
from synergy.disk import checkpoint
from synergy.stream.faces.tables import Dense

XS = torch.randn(12, 8, 4, generator=torch.Generator().manual_seed(0))
EARLY, LATE = ["a", "b"] * 4, ["b", "c", "d", "a"] * 2


def plain() -> nn.Module:
    return Dense(4, 2, (16,), generator=torch.Generator().manual_seed(1))


def doubled(raw: Tensor) -> Tensor:
    return raw * 2


def momentum(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 0.05, momentum=0.9)


def through_bytes(learner: Learner) -> Learner:
    copied = pickle.loads(pickle.dumps(learner))
    assert isinstance(copied, Learner)
    return copied


@pytest.mark.parametrize("copied", [copy.deepcopy, through_bytes])
@pytest.mark.parametrize(
    "options",
    [
        {"buffer_size": 64, "lr": 0.1, "fisher_update_freq": 0.3},
        {"method": "derpp", "buffer_bytes": 4000},
        {"method": "er", "optimizer": momentum, "transform": doubled, "class_weights": {"a": 2.0}},
        {"method": "sgd", "classes": ["c", "b"], "seed": 3},
    ],
)
def test_a_copy_goes_on_as_the_original_and_apart_from_it(options: dict[str, Any], copied: Any) -> None:
    learner = Learner(plain(), **options)
    early, late = (["b"] * 8, ["c"] * 8) if "classes" in options else (EARLY, LATE)
    options_given = learner.options
    learner = copied(learner)  # before it learned anything
    assert learner.options == options_given
    for x in XS[:6]:
        learner.observe(x, early)
    twin, before = copied(learner), learner.scores(XS[0])
    for x in XS[6:]:
        twin.observe(x, late)
    assert torch.equal(learner.scores(XS[0]), before)
    for x in XS[6:]:
        learner.observe(x, late)
    assert torch.equal(learner.scores(XS[0]), twin.scores(XS[0]))
    assert learner.classes == twin.classes
    assert learner.metrics() == twin.metrics()
    assert learner.options == twin.options


def test_the_same_learner_gives_the_same_bytes() -> None:
    learner = Learner(plain())
    learner.observe(XS[0], EARLY)
    assert pickle.dumps(learner) == pickle.dumps(learner)


def test_a_state_is_what_was_packed() -> None:
    state = {"a": torch.arange(3), "b": [1, 2.5, None], "c": {"d": "text"}}
    again = checkpoint.unpacked(checkpoint.packed(state))
    assert torch.equal(again.pop("a"), state.pop("a"))  # type: ignore[arg-type]  # a tensor
    assert again == state


def test_two_learners_in_two_threads_repeat_as_if_alone() -> None:
    """Each network has dropout, and torch's generator stays as it was."""
    nets = [nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 2)) for _ in range(2)]

    def learned(seed: int, into: dict[int, Tensor]) -> None:
        learner = Learner(nets[seed], "er", buffer_size=50, seed=seed)
        for _ in range(20):
            for x in XS:
                learner.observe(x, LATE)
        into[seed] = learner.scores(XS[0])

    alone: dict[int, Tensor] = {}
    together: dict[int, Tensor] = {}
    for seed in (0, 1):
        learned(seed, alone)
    before = torch.get_rng_state()
    threads = [threading.Thread(target=learned, args=(seed, together)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(alone[seed], together[seed]) for seed in (0, 1))
