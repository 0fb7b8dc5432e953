"""`synergy report`: groups of runs as a table, a picture, a page."""

from __future__ import annotations

import gc
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from synergy.errors import counted, unknown
from synergy.terminal import screen
from synergy.terminal.output import say
from synergy.terminal.parser import Parser

if TYPE_CHECKING:  # help is printed without torch
    import argparse

    from synergy.report.gather import Gathered
    from synergy.report.groups import Choice, Entry, Group
    from synergy.runs.records import Record

WIDTH = 80
LONGEST_METHOD = 30
"""Characters of a method's name in a line; longer ones go on in the next line."""

FORMAT_NAMES = ("csv", "json", "latex", "markdown")

DESCRIPTION = """\
Sum up runs: one line for each group of runs that differ in their seed alone, best first, as mean and 95 % interval over
seeds (Student's t). `*` is the best of its stream, `~` is not clearly worse: the 95 % interval of the difference to the
best holds 0. A single run is shown in full.
"""


def report(arguments: list[str]) -> int:
    """`synergy report`: compare runs in a table, a picture and a page."""
    parsed = _parsed(arguments)
    with _without_collector():
        return _report(parsed)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Within, Python collects no cycles. Records have none, and to look for some in all that were read takes long."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _report(parsed: argparse.Namespace) -> int:
    from synergy.report import pictures, tables
    from synergy.report.gather import gather
    from synergy.report.groups import Choice, check_choice, groups

    if parsed.picture is not None:
        pictures.check_name(parsed.picture)
    gathered = gather([Path(run) for run in parsed.runs])
    if warning := gathered.warning():
        warnings.warn(warning, stacklevel=2)
    choice = Choice(parsed.metric, parsed.predictor, parsed.protocol)
    check_choice(choice, gathered.records)
    found = groups(gathered.records)
    if parsed.format is not None:
        text = tables.FORMATS[parsed.format](tables.table(found, choice))
    elif len(gathered.runs) == 1:
        text = _single(gathered)
    else:
        text = "\n\n".join(_lines(gathered, found, choice, by_run=parsed.by_run))
    missing = _missing(gathered, found, choice)
    # The files come first: a table in front of an error would look like the whole answer.
    left = []
    if parsed.picture is not None:
        path = Path(parsed.picture)
        single = len(gathered.runs) == 1
        drawn = (
            pictures.accuracy_over_time(gathered.records, path)
            if single
            else pictures.methods_over_time(found, choice, path)
        )
        left.append(f"picture: {drawn}")
    if parsed.html is not None:
        from synergy.report import page

        left.append(f"page: {page.write(gathered, choice, Path(parsed.html), missing)}")
    say("\n\n".join([text, *left]))
    return 0


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = Parser("synergy report", description=DESCRIPTION, allow_abbrev=False)
    runs = "folder of a run, folder of runs at any depth, or a .jsonl file of records"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=runs)
    parser.add_argument("--metric", default="final_average", help="the number to compare (default final_average)")
    parser.add_argument("--protocol", help="class-IL, task-IL, domain-IL or general; by default that of each answer")
    parser.add_argument("--predictor", help="the network that answers; by default the recommended one of each method")
    parser.add_argument("--by_run", action="store_true", help="also a line for each run")
    parser.add_argument("--format", metavar="FORMAT", help=f"a table with methods as rows: {', '.join(FORMAT_NAMES)}")
    parser.add_argument("--picture", metavar="FILE", help="draw methods over time, a panel a stream (png, pdf or svg)")
    parser.add_argument("--html", metavar="FILE", help="write a page with tables, charts and data, in one file")
    parsed = parser.parse_strictly(arguments)
    if parsed.format is not None and parsed.format not in FORMAT_NAMES:
        raise unknown("format of a table", parsed.format, FORMAT_NAMES)
    return parsed


