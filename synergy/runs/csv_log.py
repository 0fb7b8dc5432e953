"""The tables of the published research code: one CSV file per protocol, scenario, method and predictor, a row per run.

The first columns are `task1` to `taskN` (average accuracy over the tasks seen, after each task), `forward_transfer`,
`backward_transfer` and `forgetting`, in percent; a value that is not defined is an empty cell. Then comes every
argument of the run under the name of its flag. Class-IL and Task-IL go to different files.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from synergy.disk import files
from synergy.disk.locks import locked
from synergy.errors import UsageError
from synergy.registry import label
from synergy.runs.groups import NAMED
from synergy.runs.metrics import average_after
from synergy.runs.records import Accuracies, Record

TRANSFERS = ("forward_transfer", "backward_transfer", "forgetting")
_FLAGS = {f"{group.name}.name": group.flag for group in NAMED}
_TASK = re.compile(r"task(\d+)")

Row: TypeAlias = dict[str, str]


def check(output_dir: Path, scenario: str, method: str, *, partial: bool) -> None:
    """Check before a run that the tables which will get its rows can be read.

    Raises:
        UsageError: a file in the place of a table is something else.
    """
    for path in sorted(_root(output_dir, partial).glob(f"*/{scenario}/{method}/*.csv")):
        _read(path)


def is_wanted(record: Record) -> bool:
    """Whether the run was asked for rows (`--csv_log`)."""
    output = record.config.get("output")
    return isinstance(output, Mapping) and output.get("csv_log") is True


def write_csv(record: Record, output_dir: Path, published: Iterable[Record] | None = None) -> tuple[Path, ...]:
    """Add a finished run to `<output_dir>/csv/<protocol>/<scenario>/<method>/<predictor>.csv`, one file per accuracies.

    If the columns of a file and of the run differ, the file gets those of both. Each file is replaced in one step.
    The columns do not tell a partial run from a full one: partial runs have their tables below `csv/partial`, and a run
    that did not finish gets no row.

    Args:
        published: given for a run that may have its rows already: all runs that should have rows, with this one. Runs
            of one configuration and seed have equal rows, so a file is complete if it has as many rows equal to this
            run's as there are such runs.

    Returns:
        The files written; none for a run that did not finish.

    Raises:
        UsageError: a file in the place of a table is something else, or the configuration names no scenario or method.
        OSError: a file cannot be written. Its content is as before.
    """
    if record.status != "finished":
        return ()
    folder = Path(label(record.name_of("scenario")), label(record.name_of("method")))
    root = _root(output_dir, record.partial)
    root.mkdir(parents=True, exist_ok=True)
    others = None if published is None else list(published)
    lock = output_dir / "csv" / ".lock"
    lock.touch()
    with locked(lock):
        return tuple(
            _add(record, each, root / each.protocol / folder)
            for each in record.accuracies
            if others is None or not _has_row(record, each, root / each.protocol / folder, others)
        )


def _root(output_dir: Path, partial: bool) -> Path:
    return output_dir / "csv" / "partial" if partial else output_dir / "csv"


def _has_row(record: Record, accuracies: Accuracies, folder: Path, published: Iterable[Record]) -> bool:
    path = folder / f"{accuracies.predictor}.csv"
    if not path.exists():
        return False
    wanted = _meant(_row(record, accuracies))
    key = (accuracies.predictor, accuracies.protocol)
    due = sum(
        (each.predictor, each.protocol) == key and _meant(_row(run, each)) == wanted
        for run in published
        if is_wanted(run) and run.partial == record.partial
        for each in run.accuracies
    )
    return sum(_meant(row) == wanted for row in _read(path)[1]) >= due


def _meant(row: Row) -> dict[str, str]:
    """What a row means, whatever a spreadsheet has done to it: other digits, TRUE for True."""
    return {name: _plain(cell) for name, cell in row.items() if cell}


def _plain(cell: str) -> str:
    try:
        return f"{float(cell):.12g}"
    except ValueError:
        return cell.casefold()


def _add(record: Record, accuracies: Accuracies, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{accuracies.predictor}.csv"
    files.remove_leftovers(path)
    header, rows = _read(path) if path.exists() else ([], [])
    row = _row(record, accuracies)
    files.write_atomically(path, _table(_ordered([*header, *row]), [*rows, row]))
    return path


def _row(record: Record, accuracies: Accuracies) -> Row:
    averages = {f"task{t + 1}": average_after(accuracies.matrix, t) for t in range(len(accuracies.matrix))}
    transfers = {name: accuracies.metrics.get(name) for name in TRANSFERS}
    results = averages | transfers
    return {name: _cell(value) for name, value in (results | _arguments(record.config)).items()}


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options by the last part of their names, or by the whole name if several options share that part."""
    options = dict(_flatten(config))
    short = {path: _FLAGS.get(path, path.rpartition(".")[2]) for path in options}
    uses = Counter(short.values())
    taken = {name for name in uses if uses[name] > 1 or name in TRANSFERS or _TASK.fullmatch(name)}
    return {path if short[path] in taken else short[path]: value for path, value in options.items()}


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(value: Any) -> str:
    """A value as the published code wrote it; a list as JSON."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | tuple) else str(value)


def _ordered(columns: Iterable[str]) -> list[str]:
    """Each column once: tasks by number, transfers, then arguments in the order they came."""
    names = dict.fromkeys(columns)
    tasks = sorted((name for name in names if _TASK.fullmatch(name)), key=lambda name: int(name.removeprefix("task")))
    arguments = [name for name in names if name not in TRANSFERS and not _TASK.fullmatch(name)]
    return [*tasks, *TRANSFERS, *arguments]


def _read(path: Path) -> tuple[list[str], list[Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a mark in front of UTF-8
            header, *rows = [line for line in csv.reader(file, strict=True) if line] or [[]]
        if not set(TRANSFERS) <= set(header) or len(set(header)) != len(header):
            raise ValueError(f"its first line must name {', '.join(TRANSFERS)}, and no column twice")
        for number, row in enumerate(rows, 1):
            if len(row) != len(header):
                raise ValueError(f"row {number} has {len(row)} cells for {len(header)} columns")
        return header, [dict(zip(header, row, strict=True)) for row in rows]
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{path}: not a table of runs: {error}; move it away to start a new one") from error


def _table(header: list[str], rows: list[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
