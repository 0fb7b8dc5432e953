"""Streams of data of one's own: which samples come when."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synergy import UsageError, testing
from synergy.data.sources import Domains, Source, SourceInfo
from synergy.scenarios import scenario_class
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.scenarios.own import Folder
from synergy.testing import check_scenario
from synergy.types import Split
from tests.data import own_images

SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=9)
"""Training samples of each class."""


def numbered(sizes: list[int]) -> Split:
    """Images that hold their own number, a shuffled class each."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    raw = torch.arange(len(labels), dtype=torch.int64)
    pixels = torch.stack([raw // 256, raw % 256], 1).to(torch.uint8)
    return Split(pixels.view(-1, 2, 1, 1), torch.from_numpy(labels), tuple(range(len(sizes))))


def stream(sizes: list[int], seed: int = 0, **options: Any) -> AnyScenario:
    """A stream of classes of these sizes; the test set has two samples of each."""
    names = tuple(f"class {label}" for label in range(len(sizes)))
    test = numbered([2] * len(sizes))
    source = Source(SourceInfo("own", "made here", sum(sizes), len(test), True, names), numbered(sizes), test)
    return Folder(Folder.Config(**options), StreamSetting(source, seed, 4, torch.device("cpu")))


def shown(of: AnyScenario, epoch: int = 0) -> list[list[int]]:
    """The numbers of the samples that each task shows, in order."""
    tasks = (of.task(index) for index in range(of.n_tasks))
    batches = [[raw for raw, _ in task.batches(epoch)] for task in tasks]
    return [[256 * int(a) + int(b) for raw in task for a, b in raw.flatten(1)] for task in batches]


@given(SIZES, st.data())
def test_every_training_sample_occurs_once(sizes: list[int], data: st.DataObject) -> None:
    n_tasks = data.draw(st.integers(1, len(sizes)))
    of = stream(sizes, n_tasks=n_tasks, class_order_seed=data.draw(st.integers(0, 3)))
    for epoch in (0, 1):
        assert sorted(itertools.chain(*shown(of, epoch))) == list(range(sum(sizes)))
    classes = [label for index in range(n_tasks) for label in of.task(index).classes]
    assert sorted(classes) == list(range(len(sizes)))
    assert [set(split.labels.tolist()) for split in of.tests(0)] == [set(of.task(i).classes) for i in range(n_tasks)]
    assert sum(map(len, of.tests(0))) == 2 * len(sizes)


@pytest.mark.parametrize(("classes", "expected"), [(10, 5), (3, 3)])
def test_tasks_by_default(classes: int, expected: int) -> None:
    assert stream([2] * classes).n_tasks == expected


def test_class_order_decides_the_tasks() -> None:
    of = stream([3, 3, 3, 3], n_tasks=2, class_order=[3, 1, 0, 2])
    assert [of.task(index).classes for index in range(2)] == [(1, 3), (0, 2)]
    one, same, other = (stream([2] * 9, class_order_seed=seed, n_tasks=9).groups for seed in (1, 1, 2))  # type: ignore[attr-defined]
    assert one == same != other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_order": ["0", "1"]}, "class_order: given 2 of 3 classes, without 2; allowed: each of them once"),
        ({"class_order": ["0", "1", "1"]}, "class_order: '1' is given twice; allowed: each of the 3 classes once"),
        ({"class_order": ["0", "1", "3"]}, "unknown class in class_order '3'; allowed: 0, 1, 2"),
        (
            {"class_order": ["class 1", "class 0", "clas 2"]},
            "unknown class in class_order 'clas 2'; did you mean 'class 2'",
        ),
        (
            {"class_order": ["1"], "class_order_seed": 1},
            "class_order: given with class_order_seed; allowed: one of them",
        ),
        ({"n_tasks": 4}, "n_tasks: given 4; allowed: at most 3, the number of classes"),
        ({"n_tasks": 2, "first_task": 3}, "first_task: given 3; allowed: 1 to 2, to divide 3 classes into 2 tasks"),
        ({"n_tasks": 1, "first_task": 2}, "first_task: given 2; allowed: 3, to divide 3 classes into 1 task"),
    ],
)
def test_impossible_tasks(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        stream([2, 2, 2], **options)
    assert str(caught.value).startswith(message)


@given(SIZES, st.floats(0, 0.5), st.booleans())
def test_blur_and_drift_show_every_training_sample_once(sizes: list[int], strength: float, drift: bool) -> None:
    options: dict[str, Any] = {"drift": 10 * strength} if drift else {"blur": strength}
    of = stream(sizes, n_tasks=2, **options)
    for epoch in (0, 1):
        assert sorted(itertools.chain(*shown(of, epoch))) == list(range(sum(sizes)))
    assert [split.classes for split in of.tests(0)] == [split.classes for split in stream(sizes, n_tasks=2).tests(0)]


def test_a_blurred_stream_knows_its_boundaries() -> None:
    of = stream([40] * 4, n_tasks=4, blur=0.1)
    assert of.boundaries and of.protocols == ("class-IL",)
    counts = [torch.bincount(of.task(index).labels, minlength=4).tolist() for index in range(4)]
    assert counts == [[36, 2, 0, 0], [4, 36, 2, 0], [0, 2, 36, 4], [0, 0, 2, 36]]
    assert of.task(1).classes == (0, 1, 2) and of.tests(0)[1].classes == (1,)
    other = stream([40] * 4, seed=1, n_tasks=4, blur=0.1)
    assert shown(of) != shown(other)


def test_a_drift_has_no_boundaries_and_keeps_its_order() -> None:
    of = stream([40] * 4, n_tasks=4, drift=1.0)
    assert not of.boundaries and of.protocols == ("class-IL",)
    assert shown(of, 0) == shown(of, 1)
    assert [len(of.task(index)) for index in range(4)] == [40] * 4
    assert len(of.task(1).classes) > 1
    assert shown(of) != shown(stream([40] * 4, seed=1, n_tasks=4, drift=1.0))


def in_domains(domains: list[int], test: list[int], **options: Any) -> AnyScenario:
    """A stream of two classes; sample i is of the domain given."""
    labels = torch.arange(len(domains)) % 2
    train = Split(numbered([len(domains), 1]).raw[:-1], labels, (0, 1))
    tested = Split(train.raw[: len(test)], labels[: len(test)], (0, 1))
    names = Domains(("day", "dusk", "night"), torch.tensor(domains), torch.tensor(test))
    source = Source(SourceInfo("own", "here", len(domains), len(test), True, ("a", "b")), train, tested, names)
    config = Folder.Config(domains="folder", **options)
    return Folder(config, StreamSetting(source, 0, 4, torch.device("cpu")))


def test_every_domain_is_a_task() -> None:
    of = in_domains([0, 0, 2, 2, 1, 1, 2, 0], [0, 1, 2])
    assert (of.n_tasks, of.protocols, of.boundaries) == (3, ("domain-IL",), True)
    assert [sorted(task) for task in shown(of)] == [[0, 1, 7], [4, 5], [2, 3, 6]]
    assert [len(split) for split in of.tests(0)] == [1, 1, 1]
    assert of.task(0).classes == (0, 1)
    drifting = in_domains([0, 0, 2, 2, 1, 1, 2, 0], [0, 1, 2], drift=0.5)
    assert drifting.protocols == ("domain-IL",) and not drifting.boundaries
    assert sorted(itertools.chain(*shown(drifting))) == list(range(8))


def test_a_domain_without_a_test_is_told() -> None:
    with pytest.raises(UsageError, match="domains: 'night' has no test samples"):
        in_domains([0, 1, 2, 2], [0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blur": 0.1, "drift": 1.0}, "blur: given with drift; allowed: one of them"),
        ({"domains": "folder", "n_tasks": 2}, "n_tasks: given with domains; allowed: one of them"),
        ({"domains": "camera"}, "domains: given 'camera'; allowed: one of folder"),
        ({"blur": 0.6}, "blur: given 0.6; allowed: at least 0 and at most 0.5"),
        ({"drift": -1}, "drift: given -1.0; allowed: at least 0"),
        ({"n_tasks": 1, "blur": 0.1}, "blur: given for one task"),
    ],
)
def test_impossible_streams(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        stream([2, 2, 2], **options)
    assert str(caught.value).startswith(message)


def test_the_contract_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    own_images.stripes(tmp_path / "bars", {"a": 20, "b": 15, "c": 10})
    name = f"split:{tmp_path / 'bars'}"
    for options in ({}, {"blur": 0.2}, {"drift": 1.0}):
        check_scenario(lambda seed, options=options: testing.scenario(name, seed=seed, options=options))  # type: ignore[misc]
    assert scenario_class(name) is scenario_class(name)


@pytest.mark.parametrize("augment", ["none", "crop", "flip", "both"])
def test_images_are_normalised_by_the_training_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: str
) -> None:
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    own_images.write(tmp_path / "a", {"x": 40, "y": 40}, 16, 16, 3)
    of = testing.scenario(f"split:{tmp_path / 'a'}", options={"augment": augment})
    plain = of.view.plain(of.train.raw)
    assert plain.mean((0, 2, 3)).abs().max() < 1e-5 and (plain.std((0, 2, 3)) - 1).abs().max() < 1e-5
    draws = of.view.decide(8, np.random.default_rng(0))
    assert (draws is None) == (augment == "none")
