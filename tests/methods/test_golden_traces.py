"""Every method does, step by step, what it did when its trace was written (`python -m tests.methods.golden NAME`)."""

from __future__ import annotations

import json

import pytest

from synergy.methods import METHODS
from tests.methods import golden

TRACED = [name for name in METHODS if golden.path(name).exists()]


@pytest.mark.parametrize("name", TRACED)
def test_trace_of_a_method(name: str) -> None:
    kept, now = json.loads(golden.path(name).read_text()), golden.record(name)
    assert now["losses"] == pytest.approx(kept["losses"], rel=1e-6)
    assert now["state"].keys() == kept["state"].keys()
    for part, sums in kept["state"].items():
        assert now["state"][part] == pytest.approx(sums, rel=1e-6), part


def test_every_trace_is_of_a_method() -> None:
    files = golden.GOLDEN.glob("*_trace.json")
    assert {file.name.removesuffix("_trace.json") for file in files} <= set(METHODS)
