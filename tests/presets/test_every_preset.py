"""Every tuned value in the package: the command that loads it starts and takes twenty steps, on real data."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from synergy import presets
from synergy.methods import method_class
from synergy.presets import Preset
from synergy.runs.config import PresetChoice, TrainingConfig, build
from synergy.runs.prepare import prepare
from synergy.scenarios import scenario_class
from synergy.types import Batch

STEPS = 20


def name_of(preset: Preset) -> str:
    return "-".join(str(part) for part in (preset.scenario, preset.variant, preset.method, preset.buffer_size) if part)


def options(preset: Preset) -> dict[str, Any]:
    """As published; where convolutions are slow, a narrow network and small batches."""
    given: dict[str, Any] = {}
    if "width" in scenario_class(preset.scenario).Config.names():
        given |= {"width": 4, "batch_size": 8, "minibatch_size": 8}
        given = {name: value for name, value in given.items() if name in known(preset)}
    given |= {"weight_dist": preset.variant} if preset.variant is not None else {}
    return given | ({"buffer_size": preset.buffer_size} if preset.buffer_size is not None else {})


def known(preset: Preset) -> frozenset[str]:
    """The options of a preset's scenario, method and training."""
    groups = (scenario_class(preset.scenario).Config, method_class(preset.method).Config, TrainingConfig)
    return frozenset().union(*(group.names() for group in groups))


@pytest.mark.real_data
@pytest.mark.parametrize("preset", presets.available(), ids=name_of)
def test_starts_and_takes_twenty_steps(preset: Preset) -> None:
    config = build(preset.scenario, preset.method, options(preset), PresetChoice(wanted=True))
    prepared = prepare(config)
    task, augment, rng = prepared.scenario.task(0), prepared.scenario.view, np.random.default_rng(0)
    prepared.method.begin_task(task)
    for raw, labels in itertools.islice(task.batches(0), STEPS):
        losses = prepared.method.observe(Batch(raw, augment(raw, rng), labels))
        assert all(math.isfinite(value) for value in losses.values())
    assert len(task.order(0)) >= STEPS
