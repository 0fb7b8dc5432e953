"""What prediction costs beside the network itself: no copy of the samples, and one look at them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from synergy import Learner
from synergy.nets.mlp import MLP
from synergy.stream import progress as module
from synergy.types import Predictor


def seen_by_the_network(learner: Learner, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the answering network is given when `x` is predicted."""
    seen: list[Tensor] = []

    def watched(predictors: dict[str, Predictor], name: str) -> Predictor:
        def answer(inputs: Tensor, /) -> Tensor:
            seen.append(inputs)
            return predictors[name](inputs)

        return answer

    monkeypatch.setattr(module, "_chosen", watched)
    learner.predict(x, "semantic")
    return seen


def trained(x: Tensor) -> Learner:
    net = MLP(6, 3, 8, generator=torch.Generator().manual_seed(0))
    learner = Learner(net, "synergy", buffer_size=40, minibatch_size=8)
    learner.observe(x[:9], [0, 1, 2] * 3)
    return learner


@pytest.mark.parametrize("n", [1, 32])
def test_floats_reach_the_network_without_a_copy(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(32, 6)
    (inputs,) = seen_by_the_network(trained(x), x[:n], monkeypatch)
    assert inputs.data_ptr() == x.data_ptr() and inputs.shape == (n, 6) and inputs.stride() == x.stride()


def test_an_array_reaches_the_network_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(32, 6)
    array = x.numpy()
    (inputs,) = seen_by_the_network(trained(x), array, monkeypatch)  # type: ignore[arg-type]  # any samples are allowed
    assert inputs.data_ptr() == array.ctypes.data


def test_parts_of_a_large_batch_are_not_copied_either(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(2 * module.CHUNK + 1, 6)
    parts = seen_by_the_network(trained(x), x, monkeypatch)
    assert [len(part) for part in parts] == [667, 667, 667], "no part may have a single sample"
    assert [part.data_ptr() for part in parts] == [part.data_ptr() for part in x.tensor_split(3)]


class Careful(nn.Linear):
    """A layer that keeps an account of what it is told."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "training":
            self.__dict__.setdefault("told", []).append(value)
        super().__setattr__(name, value)  # type: ignore[arg-type]


def test_a_layer_that_watches_its_mode_is_told() -> None:
    learner = Learner(nn.Sequential(Careful(4, 5), nn.ReLU(), nn.Linear(5, 2)), "sgd")
    learner.observe(torch.rand(3, 4), [0, 1, 0])
    assert learner._progress.worker is not None
    layer = next(each for each in learner._progress.worker.method.net.modules() if isinstance(each, Careful))  # type: ignore[attr-defined]
    layer.__dict__["told"] = []
    learner.predict(torch.rand(3, 4))
    assert layer.__dict__["told"] == [False, True]
