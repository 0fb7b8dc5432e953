"""Labels mean the same in every form that they come in; a missing one is refused."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import warnings
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synergy import Learner, SynergyClassifier, UsageError
from synergy.stream.faces.river import RiverClassifier
from synergy.stream.labels import Labels, saved

KNOWN = st.one_of(
    st.permutations(range(5)),
    st.lists(st.integers(-2, 6), unique=True, min_size=1, max_size=5),
    st.sampled_from([[False, True], [1.0, 0.0], ["0", "1"], [0, "1"], [1], [0]]),
)


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives, tensors as lists, or what it complains of."""
    try:
        found = call(*arguments)
    except UsageError as error:
        return str(error)
    return ("outputs", found.tolist(), found.dtype) if isinstance(found, torch.Tensor) else ("labels", found)


@given(KNOWN, st.lists(st.integers(-3, 7), min_size=1, max_size=6), st.booleans())
def test_a_tensor_is_as_good_as_a_list(known: list[Hashable], asked: list[int], fixed: bool) -> None:
    labels = Labels(known if fixed else None)
    if not fixed:
        labels.learn(known)
    expected = outcome(labels.outputs, asked, len(asked))
    for kind in (torch.int64, torch.int32):
        assert outcome(labels.outputs, torch.tensor(asked, dtype=kind), len(asked)) == expected
    assert outcome(labels.outputs, np.array(asked), len(asked)) == expected


