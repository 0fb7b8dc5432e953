"""What an analysis found out about a run: numbers, charts and grids, in a file beside the record.

A report draws any finding without knowing its analysis. The files are strict JSON in the folder of the run, below
`analyses/`. Fields that may be None hold null for a number that is not finite.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synergy.disk import files, strict_json
from synergy.errors import UsageError
from synergy.runs.records import Record

FORMAT = 1
FOLDER_NAME = "analyses"


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        predictor: whose answers it is about.
        x, y: its points, `[n]` each; None where there is no value.

    Examples:
        >>> Line("working", (1.0, 2.0), (90.0, None)).y
        (90.0, None)
    """

    predictor: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines with one pair of axes.

    Attributes:
        lines: one or more.
        reference: what the lines are to be compared with, such as a perfect result; None if there is nothing.
        reference_label: what it is.

    Examples:
        >>> line = Line("working", (1.0, 2.0), (90.0, 80.0))
        >>> Chart("kept", "task", "accuracy, %", (line,)).reference is None
        True
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    reference: Line | None = None
    reference_label: str = ""


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table of percentages, drawn as shades.

    Attributes:
        predictor: whose answers it is about.
        rows, columns: their names.
        values: percent, `[rows][columns]`; None where there is no value.

    Examples:
        >>> Grid("confusion", "working", "class", "answer", ("0", "1"), ("0", "1"), ((90.0, 10.0), (0.0, 100.0))).rows
        ('0', '1')
    """

    title: str
    predictor: str
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that sums up an analysis; its unit is in its title.

    Attributes:
        predictor: whose answers it is about.

    Examples:
        >>> Number("calibration error, %", "working", 1.5).value
        1.5
    """

    title: str
    predictor: str
    value: float


@dataclasses.dataclass(frozen=True)
class Description:
    """What an analysis shows.

    Examples:
        >>> Description(numbers=(Number("calibration error, %", "working", 1.5),)).charts
        ()
    """

    numbers: tuple[Number, ...] = ()
    charts: tuple[Chart, ...] = ()
    grids: tuple[Grid, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome of an analysis of a run.

    Attributes:
        analysis: its name.
        run_id, started_at: of the record it belongs to.
        protocol: under which answers were judged.
        options: of the analysis.
        device: where it was computed.
        shown: for tables and figures.
        result: all that was computed, as the analysis defines it.

    Examples:
        >>> Finding(FORMAT, "recency", "a", "2026-01-01", "class-IL", {}, "cpu", Description(), {}).analysis
        'recency'
    """

    format: int
    analysis: str
    run_id: str
    started_at: str
    protocol: str
    options: Mapping[str, Any]
    device: str
    shown: Description
    result: Mapping[str, Any]


def place(folder: Path, analysis: str) -> Path:
    """The file of an analysis of the run in `folder`."""
    return folder / FOLDER_NAME / f"{analysis}.json"


def write(finding: Finding, folder: Path) -> Path:
    """Write a finding into the folder of its run, atomically.

    Raises:
        UsageError: the folder cannot be written. A finding that was there before stays.
        ValueError: a number that must be finite is not.
    """
    path = place(folder, finding.analysis)
    text = json.dumps(dataclasses.asdict(finding), indent=1, allow_nan=False)
    try:
        path.parent.mkdir(exist_ok=True)
        files.write_atomically(path, text + "\n")
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror}; allow it, or make room there") from error
    return path


def read(path: Path) -> Finding:
    """Read a finding.

    Raises:
        UsageError: the file cannot be read, is damaged, or a newer release wrote it.
    """
    try:
        content = strict_json.parse(path.read_bytes())
        if isinstance(content, dict) and content.get("format") != FORMAT:
            raise UsageError(f"format: given {content.get('format')!r}; allowed: {FORMAT}; run the analysis again")
        found: Finding = strict_json.decode(Finding, content, "")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return found


def of_run(record: Record, folder: Path) -> tuple[list[Finding], list[str]]:
    """The findings about a run, by name, and for each file that cannot be used why.

    A finding about an earlier run in the same folder is left out without a word.
    """
    found, damaged = [], []
    for path in sorted((folder / FOLDER_NAME).glob("*.json")):
        try:
            finding = read(path)
        except UsageError as error:
            damaged.append(str(error))
            continue
        if (finding.run_id, finding.started_at) == (record.run_id, record.measured.started_at):
            found.append(finding)
    return found, damaged
