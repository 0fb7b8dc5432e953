"""`synergy analyse ablation`: what each change of a method costs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from synergy.errors import UsageError
from synergy.terminal.output import say

if TYPE_CHECKING:  # help is printed without torch
    import argparse

    from synergy.report.ablation import Ablation
    from synergy.report.groups import Choice


def ablation(parsed: argparse.Namespace) -> int:
    """`synergy analyse ablation`: it needs the records of many runs, and no checkpoint."""
    from synergy.report.ablation import ablations, write
    from synergy.report.gather import gather
    from synergy.report.groups import Choice, check_choice, groups
    from synergy.report.tables import table
    from synergy.runs.records import RECORD_NAME

    gathered = gather([Path(run) for run in parsed.runs])
    if warning := gathered.warning():
        warnings.warn(warning, stacklevel=2)
    choice = Choice(parsed.metric, parsed.predictor, parsed.protocol)
    check_choice(choice, gathered.records)
    found = ablations(table(groups(gathered.records), choice))
    if not found:
        given = ", ".join(parsed.runs)
        raise UsageError(f"{given}: no method has variants; allowed: runs of one method that differ in its options")
    # An ablation is about many runs, so its place is a folder of runs.
    folders = [path for path in map(Path, parsed.runs) if path.is_dir() and not (path / RECORD_NAME).exists()]
    left = [f"  in {write(found, choice, folders[0])}"] if folders else []
    say("\n\n".join([*(_lines(of, choice) for of in found), *left]))
    return 0


def _lines(of: Ablation, choice: Choice) -> str:
    from synergy.report.tables import number
    from synergy.terminal.screen import table

    rows = [["variant", choice.title, "difference", "95 % interval", "seeds"]]
    rows.append([f"{of.reference} (reference)", number(of.value), "-", "-", "-"])
    for change in of.changes:
        low, high = change.difference.low, change.difference.high
        ends = "-" if low is None or high is None else f"{low:.2f} to {high:.2f}"
        gap = f"{change.difference.value:+.2f}"
        rows.append([change.variant, number(change.value), gap, ends, str(change.seeds)])
    return f"{of.comparison}\n{table(rows)}"
