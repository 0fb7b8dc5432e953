"""Runs somebody's record again, and says by how much the two differ."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch

from synergy.disk import files
from synergy.runs.config import CONFIG_NAME
from synergy.runs.config_file import in_present_form
from synergy.runs.folder import writing_into
from synergy.runs.listeners import Listener
from synergy.runs.records import Record
from synergy.runs.resume import resume


@dataclass(frozen=True)
class Comparison:
    """A record and the one of the same run made again.

    Attributes:
        identical: whether all results are the same, bit by bit.
        largest: greatest difference of an accuracy, in percentage points; None if the two have other tasks.
        changed: what else differs, such as a version: name -> (then, now).

    Examples:
        >>> Comparison(True, 0.0, {}).identical
        True
    """

    identical: bool
    largest: float | None
    changed: Mapping[str, tuple[str, str]]


def again(record: Record, folder: Path, listener: Listener | None = None) -> Record:
    """Make the run of a record again, from the beginning, in a new folder with as many threads as it had.

    Args:
        record: of a finished run.
        folder: of the new run; it may be missing.

    Raises:
        UsageError: the configuration is not one of this release, its data are missing, or the folder cannot be written.
    """
    content = in_present_form(record.config)
    output = {"checkpoint_every": None, "csv_log": False, "tensorboard": False}
    tables: dict[str, Any] = {name: dict(table) for name, table in content.items() if name != "output"}
    tables["training"].pop("data_dir", None)
    tables["output"] = {name: value for name, value in output.items() if value is not None}
    with writing_into(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files.write_atomically(folder / CONFIG_NAME, tomli_w.dumps(tables))
    with _threads(record.device):
        return resume(folder, listener)[0]


def compared(then: Record, now: Record) -> Comparison:
    """What two records of one run have in common."""
    changed = {name: (was, now.versions.get(name, "none")) for name, was in then.versions.items()}
    changed |= {"device": (then.device, now.device)}
    changed |= {f"data, {name}": (str(was), str(now.source.get(name))) for name, was in then.source.items()}
    differing = {name: pair for name, pair in changed.items() if pair[0] != pair[1] and name != "data, origin"}
    return Comparison(_results(then) == _results(now), _largest(then, now), differing)


def _results(record: Record) -> str:
    """All that a run computed, as text that is equal for equal bits."""
    outcome = record.outcome()
    names = ("accuracies", "steps", "n_parameters", "final_losses", "task_classes")
    return json.dumps([outcome[name] for name in names], sort_keys=True)


def _largest(then: Record, now: Record) -> float | None:
    """The greatest difference of two accuracies in the same place."""
    one, other = (
        {(each.predictor, each.protocol): [value for row in each.matrix for value in row] for each in record.accuracies}
        for record in (then, now)
    )
    if {key: len(values) for key, values in one.items()} != {key: len(values) for key, values in other.items()}:
        return None
    pairs = [pair for key in one for pair in zip(one[key], other[key], strict=True)]
    gaps = [math.inf if a is None or b is None else abs(a - b) for a, b in pairs if a is not None or b is not None]
    largest = max(gaps, default=0.0)
    return largest if math.isfinite(largest) else None


@contextmanager
def _threads(device: str) -> Iterator[None]:
    """Within, torch computes with as many threads as the device of a record had: another number has other last bits."""
    found = re.search(r"(\d+) threads?\)$", device)
    before = torch.get_num_threads()
    restore: Callable[[int], None] = torch.set_num_threads
    restore(before if found is None else int(found[1]))
    try:
        yield
    finally:
        restore(before)
