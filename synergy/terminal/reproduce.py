"""`synergy reproduce`: the runs of a published table, and their results beside the published ones."""

from __future__ import annotations

import argparse
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synergy.studies.warm import warm_up
from synergy.terminal import study
from synergy.terminal.output import say
from synergy.terminal.parser import Parser

if TYPE_CHECKING:  # help is printed without torch
    from synergy.runs.records import Record
    from synergy.studies.reproduce import Reproduction, Row

WIDTH = 100
DESCRIPTION = """\
Make a published table again, and print it beside the published numbers.

  synergy reproduce rot-mnist --quick      a first look: one seed, shortened runs; compares with nothing
  synergy reproduce rot-mnist              the table: its main methods, three seeds
  synergy reproduce seq-cifar10 --models clser --buffer_sizes 500 --seeds 0-9

Tables: {tables}.
The runs are a study with tuned values: the same command goes on where it was stopped, `synergy study` and `synergy
report` take its folder too.
"""
NAMES = ("rot-mnist", "mnist-360", "perm-mnist", "seq-mnist", "seq-cifar10", "seq-tinyimg", "gcil")
PASSED_ON = ("data_dir", "device", "precision")
"""Options of the runs that change where and how exactly they compute, not what."""


def reproduce(arguments: list[str]) -> int:
    """`synergy reproduce`: run what a table needs and is not there yet, then compare."""
    known = parser().parse_strictly(arguments)
    if not known.dry_run:
        warm_up()
    from synergy.studies.reproduce import compared, reproduction

    folder = Path(known.output_dir or f"reproduce-{known.table}{'-quick' if known.quick else ''}")
    wanted = reproduction(
        known.table,
        folder,
        models=known.models,
        buffer_sizes=known.buffer_sizes,
        seeds=known.seeds,
        quick=known.quick,
        more={name: vars(known)[name] for name in PASSED_ON if vars(known)[name] is not None},
    )
    again = [word for word in arguments if word != "--retry_failed"]
    code = study.run_study(wanted.request, known, shlex.join(["synergy", "reproduce", *again]))
    rows, found = compared(wanted)
    if found:
        comparable = not wanted.shortened and not _parts(found)
        say(f"\n{title(known.table, wanted)}\n{side_by_side(rows, comparable)}")
    if remarks := "\n".join(_wrapped(_remarks(known.table, wanted, rows, found))):
        say(f"\n{remarks}")
    return code


def parser() -> Parser:
    """The flags of `synergy reproduce`."""
    made = Parser(
        "synergy reproduce",
        description=DESCRIPTION.format(tables=", ".join(NAMES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("table", metavar="TABLE", help=f"one of {', '.join(NAMES)}")
    made.add_argument("--quick", action="store_true", help="one seed, three methods, shortened runs")
    made.add_argument("--models", type=_names, metavar="A,B", help="methods (by default the main ones)")
    made.add_argument("--buffer_sizes", type=_sizes, metavar="N,M", help="samples in memory (default 200,500)")
    made.add_argument("--seeds", metavar="0-9", help="seeds (default 0-2)")
    made.add_argument("--output_dir", metavar="DIR", help="folder of the study (default reproduce-TABLE)")
    for name in PASSED_ON:
        made.add_argument(f"--{name}", metavar=name.upper(), help=f"as of `synergy run --{name}`")
    made.add_argument("--dry_run", action="store_true", help="say what would run and how long it would take")
    made.add_argument("--retry_failed", action="store_true", help="try runs that failed again")
    study.add_places(made)
    return made


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("given no method; allowed: names with commas between")
    return names


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"given {text!r}; allowed: whole numbers with commas between")
    return [int(part) for part in parts]


def title(name: str, wanted: Reproduction) -> str:
    """The line above a table."""
    from synergy.runs.metrics import titles

    metric = titles([wanted.table.metric])[wanted.table.metric]
    return f"{name}: {metric}, percent, mean ± standard deviation over n seeds"


def side_by_side(rows: Sequence[Row], comparable: bool) -> str:
    """A line for each number, ours and the published one. Numbers that do not compare have no difference."""
    from synergy.terminal.screen import table

    gaps = ["difference", "in sd"] if comparable else []
    heading = ["", "answer", "here", "n", "published", "n", *gaps, "source"]
    sources = list(dict.fromkeys(row.published.source for row in rows if row.published is not None))
    lines = [heading]
    for row in rows:
        published = row.published
        theirs = ["-", "", *["-"] * len(gaps), ""]
        if published is not None:
            gap = "-" if row.difference is None else f"{row.difference:+.2f}"
            away = "-" if row.deviations is None else f"{row.deviations:+.1f}"
            source = f"[{sources.index(published.source) + 1}]"
            apart = [gap, away] if comparable else []
            theirs = [_with_sd(published.mean, published.sd), str(published.runs or "?"), *apart, source]
        answer = ", ".join(part for part in (row.predictor, row.protocol) if part)
        lines.append([row.cell.name, answer or "-", _with_sd(row.mean, row.sd), str(len(row.values)), *theirs])
    return table(lines)


def _with_sd(mean: float | None, sd: float | None) -> str:
    return "-" if mean is None else f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def _remarks(name: str, wanted: Reproduction, rows: Sequence[Row], found: Sequence[Record]) -> Iterator[str]:
    """Where the published numbers are from, what does not compare, and what is missing."""
    printed = [row.published for row in rows if row.published is not None]
    sources = list(dict.fromkeys(each.source for each in printed))
    for number, source in enumerate(sources, 1):
        of_source = [each for each in printed if each.source == source]
        read_in = [f"read in {each.read_in}" for each in of_source if each.read_in]
        notes = [each.note for each in of_source if each.note]
        yield f"[{number}] {'; '.join(dict.fromkeys([source, *read_in, *notes]))}"
    yield from _incomparable(wanted, found)
    if not printed:
        yield f"no published number: the package holds none for {name} with these methods and buffer sizes"
    else:
        without = [row.cell.name for row in rows if row.published is None]
        yield from [f"no published number: {'; '.join(without)}"] * bool(without)
    untuned = [cell.name for cell in wanted.cells if cell.tuned is None]
    yield from [f"no tuned values, so not run: {'; '.join(untuned)}"] * bool(untuned)
    own = dict.fromkeys(cell.method for cell in wanted.cells if (cell.tuned or "").startswith("chosen here"))
    yield from [f"tuned values that were chosen here, not published: {', '.join(own)}"] * bool(own)
    if wanted.also:
        yield f"published numbers of more methods: --models {','.join(wanted.also)}"


def _incomparable(wanted: Reproduction, found: Sequence[Record]) -> Iterator[str]:
    """Why the numbers do not compare with published ones, if so."""
    if wanted.quick:
        cut = ", ".join(f"{name} {value}" for name, value in wanted.table.quick.items())
        how = f"not comparable: runs are shortened ({cut})" if cut else "the runs are whole, but of one seed each"
        yield f"--quick is a first look; {how}"
    for name, run in _parts(found).items():
        yield f"not comparable: {name} is a part of the data set, {run.source['train_samples']} training samples"


def _parts(found: Sequence[Record]) -> dict[str, Record]:
    """By name, the data sets of which only a part was there, with a run on each."""
    return {str(run.source["name"]): run for run in found if not run.source.get("complete", True)}


def _wrapped(remarks: Iterator[str]) -> Iterator[str]:
    for remark in remarks:
        yield textwrap.fill(remark, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