@given(st.permutations(range(4)), st.integers(0, 4), st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_so_it_is_after_labels_are_learned_and_unlearned(known: list[int], kept: int, asked: list[int]) -> None:
    labels = Labels()
    for label in known:
        labels.learn([label])
    labels.cut(kept)
    tensor = torch.tensor(asked)
    assert outcome(labels.outputs, tensor, len(asked)) == outcome(labels.outputs, asked, len(asked))
    if set(asked) <= set(known[:kept]):
        found = labels.outputs(tensor, len(asked))
        assert isinstance(found, torch.Tensor)
        assert [labels.known[output] for output in found.tolist()] == asked


def test_what_was_found_is_not_the_users_own_tensor() -> None:
    given = torch.tensor([1, 0])
    found = Labels([0, 1]).outputs(given, 2)
    given.fill_(0)
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [1, 0]


@pytest.mark.parametrize("given", [torch.tensor([[0, 1]]), torch.tensor(1), torch.tensor([0, 1, 1])])
def test_a_tensor_of_another_shape_is_refused(given: torch.Tensor) -> None:
    with pytest.raises(UsageError, match=r"labels: given "):
        Labels([0, 1]).outputs(given, 2)


@pytest.mark.parametrize("given", [torch.tensor([1, 0]).to_sparse(), torch.empty(2, dtype=torch.int64, device="meta")])
@pytest.mark.parametrize("known", [[0, 1], ["0", "1"]])
def test_a_tensor_that_holds_no_list_is_refused(given: torch.Tensor, known: list[Hashable]) -> None:
    with pytest.raises(UsageError, match=r"labels: given .*; allowed: a list, an array or a dense tensor"):
        Labels(known).outputs(given, 2)


FOREIGN: dict[str, Any] = {
    "an Arrow array": pa.array([3, 1, 3]),
    "a chunked Arrow array": pa.chunked_array([[3], [1, 3]]),
    "Arrow scalars": [pa.scalar(3), pa.scalar(1), pa.scalar(3)],
    "a dictionary of Arrow": pa.array(["b", "a", "b"]).dictionary_encode(),
    "a nullable series": pd.Series([3, 1, 3], dtype="Int64"),
    "an Arrow series": pd.Series([3, 1, 3], dtype="int64[pyarrow]"),
    "categories": pd.Series(["b", "a", "b"], dtype="category"),
    "numpy scalars": [np.int8(3), np.uint16(1), np.float32(3)],
    "numpy texts": [np.str_("b"), np.str_("a"), np.str_("b")],
    "zero-dimensional tensors": list(torch.tensor([3, 1, 3])),
    "zero-dimensional arrays": [np.array(3), np.array(1), np.array(3)],
    "tuples of them": [(np.int64(3), pa.scalar("x")), (np.int64(1), "x"), (3, "x")],
}


@pytest.mark.parametrize("what", FOREIGN)
def test_scalars_of_other_libraries_are_pythons_own(what: str) -> None:
    labels = Labels()
    new = labels.outputs(FOREIGN[what], 3)
    assert isinstance(new, list)
    labels.learn(new)
    plain = {"tuples of them": [(3, "x"), (1, "x")]}.get(what, ["b", "a"] if labels.known[0] == "b" else [3, 1])
    assert labels.known == plain and {type(label) for label in labels.known} <= {str, int, float, tuple}
    again = labels.outputs([plain[0], plain[1], plain[0]], 3)
    assert isinstance(again, torch.Tensor) and again.tolist() == [0, 1, 0]


def test_labels_from_arrow_are_learned_as_the_same_numbers() -> None:
    x = torch.rand(64, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0.5).long()
    learner = Learner(torch.nn.Linear(3, 2), "er", buffer_size=50, lr=0.5)
    for _ in range(60):
        learner.observe(x, pa.array(y.tolist()))
    assert learner.evaluate(x, y)["working"] > 90
    learner.observe(x, y)
    assert sorted(learner.classes) == [0, 1]  # type: ignore[type-var]  # whole numbers


MISSING = [None, math.nan, np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT", "ns"), (1, None), pa.scalar(None)]


@pytest.mark.parametrize("label", MISSING, ids=repr)
def test_a_missing_label_is_refused_by_every_face(label: Any) -> None:
    x = np.random.Generator(np.random.PCG64(0)).random((4, 3)).astype(np.float32)
    y = [0, label, 0, 1]
    learner, model, river = Learner(torch.nn.Linear(3, 2), "er"), SynergyClassifier(epochs=1), RiverClassifier("er")
    learner.observe(x, [0, 1, 0, 1])
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    as_objects = np.empty(4, dtype=object)
    as_objects[:] = y
    calls: list[Callable[[], object]] = [
        lambda: learner.observe(x, y),
        lambda: learner.observe(x, as_objects),
        lambda: learner.evaluate(x, y),
        lambda: model.fit(x, as_objects),
        lambda: model.partial_fit(x, as_objects),
        lambda: river.learn_one({"a": 1.0}, label),
        lambda: river.learn_many(frame, pd.Series(as_objects)),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="stands for a missing label; allowed: a label for every sample"):
            call()
    assert learner.classes == [0, 1] and river.learner is None and not hasattr(model, "learner_")


def test_a_missing_label_may_be_named_as_a_class() -> None:
    x = torch.rand(4, 3)
    learner = Learner(torch.nn.Linear(3, 3), "er", classes=[0, math.nan, None])
    learner.observe(x, [0, float("nan"), np.float64("nan"), None])
    learner.observe(x, np.array([0, np.nan, 0, np.nan]))
    assert learner.memory.summary()["per_class"] == {0: 3, math.nan: 4, None: 1}
    with pytest.raises(UsageError, match="missing label"):
        learner.observe(x, [0, pd.NA, 0, 0])


def test_a_named_missing_label_survives_a_file(tmp_path: Any) -> None:
    learner = Learner(torch.nn.Linear(3, 3), "er", classes=[0, math.nan, None])
    learner.observe(torch.rand(3, 3), [0, math.nan, None])
    learner.save(tmp_path / "learner")
    loaded = Learner.load(tmp_path / "learner", torch.nn.Linear(3, 3))
    loaded.observe(torch.rand(3, 3), [None, float("nan"), 0])
    assert loaded.classes == learner.classes


class Colour(enum.Enum):
    RED = 1


UNSAVABLE = [Colour.RED, pd.Timestamp("2024-01-01"), b"red", decimal.Decimal(1), datetime.date(2024, 1, 1), frozenset()]


@pytest.mark.parametrize("label", UNSAVABLE, ids=repr)
def test_a_label_that_no_file_can_hold_is_told_at_the_first_batch(label: Hashable) -> None:
    x = torch.rand(2, 3)
    learner = Learner(torch.nn.Linear(3, 3), "er")
    learner.observe(x, ["a", "a"])
    with pytest.warns(UserWarning, match=rf"a {type(label).__name__} cannot be saved to a file; give text, numbers"):
        learner.observe(x, ["b", label])
    named = Learner(torch.nn.Linear(3, 2), "er", classes=["a", (label, 1)])
    with pytest.warns(UserWarning, match="a tuple cannot be saved to a file"):
        named.observe(x, ["a", "a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in (learner, named):
            each.observe(x, ["a", "a"])
    with pytest.raises(UsageError, match="which cannot be saved"):
        saved(label)


MATRICES: list[tuple[Any, str]] = [
    (torch.zeros(2, 1), r"given shape \[2, 1\]; allowed: \[B\], one label a sample \(y\[:, 0\]\)"),
    (np.eye(2), r"given shape \[2, 2\]; .* \(y.argmax\(1\) for one-hot labels\)"),
    (torch.rand(2, 3), r"given shape \[2, 3\]; allowed: \[B\], one label a sample$"),
    ([[1], [0]], r"given \[1\], which is not hashable; .* \(y\[:, 0\]\)"),
    ([[0, 1], [1, 0]], r"given \[0, 1\], which is not hashable; .* \(y.argmax\(1\) for one-hot labels\)"),
    (np.zeros(2, "M8[ns]"), r"given datetime64\[ns\]; .* \(y.astype\(str\)\)"),
]


@pytest.mark.parametrize(("given", "message"), MATRICES)
def test_a_matrix_of_labels_is_refused_with_the_way_to_labels(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Labels().outputs(given, 2)