def _single(gathered: Gathered) -> str:
    """One run in full."""
    from synergy.terminal import console

    record = gathered.records[0]
    head = f"{record.run_id}: {record.name_of('method')} on {record.name_of('scenario')}, seed {record.seed}"
    marks = ["partial"] * record.partial + [f"{record.status}: {record.error}"] * (record.status != "finished")
    parts = [
        screen.fit(head + (f" ({'; '.join(marks)})" if marks else "")),
        console.closing(record),
        console.by_class(record),
    ]
    return "\n\n".join(part for part in parts if part)


def _lines(gathered: Gathered, found: Sequence[Group], choice: Choice, by_run: bool) -> Iterator[str]:
    """A part for each stream and protocol, then what is missing."""
    from synergy.report.groups import by_stream, compared

    judged = False
    for stream, members in by_stream(found).items():
        for protocol, entries in compared(members, choice).items():
            judged = judged or any(entry.close for entry in entries)
            yield _section(stream, protocol, entries, choice)
    if judged:
        yield "* best   ~ not clearly worse: the 95 % interval of the difference holds 0"
    if by_run:
        yield "\n".join(["runs", *(_run_line(record) for record in gathered.records)])
    if missing := _missing(gathered, found, choice):
        yield "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in missing)


def _section(stream: str, protocol: str, entries: Sequence[Entry], choice: Choice) -> str:
    """A line for each group."""
    from synergy.report.groups import Choice
    from synergy.report.tables import number

    lost = Choice("forgetting", choice.predictor, choice.protocol)
    shows_lost = choice.metric != "forgetting" and any(entry.group.values(lost) for entry in entries)
    shows_size = any(entry.group.buffer_size is not None for entry in entries)
    heading = ["", "method (answer)", *["buffer"] * shows_size, choice.title, "n", *["forgetting"] * shows_lost, "time"]
    rows, styles = [heading], [""]
    for entry in entries:
        group = entry.group
        mark = "*" if entry.best else "~" if entry.close else ""
        first, *rest = textwrap.wrap(f"{group.method} ({entry.predictor})", LONGEST_METHOD, subsequent_indent="  ")
        size = [str(group.buffer_size or "-")] * shows_size
        forgotten = group.interval(lost)
        loss = ["-" if forgotten is None else f"{forgotten.value:.1f}"] * shows_lost
        n = str(len(group.values(choice)))
        rows.append([mark, first, *size, number(entry.shown), n, *loss, f"{group.seconds:.1f} s"])
        rows += [["", line, *[""] * (len(heading) - 2)] for line in rest]
        styles += ["bold green" if entry.best else "green" if entry.close else ""] * (1 + len(rest))
    width = min(WIDTH, screen.columns() or WIDTH)
    title = textwrap.fill(f"{stream} ({protocol}), percent, mean ± 95 % interval over n seeds", width)
    return f"{screen.heading(title)}\n{screen.table(rows, styles=styles, keep=0)}"


def _run_line(record: Record) -> str:
    marks = ["partial"] * record.partial + [record.status] * (record.status != "finished")
    name = record.run_id + (f" ({', '.join(marks)})" if marks else "")
    answer = record.accuracies[0] if record.accuracies else None
    final = "-" if answer is None else f"{answer.metrics.get('final_average', float('nan')):.2f}"
    shown = name if len(name) <= 58 else f"{name[:28]}…{name[-29:]}"
    return f"  {shown:<58} {final:>7} {record.measured.wall_s:>9.1f} s"


def _missing(gathered: Gathered, found: Sequence[Group], choice: Choice) -> list[str]:
    """Runs and numbers that are not in the table, and why."""
    lines = []
    for group in found:
        for record in group.stopped:
            lines.append(f"{record.status}: {record.run_id}: {record.error}")
        if group.superseded:
            count = len(group.superseded)
            newer = "a newer run has its seed" if count == 1 else "newer runs have their seeds"
            lines.append(f"{group.method} on {group.stream}: {counted(count, 'run')} left out, {newer}")
        if group.runs and (without := group.runs.keys() - group.values(choice).keys()):
            seeds = ", ".join(map(str, sorted(without)))
            lines.append(f"{group.method} on {group.stream}: no {choice.title} with seed {seeds}")
    lines += [f"not ended: {folder}" for folder in gathered.open]
    return lines
