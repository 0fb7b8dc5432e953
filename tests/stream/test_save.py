"""Saving and loading a learner: it goes on bit by bit, and whatever is wrong with a folder is said in one line."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from synergy import Learner, TrainingError, UsageError
from synergy.disk import checkpoint
from synergy.methods import method_class
from synergy.methods.er import ER
from synergy.state import same
from synergy.stream.labels import restored, saved
from tests.stream.test_learner import FEATURES, FREE, TRAINED, batches, few, method_of, net, same_scores


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


def decay(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.5)


def half(raw: Tensor) -> Tensor:
    return raw / 2


def other_weights(outputs: int = 2) -> nn.Sequential:
    different = net(outputs)
    for parameter in different.parameters():
        nn.init.constant_(parameter, 0.1)
    return different


def teach(learner: Learner, steps: int, labels: int, seed: int = 0) -> None:
    for x, y in batches(steps, labels, seed=seed):
        learner.observe(x, [f"label {label}" for label in y.tolist()])


@pytest.mark.parametrize("name", FREE)
def test_it_goes_on_bit_by_bit(name: str, tmp_path: Path) -> None:
    """Saved after classes have come, loaded with a network of other weights, and more classes come afterwards."""
    given: dict[str, Any] = {"optimizer": adam, "transform": half}
    if name in TRAINED:
        given["scheduler"] = decay
    learner = Learner(net(2), name, **few(name), **given)
    teach(learner, 5, labels=4)
    learner.save(tmp_path / "learner")
    loaded = Learner.load(tmp_path / "learner", other_weights(), **given)
    assert loaded.classes == learner.classes
    assert same_metrics(loaded, learner)
    for each in (learner, loaded):
        teach(each, 5, labels=6, seed=1)
    assert loaded.classes == learner.classes and len(loaded.classes) == 6
    assert same_scores(loaded, learner) and same_metrics(loaded, learner)
    assert same(method_of(loaded).state_dict(), method_of(learner).state_dict())


@pytest.mark.parametrize("name", FREE)
def test_frozen_weights_are_not_saved_and_it_goes_on_bit_by_bit(name: str, tmp_path: Path) -> None:
    def partly_frozen() -> nn.Sequential:
        made = net(2)
        made[0].requires_grad_(False)
        return made

    learner = Learner(partly_frozen(), name, **few(name))
    teach(learner, 5, labels=4)
    learner.save(tmp_path / "learner")
    state = checkpoint.read(tmp_path / "learner", torch.device("cpu"))
    nets = [part for part in state["learned"].values() if isinstance(part, dict) and "2.weight" in part]
    assert state["initial"].keys() == {"2.weight", "2.bias"}
    assert all(part.keys() == {"2.weight", "2.bias", "frozen"} for part in nets)
    loaded = Learner.load(tmp_path / "learner", partly_frozen())
    for each in (learner, loaded):
        teach(each, 5, labels=6, seed=1)
    assert same_scores(loaded, learner)
    assert same(method_of(loaded).state_dict(), method_of(learner).state_dict())
    other = other_weights()
    other[0].requires_grad_(False)
    for wrong in (other, net(2)):
        with pytest.raises(UsageError, match="frozen weights are others"):
            Learner.load(tmp_path / "learner", wrong)


def same_metrics(one: Learner, other: Learner) -> bool:
    return one.metrics() == other.metrics()


def test_every_option_is_kept(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "class_weights": {"label 0": 3.0, "label 5": 0.0},
        "clip_norm": 0.5,
        "prequential": "answering",
        "memory_on": "host",
        "head": "2",
        "seed": 7,
        "lr": 0.2,
        "buffer_bytes": 5000,
        "augment": lambda raw, rng: raw + float(rng.normal()),
    }
    learner = Learner(net(2), "er", **options)
    teach(learner, 4, labels=3)
    learner.save(tmp_path / "learner")
    loaded = Learner.load(tmp_path / "learner", net(2), augment=options["augment"])
    assert loaded.options == learner.options and loaded.options.buffer_bytes == 5000
    assert method_of(loaded).config == method_of(learner).config
    for each in (learner, loaded):
        teach(each, 6, labels=6, seed=1)
    assert same_scores(loaded, learner)


def test_regression_and_fixed_classes(tmp_path: Path) -> None:
    numbers, classes = Learner(net(2), "synergy", loss="mse"), Learner(net(3), "der", classes=[2, 0, 1])
    for x, y in batches(4):
        numbers.observe(x, torch.stack([y, -y], 1))
        classes.observe(x, y)
    for learner, outputs in ((numbers, 2), (classes, 3)):
        learner.save(tmp_path / "learner")
        loaded = Learner.load(tmp_path / "learner", other_weights(outputs))
        assert same_scores(loaded, learner) and loaded.classes == learner.classes
    with pytest.raises(UsageError, match="the classes are fixed"):
        loaded.observe(torch.zeros(1, FEATURES), [3])


def test_saving_again_replaces(tmp_path: Path) -> None:
    learner = Learner(net(), "er", buffer_size=40)
    for n in range(3):
        teach(learner, 2, labels=3, seed=n)
        learner.save(tmp_path / "learner")
    assert same_scores(Learner.load(tmp_path / "learner", net()), learner)
    assert [entry.name for entry in tmp_path.iterdir()] == ["learner"]


class OwnReplay(ER):
    """A method that is none of the library's."""


