"""`SynergyClassifier`: scikit-learn's own contract, and what it adds: classes that come later."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from synergy import Learner, SynergyClassifier, TrainingError, UsageError, method_class
from synergy.methods import METHODS

Table = tuple[Any, Any]


@pytest.mark.slow
@parametrize_with_checks([SynergyClassifier(epochs=20)])  # type: ignore[untyped-decorator]
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # of the NaN of a check
def test_scikit_learns_own_checks(estimator: SynergyClassifier, check: Callable[[SynergyClassifier], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def iris() -> Table:
    x, y = load_iris(return_X_y=True)
    names = load_iris().target_names
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(x))
    return StandardScaler().fit_transform(x)[order].astype(np.float32), names[y][order]


@pytest.fixture(scope="module")
def digits() -> Table:
    x, y = load_digits(return_X_y=True)
    return x / 16, y


def test_it_learns_a_small_table_as_it_comes(iris: Table) -> None:
    x, y = load_iris(return_X_y=True)
    scores = cross_val_score(make_pipeline(StandardScaler(), SynergyClassifier()), x, y, cv=3)
    assert scores.mean() > 0.92


def test_a_search_finds_the_better_value(iris: Table) -> None:
    pipeline = make_pipeline(StandardScaler(), SynergyClassifier(hidden=(20,), epochs=10))
    search = GridSearchCV(pipeline, {"synergyclassifier__lr": [1e-5, 0.1]}, cv=2).fit(*iris)
    assert search.best_params_ == {"synergyclassifier__lr": 0.1}
    assert search.score(*iris) > 0.85


def test_the_same_seed_gives_the_same_bits_another_seed_others(iris: Table) -> None:
    x, y = iris

    def trained(seed: Any) -> Any:
        return SynergyClassifier(epochs=2, random_state=seed).fit(x, y).predict_proba(x)

    assert np.array_equal(trained(1), trained(1))
    assert not np.array_equal(trained(1), trained(2))
    assert not np.array_equal(trained(None), trained(None))
    assert np.array_equal(trained(np.random.RandomState(5)), trained(np.random.RandomState(5)))


def layers(n_features: int, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, n_classes))


def test_it_neither_reads_nor_moves_global_randomness(iris: Table) -> None:
    x, y = iris
    probabilities = []
    for seed in (1, 2):
        # Before: another state of every global generator. After: that very state.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
            model = SynergyClassifier(net=layers, epochs=2).fit(x, y)
            probabilities.append(model.predict_proba(x))
            after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
    assert np.array_equal(probabilities[0], probabilities[1])


def test_initial_weights_of_a_made_network_follow_from_the_seed(iris: Table) -> None:
    weights = [
        SynergyClassifier(net=nn.Linear, epochs=1, lr=0.0, random_state=seed).fit(*iris).predict_proba(iris[0])
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_a_network_of_ones_own_is_copied_and_trained(iris: Table) -> None:
    x, y = iris
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    before = deepcopy(net.state_dict())
    model = SynergyClassifier(net=net)
    assert model.fit(x, y).score(x, y) > 0.9
    assert all(torch.equal(now, before[name]) for name, now in net.state_dict().items())
    again = clone(model)
    assert again.net is not net
    assert np.array_equal(again.fit(x, y).predict_proba(x), model.predict_proba(x))


def test_the_columns_are_the_sorted_classes_whatever_came_first(iris: Table) -> None:
    x, y = iris
    order = np.argsort(y, kind="stable")[::-1]  # virginica first
    model = SynergyClassifier()
    for _ in range(60):
        model.partial_fit(x[order[:100]], y[order[:100]])
    assert model.classes_.tolist() == ["versicolor", "virginica"]
    assert model.learner_.classes == ["virginica", "versicolor"]
    rows = model.predict_proba(x[order[:100]])
    assert np.allclose(rows.sum(1), 1)
    assert (model.classes_[rows.argmax(1)] == y[order[:100]]).mean() > 0.9
    assert np.array_equal(model.classes_[rows.argmax(1)], model.predict(x[order[:100]]))


def test_classes_come_at_any_time_and_old_ones_stay(digits: Table) -> None:
    """Digits two at a time: it knows all at the end, plain gradient descent only the last two."""
    x, y = digits
    train, test = np.arange(len(y)) % 3 > 0, np.arange(len(y)) % 3 == 0
    score = {}
    for method in ("synergy", "sgd"):
        model = SynergyClassifier(method)
        for first in range(0, 10, 2):
            of_task = train & (y // 2 * 2 == first)
            for _ in range(5):
                model.partial_fit(x[of_task], y[of_task])
            assert model.classes_.tolist() == list(range(first + 2))
        score[method] = model.score(x[test], y[test])
    assert score["synergy"] > 0.75
    assert score["sgd"] < 0.4


def test_after_fit_it_goes_on_with_new_classes(iris: Table) -> None:
    x, y = iris
    old = y != "virginica"
    model = SynergyClassifier().fit(x[old], y[old])
    learner = model.learner_
    for _ in range(50):
        model.partial_fit(x, y)
    assert model.learner_ is learner
    assert model.score(x, y) > 0.85
    model.fit(x[old], y[old])
    assert model.classes_.tolist() == ["setosa", "versicolor"]


def test_named_classes_are_all_there_will_be(iris: Table) -> None:
    x, y = iris
    model = SynergyClassifier()
    with pytest.raises(UsageError, match=r"y: given \['virginica'\]; allowed: \['setosa', 'versicolor'\], the classes"):
        model.partial_fit(x, y, classes=["versicolor", "setosa"])
    with pytest.raises(NotFittedError):
        model.predict(x)
    one = y == "setosa"
    model.partial_fit(x[one], y[one], classes=["virginica", "setosa", "versicolor"])
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert model.predict_proba(x).shape == (150, 3)
    model.partial_fit(x, y).partial_fit(x, y, classes=model.classes_)
    with pytest.raises(UsageError, match=r"classes: given \['setosa'\]; allowed: .*, as now known, or none"):
        model.partial_fit(x, y, classes=["setosa"])
    with pytest.raises(UsageError, match=r"y: given \['rose'\]; allowed"):
        model.partial_fit(x[:1], ["rose"])
    assert model.score(x, y) > 0.3


def test_partial_fit_is_one_pass_in_order_of_even_batches(iris: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = iris
    seen: list[Any] = []
    monkeypatch.setattr(Learner, "observe", lambda _, samples, labels: seen.append(samples))
    SynergyClassifier(batch_size=32).partial_fit(x[:65], y[:65])
    assert [len(batch) for batch in seen] == [22, 22, 21]
    assert np.array_equal(np.concatenate(seen), x[:65])
    seen.clear()
    SynergyClassifier(batch_size=32, epochs=2).fit(x[:65], y[:65])
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert not np.array_equal(first, second)
    for drawn in (first, second):
        assert not np.array_equal(drawn, x[:65])
        assert np.array_equal(np.sort(drawn, axis=0), np.sort(x[:65], axis=0))


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("gdumb", "mer") else ())
        for name in METHODS
        if not method_class(name).needs_boundaries
    ],
)
def test_every_method_without_boundaries(iris: Table, method: str) -> None:
    x, y = iris
    assert SynergyClassifier(method, epochs=20).fit(x, y).score(x, y) > 0.8


def test_options_reach_the_method_and_the_learner(iris: Table) -> None:
    x, y = iris
    model = SynergyClassifier("er", buffer_size=40, epochs=1, options={"minibatch_size": 7, "prequential": "learning"})
    learner = model.fit(x, y).learner_
    assert learner.memory.summary()["capacity"] == 40
    assert learner.metrics()["accuracy"] is not None
    with pytest.raises(UsageError, match="unknown option of er 'minibatch'"):
        SynergyClassifier("er", options={"minibatch": 7}).fit(x, y)


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


def test_an_optimiser_or_bytes_take_the_place_of_lr_and_buffer_size(iris: Table) -> None:
    x, y = iris
    model = SynergyClassifier(epochs=10, options={"optimizer": adam, "buffer_bytes": 24 * 40}).fit(x, y)
    assert model.learner_.memory.summary()["capacity"] == 40
    assert model.score(x, y) > 0.8


def test_it_is_sent_to_other_processes_and_goes_on_there(iris: Table) -> None:
    x, y = iris
    model = SynergyClassifier(epochs=3).fit(x[:100], y[:100])
    sent = pickle.loads(pickle.dumps(model))
    assert np.array_equal(sent.predict_proba(x), model.predict_proba(x))
    assert np.array_equal(sent.partial_fit(x, y).predict_proba(x), model.partial_fit(x, y).predict_proba(x))


def test_names_of_columns_are_held_to(iris: Table) -> None:
    x, y = iris
    frame = pd.DataFrame(x, columns=list("abcd"))
    model = SynergyClassifier(epochs=1).fit(frame, pd.Series(y))
    assert model.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("bacd")])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epochs": 0}, "epochs: given 0; allowed: whole numbers from 1 on"),
        ({"batch_size": 2.5}, "batch_size: given 2.5; allowed: whole numbers from 1 on"),
        ({"random_state": -1}, "random_state: given -1; allowed: whole numbers from 0 on"),
        ({"hidden": 100}, r"hidden: given 100; allowed: units of each layer, such as \(100, 100\)"),
        ({"hidden": (10, 0)}, r"hidden: given \(10, 0\); allowed"),
        ({"net": "mlp"}, "net: given 'mlp'; allowed: an nn.Module, or a function"),
        ({"net": lambda features, classes: None}, "net: the function gave a NoneType; allowed"),
        ({"method": "sinergy"}, "did you mean 'synergy'"),
        ({"method": "pnn"}, "pnn, which needs task boundaries"),
        ({"device": "tpu"}, "device: given tpu"),
        ({"lr": -1.0}, "lr: given -1.0"),
        ({"options": {"device": "cpu"}}, "options: given 'device'; allowed: options of the method"),
        ({"options": {"loss": "mse"}}, "options: given 'loss'; allowed: options of the method"),
        ({"options": {1: 2}}, "options: given the name 1; allowed: names as text"),
        (
            {"net": lambda features: None},
            r"net: the function fails for two numbers \(.*2 were given\); allowed: \(n_fea",
        ),
        ({"net": nn.ReLU}, r"net: the function fails for two numbers \(.*\); allowed: \(n_features, n_classes\)"),
        ({"hidden": (np.int64(0),)}, "hidden: given .*; allowed: units"),
        ({"options": ["lr"]}, r"options: given \['lr'\]; allowed: a mapping"),
    ],
)
def test_mistakes(iris: Table, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        SynergyClassifier(**parameters).fit(*iris)
    assert "\n" not in str(caught.value)


def test_texts_and_numbers_are_not_mixed(iris: Table) -> None:
    x, y = iris
    model = SynergyClassifier(epochs=1).fit(x, y)
    with pytest.raises(UsageError, match="text or numbers, not both"):
        model.partial_fit(x[:2], [0, 1])


def test_units_may_be_numbers_of_numpy(iris: Table) -> None:
    x, y = iris
    given: list[Any] = [(np.int64(4),), (4,)]
    one, other = (SynergyClassifier(hidden=hidden, epochs=1).fit(x, y) for hidden in given)
    assert np.array_equal(one.predict_proba(x), other.predict_proba(x))
    assert "np.int64" in repr(one)  # a parameter stays as it was given


def test_labels_that_no_type_holds_together_are_refused(iris: Table) -> None:
    x, _ = iris
    model = SynergyClassifier().partial_fit(x[:4], [2**53 + 1, 0, 1, 0])
    before = model.predict_proba(x)
    with pytest.raises(
        UsageError, match=r"y: given float64 labels beside int64 ones, .* 9007199254740993 would change"
    ):
        model.partial_fit(x[:2], [1.0, 2.0])
    with pytest.raises(UsageError, match="y: given uint64 labels beside int64 ones"):
        model.partial_fit(x[:2], np.array([1, 2], dtype=np.uint64))
    assert np.array_equal(model.predict_proba(x), before)
    assert SynergyClassifier().partial_fit(x[:2], [0, 1]).partial_fit(x[:1], [2.0]).classes_.tolist() == [0, 1, 2]


# What fails


def failing(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> None:
    """Make the learner fail after so many batches, in the midst of the next."""
    observe, left = Learner.observe, iter(range(after))

    def observed(learner: Learner, x: Any, y: Any) -> Any:
        losses = observe(learner, x, y)
        if next(left, None) is None:
            raise error
        return losses

    monkeypatch.setattr(Learner, "observe", observed)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TrainingError("the loss became nan")], ids=["stop", "loss"])
@pytest.mark.parametrize("fixed", [False, True])
def test_classes_are_those_the_learner_knows_wherever_a_pass_ended(
    iris: Table, monkeypatch: pytest.MonkeyPatch, error: BaseException, fixed: bool
) -> None:
    x, y = iris
    order = np.argsort(y, kind="stable")  # setosa, versicolor, virginica, fifty each
    x, y = x[order], y[order]
    names = ["setosa", "versicolor", "virginica"]
    model = SynergyClassifier(batch_size=25).partial_fit(x[:50], y[:50], classes=names if fixed else None)
    with monkeypatch.context() as broken, pytest.raises(type(error)):
        failing(broken, 2, error)
        model.partial_fit(x, np.roll(y, -25))  # of which two batches and the next are learned, not the last three
    assert model.classes_.tolist() == (names if fixed else names[:2])
    assert set(model.learner_.classes) == set(model.classes_.tolist())
    assert np.allclose(model.predict_proba(x).sum(1), 1)
    assert model.partial_fit(x, y).classes_.tolist() == names
    assert np.allclose(model.predict_proba(x).sum(1), 1)


def test_a_pass_that_cannot_begin_changes_nothing(iris: Table) -> None:
    x, y = iris
    model = SynergyClassifier(epochs=1).fit(x, y)
    before, batches = model.predict_proba(x), model.learner_.metrics()["batches"]
    for samples, labels in ((x[:, :3], y), (x, y[:5]), (x[:2], ["rose", None])):
        with pytest.raises((ValueError, TypeError)):
            model.partial_fit(samples, labels)
    assert np.array_equal(model.predict_proba(x), before)
    assert model.learner_.metrics()["batches"] == batches


@pytest.mark.parametrize("call", ["fit", "partial_fit"])
@pytest.mark.parametrize("cause", ["lr", "labels", "loss", "stop"])
def test_what_fails_leaves_the_estimator_as_it_was(
    iris: Table, monkeypatch: pytest.MonkeyPatch, call: str, cause: str
) -> None:
    x, y = iris
    errors = {"lr": UsageError, "labels": UsageError, "loss": TrainingError, "stop": KeyboardInterrupt}
    model, frame = SynergyClassifier(epochs=1), pd.DataFrame(x[:, :2], columns=list("ab"))
    if call == "fit":  # else nothing was learned before
        model.fit(frame, y)
    before = dict(vars(model))
    model.set_params(lr=-1.0 if cause == "lr" else 0.1)
    with monkeypatch.context() as broken, pytest.raises(errors[cause]):
        failing(broken, 2 if cause in ("loss", "stop") else 1000, errors[cause]("it failed"))
        getattr(model, call)(x, y[:5] if cause == "labels" else y)
    assert vars(model.set_params(lr=0.1)) == before
    if call == "fit":
        assert model.n_features_in_ == 2 and model.feature_names_in_.tolist() == ["a", "b"]
        assert model.predict(frame).shape == (150,)
    else:
        with pytest.raises(NotFittedError):
            model.predict(x)


def test_answers_that_are_no_numbers_are_said_to_be_none(iris: Table) -> None:
    x, y = iris
    model = SynergyClassifier("sgd", clip_norm=None).partial_fit(x, y)
    with torch.no_grad(), pytest.raises(TrainingError, match="the loss became"):
        model.partial_fit(x * 1e18, y)
        model.partial_fit(x * 1e18, y)
    for answer in (model.predict, model.predict_proba):
        with pytest.raises(TrainingError, match="the answers are NaN or infinite after batch"):
            answer(x)
    assert model.set_params(random_state=1).fit(x, y).score(x, y) > 0.8
    large = pytest.raises(UsageError, match="samples: the network answers NaN; allowed: smaller numbers")
    with np.errstate(all="ignore"), large:
        model.predict(x * np.float32(1e38))
    assert model.score(x, y) > 0.8


CHANGES: dict[str, Any] = {
    "lr": 0.5,
    "buffer_size": 7,
    "method": "er",
    "hidden": (3,),
    "net": nn.Linear(4, 3),
    "clip_norm": None,
    "random_state": 1,
    "device": "cpu",
    "options": {"ema_alpha": 0.5},
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("first", ["fit", "partial_fit"])
def test_a_parameter_that_changed_is_refused_in_the_middle_of_learning(iris: Table, name: str, first: str) -> None:
    model = SynergyClassifier(epochs=1)
    vars(type(model))[first](model, *iris)
    model = pickle.loads(pickle.dumps(model)).set_params(epochs=2, batch_size=5).partial_fit(*iris)
    before = model.predict_proba(iris[0])
    model.set_params(**{name: CHANGES[name]})
    with pytest.raises(UsageError, match=rf"{name}: given .*, but learning began with .*; allowed: that, or fit"):
        model.partial_fit(*iris)
    assert np.array_equal(model.predict_proba(iris[0]), before)
    model.fit(*iris).partial_fit(*iris)


def test_every_parameter_is_looked_at() -> None:
    assert {*SynergyClassifier().get_params()} == {*CHANGES, "epochs", "batch_size"}
