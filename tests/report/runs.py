"""Records of runs that never were, for tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from synergy.runs import metrics
from synergy.runs.records import Record
from tests.runs.test_records import RECORD

Matrix = tuple[tuple[float | None, ...], ...]


def made(
    method: str = "er",
    seed: int = 0,
    final: float = 50.0,
    *,
    scenario: str = "seq-digits",
    buffer_size: int | None = 200,
    matrix: Matrix | None = None,
    options: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Record:
    """A record whose answer ends at `final` percent; `options` are further ones of the method."""
    of_method: dict[str, Any] = {"name": method, "lr": 0.1, **(options or {})}
    if buffer_size is not None:
        of_method["buffer_size"] = buffer_size
    config = {
        "scenario": {"name": scenario},
        "method": of_method,
        "net": {"name": "mlp", "hidden": 100},
        "training": {"n_epochs": 1, "batch_size": 10, "seed": seed},
        "output": {"output_dir": "runs"},
    }
    rows: Matrix = matrix if matrix is not None else ((final + 20, None), (final - 10, final + 10))
    answer = replace(
        RECORD.accuracies[0], predictor="working", matrix=rows, metrics=metrics.summary(rows, ()), per_class={}
    )
    name = f"{scenario}-{method}-{buffer_size}-{seed}"
    fields: dict[str, Any] = {
        "run_id": name,
        "config": config,
        "seed": seed,
        "accuracies": (answer, replace(answer, protocol="task-IL")),
        "measured": replace(RECORD.measured, started_at=f"2026-01-01T00:00:{seed:02d}+00:00", wall_s=1.0 + seed),
    }
    return replace(RECORD, **(fields | changes))
