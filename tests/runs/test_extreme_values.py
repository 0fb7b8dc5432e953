"""Options at the ends of their range: a run finishes, fails with a record, or is refused in one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from synergy.data import sources
from synergy.errors import TrainingError, UsageError
from synergy.methods import METHODS, method_class
from synergy.nets.mlp import MLPConfig
from synergy.options import LARGEST_FLOAT, Options
from synergy.runs import records
from synergy.runs.config import build
from synergy.runs.groups import OutputConfig, TrainingConfig
from synergy.runs.prepare import prepare
from synergy.runs.session import execute
from synergy.scenarios import scenario_class
from synergy.scenarios.rotated import RotatedConfig
from synergy.scenarios.split import SplitConfig
from tests.commands import BRIEF, run

EXTREMES: dict[type, tuple[float, ...]] = {
    float: (1e39, -1e39, LARGEST_FLOAT, 1e-46),
    int: (2**63 - 1, 2**63, 0),
}
AS_LONG_AS_ASKED = ("n_epochs", "fitting_epochs", "steps_on_anchors", "finetuning_epochs")
"""Options that count passes: a run with 10^18 of them is right, and does not end."""
BUDGET = {"max_tasks": 1, "max_steps_per_task": 3}
QUICK = {"gdumb": {"fitting_epochs": 1}, "hal": {"steps_on_anchors": 1}}
ALWAYS = ("er", "si", "gss", "synergy")
"""Methods of every kind of rule; the others are tried where slow tests are."""


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits are read once."""
    monkeypatch.setattr(sources, "load", cache(sources.load))


def trials(config: type[Options]) -> Iterator[tuple[str, float]]:
    """Every option of a class at every extreme value."""
    for spec in config.specs():
        if not (spec.limits.choices or spec.many or spec.name in {*AS_LONG_AS_ASKED, *BUDGET}):
            yield from ((spec.name, value) for value in EXTREMES.get(spec.kind, ()))


def check(folder: Path, scenario: str, method: str, name: str, value: float) -> str:
    """Run with one extreme value. Returns how it ended; raises all that a user should not see."""
    given: dict[str, Any] = {**BUDGET, **QUICK.get(method, {}), "output_dir": str(folder), name: value}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            prepared = prepare(build(scenario, method, given))
        except (UsageError, TrainingError) as refusal:
            assert "\n" not in str(refusal)
            assert not folder.exists()
            return "refused"
        record, place = execute(prepared)
    assert records.read(place) == record
    assert record.status == "finished" or (record.error is not None and "\n" not in record.error)
    return record.status


def scenario_for(method: str) -> str:
    usual = "seq-digits"
    return usual if scenario_class(usual).protocols[0] in method_class(method).protocols else "rot-digits"


@pytest.mark.parametrize(
    "method", [pytest.param(each, marks=() if each in ALWAYS else pytest.mark.slow) for each in METHODS]
)
def test_every_option_of_a_method(tmp_path: Path, method: str) -> None:
    scenario = scenario_for(method)
    ends = {
        (name, value): check(tmp_path / f"{name} {value}", scenario, method, name, value)
        for name, value in trials(method_class(method).Config)
    }
    assert ends["lr", 1e39] == "refused"
    assert all(end == "refused" for (_, value), end in ends.items() if value in (-1e39, 1e39, 2**63))


@pytest.mark.parametrize("config", [TrainingConfig, OutputConfig, RotatedConfig, SplitConfig, MLPConfig])
def test_every_option_of_a_run(tmp_path: Path, config: type[Options]) -> None:
    scenario = "seq-digits" if config is SplitConfig else "rot-digits"
    for name, value in trials(config):
        check(tmp_path / f"{name} {value}", scenario, "er", name, value)


def test_a_number_that_overflows_in_a_step_is_a_failed_run(tmp_path: Path) -> None:
    outcome = run(tmp_path, "rot-digits", "si", *BRIEF, "--c", "3.4e38")
    assert outcome.code == 1
    assert outcome.err.startswith("synergy: error: run failed: training diverged: ") and outcome.err.count("\n") == 1
    (path,) = tmp_path.glob("*/record.json")
    assert records.read(path).status == "failed"


def test_a_number_beyond_float32_is_refused(tmp_path: Path) -> None:
    outcome = run(tmp_path / "runs", "rot-digits", "sgd", *BRIEF, "--lr", "1e39")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "synergy: error: lr: given 1e+39; allowed: a number of float32, up to 3.4e+38\n"
    assert not (tmp_path / "runs").exists()
