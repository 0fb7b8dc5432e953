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
from synergy.data.sources import Source, SourceInfo
from synergy.scenarios import scenario_class
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.scenarios.own import Folder, grouped, parsed_order
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


@given(st.integers(2, 60), st.data())
def test_sizes_of_tasks(classes: int, data: st.DataObject) -> None:
    n_tasks = data.draw(st.integers(1, classes))
    first = data.draw(st.none() | st.integers(1, classes - n_tasks + 1)) if n_tasks > 1 else None
    groups = grouped(range(classes), n_tasks, first)
    sizes = [len(group) for group in groups]
    assert sum(sizes) == classes and len(sizes) == n_tasks and min(sizes) > 0
    assert first in (None, sizes[0])
    rest = sizes if first is None else sizes[1:]
    assert max(rest) - min(rest) <= 1 and rest == sorted(rest, reverse=True)
    assert [label for group in groups for label in group] == list(range(classes))


def test_the_usual_fifty_and_five_times_ten() -> None:
    assert [len(group) for group in grouped(range(100), 6, 50)] == [50, 10, 10, 10, 10, 10]


@pytest.mark.parametrize(("classes", "expected"), [(10, 5), (3, 3)])
def test_tasks_by_default(classes: int, expected: int) -> None:
    assert stream([2] * classes).n_tasks == expected


@given(st.permutations(range(6)))
def test_class_order_is_a_permutation(order: list[int]) -> None:
    names = ["ant", "bee", "cow", "dog", "eel", "fox"]
    assert parsed_order([str(label) for label in order], names) == tuple(order)
    assert parsed_order([names[label] for label in order], names) == tuple(order)
    assert parsed_order([str(label) for label in order], [str(9 - label) for label in range(6)]) in (tuple(order),)


def test_class_order_of_names_that_are_numbers() -> None:
    assert parsed_order(["7", "5", "6"], ["5", "6", "7"]) == (2, 0, 1)


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
        ({"n_tasks": 2, "first_task": 3}, "first_task: given 3; allowed: 1 to 2, so that 2 tasks share 3 classes"),
        ({"n_tasks": 1, "first_task": 2}, "first_task: given 2; allowed: 3, so that 1 tasks share 3 classes"),
    ],
)
def test_impossible_tasks(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        stream([2, 2, 2], **options)
    assert str(caught.value).startswith(message)


def test_the_contract_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    own_images.stripes(tmp_path / "bars", {"a": 20, "b": 15, "c": 10})
    name = f"split:{tmp_path / 'bars'}"
    check_scenario(lambda seed: testing.scenario(name, seed=seed))
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
