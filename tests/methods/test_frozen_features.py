"""Methods on frozen features against batch formulas on all samples at once, in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synergy import testing
from synergy.methods import method_class
from synergy.methods.base import make_method
from synergy.nets.linear import Linear
from synergy.types import Batch

D, CLASSES, N = 6, 4, 50
RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.arange(N) % (CLASSES - 1))
X = RNG.normal(size=(N, D)) @ RNG.normal(size=(D, D)) + 2 * LABELS[:, None]
NEW = RNG.normal(size=(20, D)) * 3


def taught(name: str, order: np.ndarray[Any, Any], sizes: list[int], **options: Any) -> Any:
    """A method on the samples in this order, in batches of these sizes, on a network whose features are the samples."""
    kind = method_class(name)
    setting = testing.setting(testing.scenario("seq-digits"))
    build = lambda name: Linear(D, CLASSES, generator=torch.Generator().manual_seed(0)).double()  # noqa: E731
    setting = type(setting)(build, setting.view, CLASSES, 0)
    method = make_method(kind, kind.Config(**options), setting, testing.budget(testing.scenario("seq-digits")))
    inputs, labels = torch.from_numpy(X[order]), torch.from_numpy(LABELS[order])
    for part, of in zip(inputs.split(sizes), labels.split(sizes), strict=True):
        method.observe(Batch(part, part, of))
    return method


def scores(method: Any) -> np.ndarray[Any, Any]:
    (answer,) = method.predictors().values()
    found: np.ndarray[Any, Any] = answer(torch.from_numpy(NEW)).numpy()
    return found


def means() -> np.ndarray[Any, Any]:
    return np.stack([X[label == LABELS].mean(0) for label in range(CLASSES - 1)])


def of_ncm(method: Any) -> np.ndarray[Any, Any]:
    return -np.stack([((NEW - mean) ** 2).sum(1) for mean in means()], 1)


def of_slda(method: Any) -> np.ndarray[Any, Any]:
    deviations = X - means()[LABELS]
    sigma = deviations.T @ deviations / N
    inverse = np.linalg.inv(0.9 * sigma + 0.1 * np.eye(D))
    return np.stack([NEW @ inverse @ mean - mean @ inverse @ mean / 2 for mean in means()], 1)


def of_ranpac(method: Any) -> np.ndarray[Any, Any]:
    projection = method.projection.numpy()
    hidden, new = np.maximum(X @ projection, 0), np.maximum(NEW @ projection, 0)
    # Ridge regression as plain least squares with rows for the penalty.
    rows = np.concatenate([hidden, np.sqrt(2.0) * np.eye(hidden.shape[1])])
    targets = np.concatenate([np.eye(CLASSES)[LABELS], np.zeros((hidden.shape[1], CLASSES))])
    found: np.ndarray[Any, Any] = new @ np.linalg.lstsq(rows, targets, rcond=None)[0]
    return found[:, : CLASSES - 1]


CASES = [
    ("ncm", of_ncm, {}),
    ("slda", of_slda, {"shrinkage": 0.1}),
    ("ranpac", of_ranpac, {"projection": 15, "ridge": 2.0}),
]


@pytest.mark.parametrize(("name", "oracle", "options"), CASES, ids=lambda each: each if isinstance(each, str) else "")
def test_it_is_the_batch_formula(name: str, oracle: Any, options: dict[str, Any]) -> None:
    method = taught(name, np.arange(N), [7, 1, 30, 12], **options)
    found = scores(method)
    np.testing.assert_allclose(found[:, :-1], oracle(method), rtol=1e-8, atol=1e-9)
    assert (found[:, -1] == -1e4).all(), "a class without a sample"


@pytest.mark.parametrize(("name", "oracle", "options"), CASES, ids=lambda each: each if isinstance(each, str) else "")
def test_order_and_batches_make_no_difference(name: str, oracle: Any, options: dict[str, Any]) -> None:
    one = taught(name, np.arange(N), [50], **options)
    other = taught(name, np.random.default_rng(1).permutation(N), [1] * 50, **options)
    np.testing.assert_allclose(scores(one), scores(other), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["ncm", "slda", "ranpac"])
def test_the_network_stays_as_it_was(name: str) -> None:
    method = testing.trained(name, "seq-digits")
    fresh = testing.setting(testing.scenario("seq-digits")).build_net("net")
    assert all(map(torch.equal, method.net.state_dict().values(), fresh.state_dict().values()))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "least"), [("ncm", 75), ("slda", 90), ("ranpac", 90)])
def test_digits_are_told_apart_class_by_class(
    name: str, least: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from synergy import build
    from synergy.runs.session import run

    record = run(build("seq-digits", name, {"net": "linear", "n_epochs": 1, "output_dir": "runs"}))
    assert record.answer().protocol == "class-IL"
    assert record.answer().metrics["final_average"] > least