def test_a_method_of_ones_own(tmp_path: Path) -> None:
    learner = Learner(net(), OwnReplay, buffer_size=40)
    teach(learner, 2, labels=3)
    learner.save(tmp_path / "learner")
    with pytest.raises(
        UsageError, match=r"the learner was saved with '.*OwnReplay', which the library does not have; give the class"
    ):
        Learner.load(tmp_path / "learner", net())
    loaded = Learner.load(tmp_path / "learner", net(), OwnReplay)
    assert type(method_of(loaded)) is OwnReplay and same_scores(loaded, learner)


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(label=st.recursive(plain, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5))
def test_labels_survive(label: Any) -> None:
    back = restored(json.loads(json.dumps(saved(label))))
    assert back == label and type(back) is type(label)


def test_a_label_that_no_file_can_hold(tmp_path: Path) -> None:
    learner = Learner(net(), "er", buffer_size=40)
    with pytest.warns(UserWarning, match="a date cannot be saved"):
        learner.observe(torch.zeros(1, FEATURES), [date(2024, 1, 1)])
    assert learner.predict(torch.zeros(1, FEATURES)) == [date(2024, 1, 1)]
    with pytest.raises(UsageError, match=r"labels: datetime.date\(2024, 1, 1\) is a date, which cannot be saved"):
        learner.save(tmp_path / "learner")
    assert not list(tmp_path.iterdir())


# What does not fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    learner = Learner(net(2), "synergy", **few("synergy"), transform=half)
    teach(learner, 6, labels=4)
    path = tmp_path_factory.mktemp("saved") / "learner"
    learner.save(path)
    return path


def refused(message: str, path: Path, network: nn.Module | None = None, **given: Any) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Learner.load(path, net(2) if network is None else network, **given)
    assert "\n" not in str(caught.value)


def test_what_is_given_must_fit(folder: Path, tmp_path: Path) -> None:
    refused("transform: the learner was saved with one; give transform=", folder)
    refused("optimizer: the learner was saved without", folder, transform=half, optimizer=adam)
    refused("network: it cannot take samples of shape", folder, net(2, FEATURES + 1), transform=half)
    refused(
        r"'0.weight' is float32 \[9, 6\]; saved was float32 \[8, 6\]",
        folder,
        nn.Sequential(nn.Linear(FEATURES, 9), nn.ReLU(), nn.Linear(9, 2)),
        transform=half,
    )
    refused("has 4 outputs, the network 5", folder, net(5), transform=half)
    refused("same dtype", folder, net(2).double(), transform=half)
    refused("config: |does not fit|unknown", folder, transform=half, method=method_class("sgd"))
    refused("there is no such folder", tmp_path / "nowhere", transform=half)
    with pytest.raises(UsageError, match="save: nothing was learned yet"):
        Learner(net()).save(tmp_path / "empty")
    checkpoint.write({"kind": "run"}, tmp_path / "run")
    refused("holds something else than a learner", tmp_path / "run")


