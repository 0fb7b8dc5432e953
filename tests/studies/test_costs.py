"""What a study is said to cost: its start, the steps, evaluations and checkpoints of its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from synergy.runs.config import build
from synergy.runs.folder import new_folder
from synergy.studies.costs import Cost, Estimate, estimated, measured
from synergy.studies.grid import planned
from synergy.studies.request import asked

SLOW = """
import time
from torch import nn

time.sleep(0.2)

class Slow(nn.Module):
    def __init__(self, shape, n_classes):
        super().__init__()
        self.classifier = nn.Linear(64, n_classes)

    def forward(self, inputs):
        time.sleep(0.02 if self.training else 0.1)
        return self.classifier(inputs.flatten(1))
"""
STREAM = {"n_tasks": 2, "max_steps_per_task": 10, "n_epochs": 50}
STEPS = 2 * 10
EVALUATIONS = 3 * 2
"""Before the stream and after both tasks, on two test splits each."""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A network that takes 20 ms a step, 100 ms a test split, and 200 ms to be loaded."""
    monkeypatch.chdir(tmp_path)
    Path("my.py").write_text(SLOW)
    return "my.py:Slow"


def test_steps_and_evaluations_are_counted(slow: str, tmp_path: Path) -> None:
    config = build("rot-digits", "sgd", {**STREAM, "net": slow, "output_dir": str(tmp_path)})
    cost = measured(new_folder(tmp_path, config))
    assert cost.steps == STEPS
    assert cost.seconds >= 0.02 * STEPS + 0.1 * EVALUATIONS


@pytest.mark.slow
def test_the_start_of_a_study_and_of_each_run_is_counted(slow: str) -> None:
    request = asked({"model": "sgd", "dataset": "rot-digits", "net": slow, "seeds": "0-1", **STREAM, "output_dir": "S"})
    before = sorted(Path.cwd().rglob("*"))
    estimate = estimated(planned(request).runs, places=2)
    assert sorted(Path.cwd().rglob("*")) == before, "nothing is left behind"
    assert estimate.start_s > 0
    assert [cost.steps for cost in estimate.runs] == [STEPS, STEPS]
    assert all(cost.seconds >= 0.2 + 0.02 * STEPS + 0.1 * EVALUATIONS for cost in estimate.runs)


def test_a_run_begins_where_a_place_is_free_first() -> None:
    runs = tuple(Cost(1, seconds) for seconds in (4.0, 1.0, 1.0, 3.0))
    assert Estimate(0.5, runs).seconds(places=2) == 0.5 + 5.0
    assert Estimate(0.5, runs).seconds(places=1) == 0.5 + 9.0
    assert Estimate(0.5, ()).seconds(places=2) == 0.5
