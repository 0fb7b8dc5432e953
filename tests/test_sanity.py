"""Every method that replays learns what fine-tuning forgets, and none knows more than joint training.

The small streams, and the options, of `benchmarks/sanity.py`, which prints the table of docs/results.md; one seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from benchmarks.sanity import NOISE, final
from synergy.methods import METHODS, method_class

REPLAY = [name for name in METHODS if "buffer_size" in method_class(name).Config.names()]
QUICK = ("er", "synergy")
"""What `make test` trains, too."""
CLEAR: Mapping[str, float] = {"seq-digits": 40.0, "rot-mnist": 10.0}
"""Percentage points above fine-tuning. The least found, over three seeds, were 55 on the one and 13 on the other."""
ONLY_FORBIDS = ("agem", "agem_r")
"""Their memory forbids steps that raise its loss, and is never learned from: near fine-tuning on new classes."""
SHORT: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("seq-digits", "esmer"): {"ema_model_alpha": 0.95},
    ("rot-mnist", "esmer"): {"ema_model_alpha": 0.99},
    ("rot-mnist", "clser"): {"stable_model_alpha": 0.99},
}
"""Averages that answer, with a decay for streams of a thousand steps; the values in use are for longer ones."""
NOT_ON_ROTATED: Mapping[str, str] = {
    "gdumb": "all classes come with the first angle, so its memory never sees another (docs/methods/gdumb.md)",
    "icarl": "a class has one mean, whatever its angle: a method of class-incremental streams",
    "gss": "slow",
    "mer": "slow",
}


@cache
def accuracy(scenario: str, method: str) -> float:
    """Final average in percent."""
    return final(scenario, method, 0, **SHORT.get((scenario, method), {}))


def floor(scenario: str, method: str) -> float:
    """What the method has to reach."""
    fine_tuning = accuracy(scenario, "sgd")
    return fine_tuning - NOISE if method in ONLY_FORBIDS else fine_tuning + CLEAR[scenario]


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in REPLAY]
)
def test_split_digits(method: str) -> None:
    """No upper bound: at this budget joint training sees an image five times, a method that replays far oftener."""
    assert accuracy("seq-digits", method) > floor("seq-digits", method)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("method", [name for name in REPLAY if name not in (*ONLY_FORBIDS, *NOT_ON_ROTATED)])
def test_small_rotated_mnist(method: str) -> None:
    assert floor("rot-mnist", method) < accuracy("rot-mnist", method) <= accuracy("rot-mnist", "joint") + NOISE
