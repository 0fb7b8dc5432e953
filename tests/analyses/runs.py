"""Finished runs of a few steps, with their checkpoints."""

from __future__ import annotations

from pathlib import Path

from synergy.runs.config import build
from synergy.runs.prepare import prepare
from synergy.runs.session import execute


def finished(folder: Path, scenario: str, method: str, **options: object) -> Path:
    """The folder of a run of a few steps."""
    given = {"max_steps_per_task": 30, "checkpoint_every": 1000, "keep": 9, "output_dir": str(folder), **options}
    return execute(prepare(build(scenario, method, given)))[1]
