"""The name of a run's folder says what differs, briefly, and fits on every file system."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.runs.config import PresetChoice, build
from synergy.runs.folder import new_folder
from synergy.runs.groups import LONGEST_RUN_ID
from synergy.runs.naming import LONGEST_NAME, name_of, run_name

BEST = PresetChoice(wanted=True)


@pytest.mark.parametrize(
    ("options", "middle"),
    [
        ({}, "buffer500"),
        ({"lr": 0.1}, "buffer500"),  # the default
        ({"lr": 0.05}, "buffer500-lr0.05"),
        ({"n_epochs": 1, "batch_size": 16}, "buffer500"),  # the scenario's own
        ({"n_epochs": 2}, "buffer500-n_epochs2"),
        ({"n_tasks": 3, "minibatch_size": 8, "max_tasks": 2}, "buffer500-n_tasks3-minibatch_size8-max_tasks2"),
        ({"validation": True}, "buffer500-validation"),
        ({"net": "linear"}, "linear-buffer500"),
        ({"net": "mlp", "hidden": 7}, "buffer500-hidden7"),
        ({"precision": "bf16"}, "buffer500-precisionbf16"),
        ({"device": "cpu", "data_dir": "/there", "output_dir": "S", "keep": 3, "notes": "a/b"}, "buffer500"),
        ({"rotation_angles": (0.0, 90.0), "n_tasks": 2}, "buffer500-n_tasks2-rotation_angles0.0_90.0"),
        ({"optimizer": "lab/my optimizers.py:fast"}, "buffer500-optimizerfast"),
    ],
)
def test_a_run_carries_the_flags_that_differ(options: dict[str, Any], middle: str) -> None:
    assert name_of(build("rot-digits", "er", options)) == f"rot-digits-er-{middle}-seed0"


def test_tuned_values_are_no_difference_but_flags_over_them_are() -> None:
    assert name_of(build("rot-digits", "er", {"buffer_size": 200}, BEST)) == "rot-digits-er-buffer200-seed0"
    over = build("rot-digits", "er", {"buffer_size": 200, "lr": 0.07, "seed": 3}, BEST)
    assert name_of(over) == "rot-digits-er-buffer200-lr0.07-seed3"


def test_the_name_that_was_given_wins(tmp_path: Path) -> None:
    folder = new_folder(tmp_path, build("rot-digits", "er", {"lr": 0.05, "experiment_id": "mine"}))
    assert folder.name == "mine"


def test_long_values_are_cut_and_still_tell_runs_apart() -> None:
    angles = [tuple(float(angle + shift) for angle in range(20)) for shift in (0, 1)]
    first, second = (name_of(build("rot-digits", "er", {"rotation_angles": each})) for each in angles)
    assert first != second and len(first) < 100 and first.endswith("-seed0")


values = st.one_of(st.text(st.characters(codec="utf-8")), st.floats(), st.integers(), st.booleans(), st.none())


@given(st.dictionaries(st.sampled_from(["lr", "variant", "schedule", "notes", "ü" * 30, "a" * 90]), values))
def test_any_values_give_a_name_that_fits(values: dict[str, Any]) -> None:
    name = run_name({"dataset": "rot-digits", "model": "er", **values, "seed": 0})
    assert name == run_name({"dataset": "rot-digits", "model": "er", **values, "seed": 0})
    assert re.fullmatch(r"rot-digits-er[\w.-]*-seed0", name)
    assert len(name.encode()) <= LONGEST_NAME < LONGEST_RUN_ID
