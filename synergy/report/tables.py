"""Groups of runs as tables: methods are the rows, streams and buffer sizes the columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from synergy.report.groups import Choice, Entry, Group, by_stream, compared
from synergy.report.statistics import Interval

NOTE = "mean and 95 % interval over seeds (Student's t)"


@dataclass(frozen=True)
class Column:
    """A stream under one protocol, with one buffer size.

    Attributes:
        entries: of its groups, by method.
    """

    stream: str
    protocol: str
    buffer_size: int | None
    entries: Mapping[str, Entry]

    @property
    def title(self) -> str:
        """In one line."""
        size = "" if self.buffer_size is None else f", buffer {self.buffer_size}"
        return f"{self.stream}, {self.protocol}{size}"


@dataclass(frozen=True)
class Table:
    """A choice of numbers for all groups.

    Attributes:
        methods: of the rows, the best of the first column first.
        columns: in the order of the runs, buffer sizes from small to large.

    Examples:
        >>> Table(Choice(), (), ()).rows()
        []
    """

    choice: Choice
    methods: tuple[str, ...]
    columns: tuple[Column, ...]

    def rows(self) -> list[tuple[str, list[Entry | None]]]:
        """Each method, and its entry in each column."""
        return [(method, [column.entries.get(method) for column in self.columns]) for method in self.methods]

    def by_stream(self, methods: Sequence[str]) -> dict[str, list[float]]:
        """Of each stream the numbers of these methods, which are in all columns: a stream with two buffer sizes is one.

        Columns of one stream are no independent data sets, so that tests over data sets take their mean.
        """
        found: dict[str, list[list[float]]] = {}
        for column in self.columns:
            found.setdefault(column.stream, []).append([column.entries[method].shown.value for method in methods])
        return {stream: [fmean(values) for values in zip(*rows, strict=True)] for stream, rows in found.items()}


def table(found: Sequence[Group], choice: Choice) -> Table:
    """The table of these groups. A method without memory is compared in every column of its stream."""
    columns = []
    for stream, members in by_stream(found).items():
        sizes = sorted({group.buffer_size for group in members if group.buffer_size is not None})
        for size in sizes or (None,):
            of_size = [group for group in members if group.buffer_size in (None, size)]
            for protocol, entries in compared(of_size, choice).items():
                columns.append(Column(stream, protocol, size, {entry.group.method: entry for entry in entries}))
    methods = dict.fromkeys(method for column in columns for method in column.entries)
    return Table(choice, tuple(methods), tuple(columns))


def number(interval: Interval, digits: int = 2) -> str:
    """A mean and half of its interval."""
    half = "" if interval.half is None else f" ± {interval.half:.{digits}f}"
    return f"{interval.value:.{digits}f}{half}"


def markdown(content: Table) -> str:
    """As Markdown. What is not clearly worse than the best is in italics."""
    rows = [["method", *(column.title for column in content.columns)], ["---"] + ["---:"] * len(content.columns)]
    for method, entries in content.rows():
        rows.append([_escaped(method, "|"), *(_cell(entry, "**{}**", "*{}*") for entry in entries)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    marks = "**Best** in bold; *not clearly worse* than the best in italics"
    return "\n".join([*lines, "", f"{_caption(content)}. {marks}: the 95 % interval of the difference holds 0."])


def latex(content: Table) -> str:
    """As LaTeX, for the package booktabs. What is not clearly worse than the best is underlined."""
    heads: list[list[str]] = [["method"], [""]]
    for column in content.columns:
        heads[0].append(_tex(f"{column.stream} ({column.protocol})"))
        heads[1].append("" if column.buffer_size is None else f"{column.buffer_size}")
    lines = [
        f"% {_caption(content)}. Second line: buffer sizes.",
        "% Best in bold; underlined: not clearly worse than the best, the 95 % interval of the difference holds 0.",
        f"\\begin{{tabular}}{{l{'r' * len(content.columns)}}}",
        "\\toprule",
        *(" & ".join(head) + " \\\\" for head in heads if any(head)),
        "\\midrule",
    ]
    for method, entries in content.rows():
        cells = [_cell(entry, "\\textbf{{{}}}", "\\underline{{{}}}") for entry in entries]
        lines.append(" & ".join([_tex(method), *(cell.replace(" ± ", " $\\pm$ ") for cell in cells)]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def as_csv(content: Table) -> str:
    """As CSV: for each column the mean, half of the interval, the number of seeds, and the mark."""
    parts = ("mean", "half interval", "seeds", "mark")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", *(f"{column.title}: {part}" for column in content.columns for part in parts)])
    for method, entries in content.rows():
        cells = [cell for entry in entries for cell in _parts(entry)]
        writer.writerow([method, *cells])
    return out.getvalue().rstrip("\n")


def as_json(content: Table) -> str:
    """As JSON: what the numbers are, and a list of cells."""
    cells = [
        {
            "method": method,
            "stream": column.stream,
            "buffer_size": entry.group.buffer_size,
            "column_buffer_size": column.buffer_size,
            "protocol": entry.protocol,
            "predictor": entry.predictor,
            "mean": entry.shown.value,
            "low": entry.shown.low,
            "high": entry.shown.high,
            "seeds": sorted(entry.group.values(content.choice)),
            "mark": _mark(entry),
        }
        for method, entries in content.rows()
        for column, entry in zip(content.columns, entries, strict=True)
        if entry is not None
    ]
    facts: dict[str, Any] = {"metric": content.choice.metric, "unit": "percent", "interval": "95 %, Student's t"}
    return json.dumps(facts | {"cells": cells}, indent=1, allow_nan=False)


FORMATS: Mapping[str, Callable[[Table], str]] = {"latex": latex, "markdown": markdown, "csv": as_csv, "json": as_json}
"""How a table is written, by name."""


def _caption(content: Table) -> str:
    return f"{content.choice.title}, percent, {NOTE}"


def _cell(entry: Entry | None, bold: str, close: str) -> str:
    if entry is None:
        return "-"
    form = bold if entry.best else close if entry.close else "{}"
    return form.format(number(entry.shown))


def _mark(entry: Entry) -> str:
    return "best" if entry.best else "not clearly worse" if entry.close else ""


def _parts(entry: Entry | None) -> list[str]:
    if entry is None:
        return ["", "", "", ""]
    half = "" if entry.shown.half is None else repr(entry.shown.half)
    return [repr(entry.shown.value), half, str(len(entry.group.runs)), _mark(entry)]


def _tex(text: str) -> str:
    plain = text.replace("\\", "\\textbackslash ")
    return _escaped(plain, "&%$#_{}").replace("~", "\\textasciitilde ").replace("^", "\\textasciicircum ")


def _escaped(text: str, characters: str) -> str:
    return "".join(f"\\{c}" if c in characters else c for c in text)
