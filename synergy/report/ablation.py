"""Ablation: what each change of a method costs, over the seeds that its variants share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synergy.disk import files
from synergy.errors import UsageError
from synergy.report.groups import Choice, Entry, Group
from synergy.report.statistics import Interval, difference
from synergy.report.tables import Table
from synergy.runs.findings import place
from synergy.runs.records import setup


@dataclass(frozen=True)
class Change:
    """A variant beside the reference.

    Attributes:
        variant: its name: the method, and the options in which variants differ.
        value: the chosen number, mean and interval over its seeds.
        difference: variant minus reference, paired over shared seeds, with its 95 % interval by Student's t; with fewer
            than two on a side the interval is not known.
        seeds: how many both have.

    Examples:
        >>> Change("synergy penalty_weight=0", Interval(90.0), Interval(-1.5, -2.0, -1.0), 3).difference.holds(0)
        False
    """

    variant: str
    value: Interval
    difference: Interval
    seeds: int


@dataclass(frozen=True)
class Ablation:
    """The variants of one method on one stream, under one protocol, with one memory.

    Attributes:
        comparison: stream, protocol and memory.
        reference: name of the variant that differs from the others in the fewest options.
        changes: the others, the most costly first.

    Examples:
        >>> Ablation("seq-digits, class-IL", "synergy", "synergy penalty_weight=1", Interval(91.0), ()).changes
        ()
    """

    comparison: str
    method: str
    reference: str
    value: Interval
    changes: tuple[Change, ...]


def write(found: Sequence[Ablation], choice: Choice, folder: Path) -> Path:
    """Write ablations as `analyses/ablation.json` into the folder of the runs, atomically.

    Raises:
        UsageError: the folder cannot be written.
    """
    path = place(folder, "ablation")
    content = {"metric": choice.metric, "unit": "percent", "ablations": [dataclasses.asdict(each) for each in found]}
    try:
        path.parent.mkdir(exist_ok=True)
        files.write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror}; allow it, or make room there") from error
    return path


def ablations(content: Table) -> list[Ablation]:
    """An ablation for each method that has variants in a column of a table.

    Variants are groups of one method that differ in its options. Changed one at a time, each variant differs in one
    option from the whole method and in two from the others: so the whole method is found.
    """
    found = []
    for column in content.columns:
        by_method: dict[str, list[Entry]] = {}
        for entry in column.entries.values():
            by_method.setdefault(entry.group.example.name_of("method"), []).append(entry)
        for method, entries in by_method.items():
            if len(entries) > 1:
                found.append(_ablation(column.title, method, entries, content.choice))
    return found


def _ablation(comparison: str, method: str, entries: Sequence[Entry], choice: Choice) -> Ablation:
    reference = _reference(entries)
    sign = -1 if choice.lower_is_better else 1
    of_reference = reference.group.values(choice)
    changes = []
    for entry in entries:
        if entry is not reference:
            values = entry.group.values(choice)
            gap = difference(values, of_reference)
            changes.append(Change(entry.group.method, entry.shown, gap, len(values.keys() & of_reference.keys())))
    changes.sort(key=lambda change: sign * change.difference.value)
    return Ablation(comparison, method, reference.group.method, reference.shown, tuple(changes))


def _reference(entries: Sequence[Entry]) -> Entry:
    """The variant with the fewest differences to all others; of several the one that was run first."""
    options = [_options(entry.group) for entry in entries]
    totals = [sum(len(one.items() ^ other.items()) for other in options) for one in options]
    began = [min(record.measured.started_at for record in entry.group.runs.values()) for entry in entries]
    return entries[min(range(len(entries)), key=lambda i: (totals[i], began[i]))]


def _options(group: Group) -> dict[str, str]:
    """Every option of a setup as text, by its group and name."""
    tables = setup(group.example).items()
    return {f"{table}.{name}": json.dumps(value) for table, options in tables for name, value in options.items()}
