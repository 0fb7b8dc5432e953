"""The name of a run's folder: what the run is, and what differs from the usual values."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from synergy.registry import label
from synergy.runs.groups import GROUPS, LONGEST_RUN_ID

if TYPE_CHECKING:
    from synergy.runs.config import RunConfig

LONGEST_VALUE = 40
"""Characters of a value."""
LONGEST_NAME = LONGEST_RUN_ID - 40
"""Bytes. A number may come at its end."""
NAMES = ("dataset", "model", "net", "optimizer", "schedule")
"""Options whose value is the name of a class or a function."""
BARE = ("dataset", "model", "net", "variant")
"""Options whose value stands in the name alone."""
ELSEWHERE = frozenset(
    ("buffer_size", "seed", "net", "data_dir", "device", "memory_on", "eager", "fisher_memory_mb", "memory_format")
)
"""Options with a place of their own in the name, and those that say where and how to compute."""


def name_of(config: RunConfig) -> str:
    """The folder's name of a single run: scenario, method, memory, seed, and the flags with another value than usual.

    Examples:
        >>> from synergy.runs.config import build
        >>> name_of(build("rot-digits", "er", {"lr": 0.05, "max_tasks": 2, "device": "cpu"}))
        'rot-digits-er-buffer500-lr0.05-max_tasks2-seed0'
    """
    size = config.method.as_mapping().get("buffer_size")
    differs: dict[str, Any] = {"dataset": config.scenario_name, "model": config.method_name}
    if config.provenance.get("net") == "flag" and config.net_name != config.scenario_class().default_net:
        differs["net"] = config.net_name
    differs |= {} if size is None else {"buffer_size": size}
    return run_name(differs | _changed(config) | {"seed": config.training.seed})


def _changed(config: RunConfig) -> dict[str, Any]:
    """The options that a flag gave another value than the usual one."""
    scenario = config.scenario_class()
    usual = {"n_epochs": scenario.default_epochs, "batch_size": scenario.default_batch_size}
    return {
        spec.name: vars(options)[spec.name]
        for options in (vars(config)[group.name] for group in GROUPS if group.name != "output")
        for spec in options.specs()
        if config.provenance.get(spec.name) == "flag" and spec.name not in ELSEWHERE
        if vars(options)[spec.name] != usual.get(spec.name, spec.default)
    }


def run_name(differs: Mapping[str, Any]) -> str:
    """A folder's name that says what differs; the same for the same values, on every file system.

    Examples:
        >>> run_name({"dataset": "rot-digits", "model": "er", "buffer_size": 200, "lr": 0.1, "seed": 0})
        'rot-digits-er-buffer200-lr0.1-seed0'
        >>> run_name({"dataset": "rot-digits", "model": "er", "validation": True, "schedule": "lab/my.py:fall"})
        'rot-digits-er-validation-schedulefall'
    """
    text = "-".join(_part(name, value) for name, value in differs.items())
    if len(text.encode()) <= LONGEST_NAME:
        return text
    kept = text.encode()[: LONGEST_NAME - 30].decode(errors="ignore")
    last = f"-seed{differs['seed']}" if "seed" in differs else ""
    return f"{kept}-{zlib.crc32(text.encode()):08x}{last}"


def _part(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"no_{name}"
    if name in BARE:
        return _shown(value, name)
    return {"buffer_size": "buffer"}.get(name, name) + _shown(value, name)


def _shown(value: Any, name: str) -> str:
    if isinstance(value, str) and name in NAMES:
        return label(value)
    text = "_".join(map(str, value)) if isinstance(value, tuple) else str(value)
    text = re.sub(r"[^\w.-]+", "_", text)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 9]}_{zlib.crc32(text.encode()):08x}"
