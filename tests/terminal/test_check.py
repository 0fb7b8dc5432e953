"""`synergy check` on classes of a user's file: what holds, what breaks, and wrong names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import call
from tests.terminal.test_own_classes import OWN, refused

BROKEN = """
import torch
from torch import nn
from synergy.methods.er import ER
from synergy.memory.ring import Ring

class Doubtful(ER):
    def compute(self, batch, now):
        batch.inputs.add_(1)
        return super().compute(batch, now)

class Pair(nn.Sequential):
    def __init__(self, shape, n_classes):
        super().__init__(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], n_classes))

    def forward(self, inputs):
        return super().forward(inputs), 1

class Plain:
    pass
"""


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.py").write_text(OWN)
    Path("broken.py").write_text(BROKEN)


@pytest.mark.parametrize(
    ("arguments", "what", "clause"),
    [
        (["my.py:Smoothed", "stride=2"], "method", "decides ahead"),
        (["my.py:Bars", "n_tasks=2"], "scenario", "other seed"),
        (["my.py:Conv", "channels=2"], "network", "same weights"),
        (["my.py:Thinned", "stride=2"], "memory", "draws"),
        (["mlp", "--shape", "1,4,4"], "network", "alone"),
    ],
)
def test_what_holds_is_shown_with_its_reason(arguments: list[str], what: str, clause: str) -> None:
    outcome = call("check", *arguments)
    assert outcome.code == 0, outcome.out
    assert outcome.out.startswith(f"{arguments[0]} is a {what}\n")
    assert f"\n  holds   {clause}: " in outcome.out and "BREAKS" not in outcome.out
    number = outcome.out.count("  holds ")
    assert outcome.out.endswith(f"{number} of {number} checks hold\n")


@pytest.mark.parametrize(
    ("name", "clause", "finding"),
    [
        ("broken.py:Doubtful", "batch", "a step changed its batch"),
        ("broken.py:Pair", "outputs", "in evaluation mode it gives a tuple, expected a tensor"),
    ],
)
def test_what_breaks_is_shown_and_the_rest_goes_on(name: str, clause: str, finding: str) -> None:
    outcome = call("check", name)
    assert outcome.code == 1
    assert f"\n  BREAKS  {clause}: " in outcome.out and f"\n          {finding}" in outcome.out
    assert "  holds   same seed: " in outcome.out or "  holds   same weights: " in outcome.out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["my.py:Smoothy"], "did you mean 'Smoothed'?"),
        (["mpl"], "unknown name 'mpl'; did you mean 'mlp'?"),
        (["broken.py:Plain"], "none of the classes with a contract"),
        (["my.py:Thinned"], "needs stride; give it as stride=VALUE"),
        (["my.py:Smoothed", "strude=2"], "did you mean 'stride'?"),
        (["my.py:Smoothed", "stride"], "allowed: OPTION=VALUE"),
        (["mlp", "--shape", "a,b"], "--shape: given 'a,b'"),
    ],
)
def test_a_wrong_name_or_option_is_one_line(arguments: list[str], part: str) -> None:
    refused(call("check", *arguments), part)
