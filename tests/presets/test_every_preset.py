"""Every tuned value is accepted by its scenario and method; one of each scenario and method takes twenty steps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from synergy import presets
from synergy.methods import method_class
from synergy.presets import Preset
from synergy.runs.config import PresetChoice, build
from synergy.runs.prepare import prepare
from synergy.scenarios import scenario_class
from synergy.types import Batch

STEPS = 20


def name_of(preset: Preset) -> str:
    return "-".join(str(part) for part in (preset.scenario, preset.variant, preset.method, preset.buffer_size) if part)


def given(preset: Preset) -> dict[str, Any]:
    """The options that choose this preset."""
    options: dict[str, Any] = {} if preset.buffer_size is None else {"buffer_size": preset.buffer_size}
    variant_option = scenario_class(preset.scenario).variant_option
    return options if variant_option is None else options | {variant_option: preset.variant}


@pytest.mark.parametrize("preset", presets.available(), ids=name_of)
def test_is_accepted(preset: Preset) -> None:
    config = build(preset.scenario, preset.method, given(preset), PresetChoice(wanted=True))
    sections = config.as_mapping()
    taken = {name: value for section in ("scenario", "method", "training") for name, value in sections[section].items()}
    assert {name: taken[name] for name in preset.values} == preset.values
    assert {origin for name, origin in config.provenance.items() if name in preset.values} == {
        f"preset: {preset.source}"
    }


def one_for_each() -> list[Any]:
    """Of every scenario and method the preset of the smallest memory, which is full before the last step."""
    chosen = []
    for _, of_both in itertools.groupby(presets.available(), lambda preset: (preset.scenario, preset.method)):
        preset = min(of_both, key=lambda each: each.buffer_size or 0)
        bundled = scenario_class(preset.scenario).dataset == "digits"
        marks = () if bundled else (pytest.mark.real_data, pytest.mark.slow)
        chosen.append(pytest.param(preset, id=name_of(preset), marks=marks))
    return chosen


def small(preset: Preset) -> dict[str, Any]:
    """A narrow network and small batches where convolutions are slow."""
    if scenario_class(preset.scenario).default_net != "resnet18":
        return {}
    replays = "minibatch_size" in method_class(preset.method).Config.names()
    return {"width": 4, "batch_size": 8} | ({"minibatch_size": 8} if replays else {})


@pytest.mark.parametrize("preset", one_for_each())
def test_starts_and_takes_twenty_steps(preset: Preset) -> None:
    config = build(preset.scenario, preset.method, given(preset) | small(preset), PresetChoice(wanted=True))
    prepared = prepare(config)
    task, view, rng = prepared.scenario.task(0), prepared.scenario.view, np.random.default_rng(0)
    prepared.method.begin_task(task)
    for raw, labels in itertools.islice(task.batches(0), STEPS):
        losses = prepared.method.observe(Batch(raw, view(raw, view.decide(len(raw), rng)), labels)).losses
        assert all(math.isfinite(value) for value in losses.values())
    assert len(task.order(0)) >= STEPS