def paths(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every part of a state is."""
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [at, *(path for key, part in parts for path in paths(part, (*at, key)))]


WRONG = st.sampled_from(
    [None, -1, 2**62, 2.5, "text", True, [], {}, ["a"], {"a": 1}, torch.zeros(2), torch.zeros(3, 3, dtype=torch.int64)]
)


FORGED: dict[str, Callable[[dict[str, Any]], None]] = {
    "labels below 0": lambda method: method["memory"]["store"]["fields"]["labels"].fill_(-1),
    "labels that there are not": lambda method: method["memory"]["store"]["fields"]["labels"].fill_(4),
    "labels of another type": lambda method: _replace(method, "labels", lambda labels: labels.double()),
    "samples of another type": lambda method: _replace(method, "raw", lambda raw: raw.double()),
    "wider samples": lambda method: _replace(method, "raw", lambda raw: raw.repeat(1, 2)),
    "wider logits": lambda method: _replace(method, "logits", lambda logits: logits.repeat(1, 2)),
    "whole numbers for logits": lambda method: _replace(method, "logits", lambda logits: logits.long()),
    "too many offered": lambda method: method["memory"].update(seen=2**127),
}


def _replace(method: dict[str, Any], name: str, change: Callable[[Tensor], Tensor]) -> None:
    fields = method["memory"]["store"]["fields"]
    fields[name] = change(fields[name])


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_memory_is_refused(what: str, tmp_path: Path) -> None:
    learner = Learner(net(2), "derpp", **few("derpp"))
    teach(learner, 6, labels=4)
    learner.save(tmp_path / "learner")
    state = checkpoint.read(tmp_path / "learner")
    FORGED[what](state["learned"])
    checkpoint.write(state, tmp_path / "learner")
    refused("does not fit", tmp_path / "learner")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("labels", ["a", "a", "b", "c"]),
        ("labels", [True, 1.0, 2, 3]),
        ("learner", {"_observed": -1}),
        ("learner", {"_observed": 5}),
        ("learned", {"steps": 10**6}),
    ],
)
def test_a_forged_learner_is_refused(part: str, value: Any, folder: Path, tmp_path: Path) -> None:
    state = checkpoint.read(folder)
    state[part] = state[part] | value if isinstance(value, dict) else value
    checkpoint.write(state, tmp_path / "learner")
    refused("does not fit", tmp_path / "learner", transform=half)


@pytest.mark.parametrize("part", ["optimizer", "schedule"])
def test_a_whole_number_of_60_digits_is_refused(part: str, tmp_path: Path) -> None:
    learner = Learner(net(2), "er", **few("er"), optimizer=adam, scheduler=decay)
    teach(learner, 2, labels=2)
    learner.save(tmp_path / "learner")
    state = checkpoint.read(tmp_path / "learner")
    if part == "schedule":
        state["schedulers"][0]["last_epoch"] = 10**59
    else:
        state["learned"]["optimizer"]["param_groups"][0]["weight_decay"] = 10**59
    checkpoint.write(state, tmp_path / "learner")
    refused("196 bits", tmp_path / "learner", optimizer=adam, scheduler=decay)


@pytest.mark.parametrize("fisher", [{}, torch.zeros(2), torch.zeros(3, 3), 1.0])
def test_a_fisher_of_another_network_is_refused(fisher: object, folder: Path, tmp_path: Path) -> None:
    state = checkpoint.read(folder)
    state["learned"]["fisher"] = fisher
    checkpoint.write(state, tmp_path / "forged")
    refused("fisher", tmp_path / "forged", transform=half)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_forged_learner_is_refused_or_is_another_one(
    data: st.DataObject, folder: Path, tmp_path_factory: Any
) -> None:
    """One part of a good state replaced, checksums and all: an error in one line, or a learner that works."""
    state = checkpoint.read(folder)
    path = data.draw(st.sampled_from(paths(state)[1:]))
    content: Any = state
    for key in path[:-1]:
        content = content[key]
    if data.draw(st.booleans()):
        content[path[-1]] = data.draw(WRONG)
    else:
        del content[path[-1]]
    forged = tmp_path_factory.mktemp("forged") / "learner"
    checkpoint.write(state, forged)
    try:
        # An option that is not there has its default, which may make a warning.
        warnings.simplefilter("ignore")
        learner = Learner.load(forged, net(2), transform=half)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert learner.predict(torch.zeros(1, FEATURES))[0] in learner.classes
        with suppress(TrainingError):  # another learning rate may be too high
            teach(learner, 1, labels=2)
    shutil.rmtree(forged)
