"""`RiverClassifier`: river's own contract, and what it says of features and classes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from river import checks, datasets, evaluate, metrics, preprocessing
from torch import nn

from synergy import Learner, TrainingError, UsageError
from synergy.stream.faces.river import RiverClassifier

SMALL = RiverClassifier(hidden=(10,), buffer_size=100, options={"minibatch_size": 8})


def name_of(check: Any) -> str:
    return str(check.__name__)


@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, marks=pytest.mark.slow if each.__name__ == "check_bounded_memory_growth" else ())
        for each in checks.yield_checks(SMALL)
        if each.__name__ not in SMALL._unit_test_skips()
    ],
    ids=name_of,
)
def test_rivers_own_checks(check: Callable[[RiverClassifier], None]) -> None:
    check(SMALL.clone())


def test_only_the_equality_of_a_batch_with_its_rows_is_not_promised() -> None:
    assert SMALL._unit_test_skips() == {"check_learn_many_matches_learn_one"}
    one, many = SMALL.clone(), SMALL.clone()
    for x, y in datasets.Phishing().take(20):
        one.learn_one(x, y)
    many.learn_many(*frame_of(datasets.Phishing().take(20)))
    assert many.learner is not None and many.learner.metrics()["batches"] == 1
    assert one.learner is not None and one.learner.metrics()["batches"] == 20


def frame_of(samples: Any) -> tuple[Any, Any]:
    rows, labels = zip(*samples, strict=True)
    return pd.DataFrame(list(rows)), pd.Series(list(labels))


def test_it_learns_in_a_pipeline_far_better_than_a_guess() -> None:
    stream = list(datasets.ImageSegments().take(700))  # type: ignore[no-untyped-call]
    pipeline = preprocessing.StandardScaler() | RiverClassifier(seed=1)
    accuracy = evaluate.progressive_val_score(stream, pipeline, metrics.Accuracy()).get()  # type: ignore[no-untyped-call]
    most = max(list(zip(*stream, strict=True))[1].count(label) for label in {y for _, y in stream}) / len(stream)
    assert accuracy > 0.7 > 2 * most


def test_nothing_learned_nothing_said() -> None:
    model = RiverClassifier()
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=[5, 7])
    assert model.predict_one({"a": 1.0}) is None
    assert model.predict_proba_one({"a": 1.0}) == {}
    assert model.predict_many(frame).tolist() == [None, None]
    assert model.predict_proba_many(frame).shape == (2, 0)
    model.learn_many(frame[:0], pd.Series([], dtype=object))
    assert model.learner is None


def taught(**parameters: Any) -> RiverClassifier:
    """Knows that b follows a."""
    model = RiverClassifier(**parameters)
    rng = np.random.Generator(np.random.PCG64(0))
    for a in rng.standard_normal(300).tolist():
        model.learn_one({"a": a, "b": float(rng.standard_normal())}, "high" if a > 0 else "low")
    return model


def test_a_feature_that_is_missing_is_zero_and_one_that_is_new_is_ignored() -> None:
    model = taught()
    assert model.predict_one({"a": 2.0, "b": 0.0}) == "high"
    assert model.predict_one({"b": 0.0, "a": -2.0}) == "low"
    assert model.predict_proba_one({"a": 2.0}) == model.predict_proba_one({"a": 2.0, "b": 0.0, "c": 100.0})
    with_new = model.predict_proba_many(pd.DataFrame({"c": [9.0], "a": [2.0]}))
    assert with_new.iloc[0].to_dict() == model.predict_proba_one({"a": 2.0})


def test_features_that_are_named_in_advance_may_emerge() -> None:
    model = RiverClassifier(features=["a", "b", "late"])
    for _ in range(5):
        model.learn_one({"a": 1.0}, True)
    for late in (1.0, -1.0) * 100:
        model.learn_one({"a": 0.0, "late": late}, late > 0)
    assert model.predict_one({"late": 1.0}) is True
    assert model.predict_one({"late": -1.0}) is False


@pytest.mark.parametrize("labels", [[True, False], [0, 1], ["x", "y"], [("t", 1), ("t", 2)]])
def test_labels_of_any_kind_come_back_as_they_were(labels: list[Any]) -> None:
    model = RiverClassifier()
    for _ in range(40):
        model.learn_many(pd.DataFrame({"a": [1.0, -1.0]}), pd.Series(labels))
    frame = pd.DataFrame({"a": [1.0, -1.0]}, index=[8, 9])
    assert [model.predict_one({"a": a}) for a in (1.0, -1.0)] == labels
    predicted, probabilities = model.predict_many(frame), model.predict_proba_many(frame)
    assert predicted.tolist() == labels and predicted.index.tolist() == [8, 9]
    assert probabilities.columns.tolist() == labels and probabilities.index.tolist() == [8, 9]
    assert np.allclose(probabilities.sum(axis=1), 1)


def test_classes_come_at_any_time_and_old_ones_stay() -> None:
    """Three classes, one after the other: it knows all; plain gradient descent knows the last."""
    rng = np.random.Generator(np.random.PCG64(0))
    centres = {"first": (2.0, 0.0), "second": (-2.0, 2.0), "third": (-2.0, -2.0)}
    right = {}
    for method in ("synergy", "sgd"):
        model = RiverClassifier(method)
        for label, centre in centres.items():
            for point in centre + 0.3 * rng.standard_normal((80, 2)):
                model.learn_one(dict(zip("ab", point.tolist(), strict=True)), label)
        right[method] = [model.predict_one(dict(zip("ab", c, strict=True))) == label for label, c in centres.items()]
    assert all(right["synergy"])
    assert right["sgd"] == [False, False, True]


def test_the_same_seed_gives_the_same_bits_another_others_and_nothing_global_is_touched() -> None:
    with torch.random.fork_rng():
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
        answers = [taught(net=nn.Linear, seed=seed).predict_proba_one({"a": 0.1}) for seed in (0, 0, 1)]
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_goes_on_as_the_original(copied: Callable[[Any], RiverClassifier]) -> None:
    model = taught()
    twin = copied(model)
    for each in (model, twin):
        each.learn_one({"a": 0.0, "b": 3.0}, "new")
    assert twin.predict_proba_one({"a": 0.3}) == model.predict_proba_one({"a": 0.3})
    assert isinstance(twin.learner, Learner)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"a": 1.0, "b": "red"}, r"features: given \{'b': 'red'\}; allowed: numbers"),
        ({"a": 1.0, "b": float("nan")}, "NaN or infinity; allowed: finite float32 numbers"),
        ({"a": 1.0, "b": 1e39}, "NaN or infinity; allowed: finite float32 numbers"),
        (
            {"a": 1.0, "b": -(10**400)},
            r"features: given \{'b': -1000\d*\.\.\.\d*0\}; allowed: finite float32 numbers, up",
        ),
        ({}, "features: the first sample has none"),
    ],
)
def test_a_first_sample_that_is_none_leaves_no_trace(x: dict[str, Any], message: str) -> None:
    model = RiverClassifier()
    with pytest.raises(UsageError, match=message) as caught:
        model.learn_one(x, 1)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=message):
        model.learn_many(pd.DataFrame([x]), pd.Series([1]))
    model.learn_one({"other": 1.0}, 1)
    assert model.predict_one({"other": 1.0}) == 1


def test_features_need_names_and_labels_may_come_as_a_list() -> None:
    model = RiverClassifier()
    x: Any = [1, 2]
    for call in (lambda: model.learn_one(x, 0), lambda: model.predict_proba_one(x)):
        with pytest.raises(UsageError, match=r"features: given \[1, 2\]; allowed: a mapping, {name: number}"):
            call()
    frame, labels = pd.DataFrame({"a": [1.0, 2.0]}), ["x", "y"]
    model.learn_many(frame, labels)
    assert set(model.predict_many(frame)) <= {"x", "y"}
    with pytest.raises(UsageError, match="labels: given 1 for 2 samples"):
        model.learn_many(frame, pd.Series(["x"]))


@pytest.mark.parametrize("label", [[1], {"a": 1}, float("nan")])
def test_a_first_label_that_is_none_leaves_no_trace(label: Any) -> None:
    model = RiverClassifier()
    with pytest.raises(UsageError, match=r"labels: given .*; allowed: (numbers, texts|a label for every)"):
        model.learn_one({"a": 1}, label)
    with pytest.raises(UsageError, match="labels: given"):
        model.learn_many(pd.DataFrame({"a": [1.0, 2.0]}), pd.Series([1, label], dtype=object))
    assert model.learner is None
    model.learn_one({"other": 1.0}, 1)
    assert model.predict_one({"other": 1.0}) == 1


def test_the_row_that_holds_no_numbers_is_named() -> None:
    model = taught()
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.5, "red", 0.5]})
    for call in (model.predict_many, model.predict_proba_many, lambda x: model.learn_many(x, pd.Series(["low"] * 3))):
        with pytest.raises(UsageError, match=r"features: given \{'b': 'red'\}; allowed: numbers"):
            call(frame)
    with pytest.raises(UsageError, match=r"features: given \{'b': 1000.*\}; allowed: finite float32 numbers"):
        model.predict_many(pd.DataFrame({"a": [1.0, 2.0], "b": [0, 10**400]}))


def test_two_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame([[1.0, 2.0, 3.0]] * 2, columns=["a", "b", "a"])
    model = RiverClassifier()
    with pytest.raises(UsageError, match="features: given two columns 'a'; allowed: columns of different names"):
        model.learn_many(frame, pd.Series([0, 1]))
    assert model.learner is None
    model.learn_one({"a": 1.0}, 1)
    with pytest.raises(UsageError, match="two columns 'a'"):
        model.predict_many(frame)


def test_the_order_of_a_mapping_makes_no_difference() -> None:
    x: dict[Any, float] = {1: 1.0, "1": -2.0, 1.5: 0.5, "a": 4.0, (1, 2): 1.0}
    answers = []
    for names in (list(x), list(x)[::-1]):
        model = RiverClassifier()
        for label in (0, 1, 0):
            model.learn_one({name: x[name] for name in names}, label)
        answers.append(model.predict_proba_one(x))
    assert answers[0] == answers[1]


def test_a_small_memory_is_no_cause_for_a_warning() -> None:
    """Warnings are errors here. The bits are those of a learner that draws all there is."""
    models = [RiverClassifier("er", buffer_size=8), RiverClassifier("er", options={"buffer_size": 8})]
    models.append(RiverClassifier("er", buffer_size=8, options={"minibatch_size": 8}))
    for model in models:
        for number in range(30):
            model.learn_one({"a": float(number % 3)}, number % 3)
        assert model.learner is not None and model.learner.memory.summary()["capacity"] == 8
    assert len({str(model.predict_proba_one({"a": 1.0})) for model in models}) == 1
    with pytest.raises(UsageError, match="buffer_size: given 0; allowed: at least 1"):
        RiverClassifier("er", buffer_size=0).learn_one({"a": 1.0}, 1)


def test_answers_that_are_no_numbers_are_said_to_be_none() -> None:
    model = RiverClassifier("sgd", clip_norm=None)
    with pytest.raises(TrainingError, match="the loss became"):
        for number in range(10):
            model.learn_one({"a": 1e18}, number % 2)
    with pytest.raises(TrainingError, match="the answers are NaN or infinite after batch"):
        model.predict_one({"a": 1.0})


@pytest.mark.parametrize(
    "features",
    [("b", "a"), np.array(["b", "a"]), pd.Index(["b", "a"]), pd.DataFrame({"b": [], "a": []}).columns, deque("ba")],
)
def test_names_in_an_order_of_any_kind(features: Any) -> None:
    model, plain = RiverClassifier(features=features), RiverClassifier(features=["b", "a"])
    for each in (model, model.clone(), pickle.loads(pickle.dumps(model)), plain):
        each.learn_one({"a": 1.0, "b": 2.0}, 1)
        each.learn_one({"a": 2.0, "b": 1.0}, 2)
        assert each.predict_proba_one({"a": 1.0, "b": 1.0}) == model.predict_proba_one({"a": 1.0, "b": 1.0})
    assert plain.predict_proba_one({"a": 3.0}) == model.predict_proba_one({"a": 3.0})


@pytest.mark.parametrize(
    "features",
    [
        "abc",
        b"abc",
        [],
        np.array([]),
        ["a", "a"],
        [["a"]],
        [("a", [1])],
        3,
        np.array(3),
        np.array([["a"], ["b"]]),
        {"a", "b"},
        frozenset("ab"),
        {"a": 1},
        {"a": 1}.keys(),
        iter("ab"),
    ],
)
def test_names_of_features(features: Any) -> None:
    with pytest.raises(UsageError, match=r"features: given .*; allowed: a list of different names") as caught:
        RiverClassifier(features=features)
    assert "\n" not in str(caught.value)


def test_without_river_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['river'] = None\nimport synergy, synergy.stream\nimport synergy.stream.faces.river"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.endswith(
        "UsageError: synergy.stream.faces.river needs river; install it with: pip install 'synergy-cl[river]'"
    )
