"""What the terminal can show: tables as wide as it is, in colour, if rich is installed. Files and pipes get plain text.

`NO_COLOR` takes the colour away. `FORCE_COLOR` gives a pipe what a terminal gets. A dumb terminal gets plain text.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_NUMBER = re.compile(r"(-|-?\d+(\.\d+)?( ± \d+\.\d+)?( s)?)?")
LEAST_WIDTH = 40
"""Columns that a table takes at least; a narrower terminal breaks its lines."""
USUAL_WIDTH = 80
BAR, SHORT_BAR = 16, 8
"""Columns of a bar of progress. The short one leaves room for the numbers where a terminal is narrower than usual."""
LEAST_CELL = 10
"""Columns that a cell of text takes at least."""
LEAST_TEXT = 30
"""Columns for the sentences at the end of a row, where a column before them can be left out instead."""


def is_terminal() -> bool:
    """Whether results go to a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def rich_console() -> Console | None:
    """A console of rich on the standard output; None where text stays plain."""
    if not (is_terminal() or os.environ.get("FORCE_COLOR")) or find_spec("rich") is None:
        return None
    from rich.console import Console

    return Console(highlight=False, width=max(LEAST_WIDTH, columns() or 80))


def columns() -> int | None:
    """Width of the terminal; None where results do not go to one, so that lines are as long as they are."""
    if sys.stdout.isatty() or os.environ.get("FORCE_COLOR"):
        return shutil.get_terminal_size().columns
    return None


def bar(shown: Console) -> int:
    """Columns of a bar of progress in a live table."""
    return BAR if shown.width >= USUAL_WIDTH else SHORT_BAR


def heading(text: str) -> str:
    """A line above a table: bold where the terminal can show that."""
    shown = rich_console()
    if shown is None:
        return text
    from rich.text import Text

    return rendered(shown, Text(text, style="bold"))


def name(text: str) -> str:
    """What a line is about, at its beginning: in colour where the terminal can show that."""
    shown = rich_console()
    if shown is None or not text.strip():
        return text
    from rich.text import Text

    word = text.rstrip()
    return rendered(shown, Text(word, style="cyan")) + " " * (len(text) - len(word))


def table(rows: Sequence[Sequence[str]], headings: int = 1, styles: Sequence[str] = (), keep: int = 1) -> str:
    """Rows in columns, the first `headings` of them headings. A column of numbers stands to the right.

    Args:
        rows: of equal length.
        headings: rows that are headings.
        styles: of each row, headings included, where there is colour; empty for none.
        keep: columns from the left whose cells are never broken into lines. Numbers never are.
    """
    shown = rich_console()
    return plain(rows, headings) if shown is None else rendered(shown, _rich(rows, headings, styles, keep, shown.width))


def narrowed(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows without the columns that the terminal has no room for, so that the sentence at the end of each has some.

    Columns before the last one go, from the right. The first one stays.
    """
    kept = [list(row) for row in rows]
    while len(kept[0]) > 2:
        *names, _ = zip(*kept, strict=True)
        if sum(max(map(len, column)) + 2 for column in names) + LEAST_TEXT + 2 <= (columns() or 80):
            break
        for row in kept:
            del row[-2]
    return kept


def plain(rows: Sequence[Sequence[str]], headings: int = 1) -> str:
    """The table as text, as wide as its cells."""
    columns = [_aligned(column, headings) for column in zip(*rows, strict=True)]
    return "\n".join(("  " + "  ".join(cells)).rstrip() for cells in zip(*columns, strict=True))


def rendered(shown: Console, what: RenderableType) -> str:
    """Text with the colours of the terminal, without a line break at its end."""
    with shown.capture() as captured:
        shown.print(what)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def _aligned(column: Sequence[str], headings: int) -> list[str]:
    width = max(len(cell) for cell in column)
    numeric = is_numeric(column[headings:])
    return [cell.rjust(width) if numeric else cell.ljust(width) for cell in column]


def is_numeric(cells: Sequence[str]) -> bool:
    """Whether all cells hold a number, or nothing."""
    return all(_NUMBER.fullmatch(cell) for cell in cells)


def _rich(rows: Sequence[Sequence[str]], headings: int, styles: Sequence[str], keep: int, width: int) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, show_header=headings > 0, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    columns = list(zip(*rows, strict=True))
    for number, (column, room) in enumerate(zip(columns, widths(columns, headings, keep, width - 2), strict=True)):
        grid.add_column(
            Text("\n".join(column[:headings])),
            justify="right" if is_numeric(column[headings:]) else "left",
            overflow="fold",
            style="cyan" if number < keep and not styles else None,
            width=room,
        )
    for number, row in enumerate(rows[headings:], start=headings):
        grid.add_row(*map(Text, row), style=styles[number] if number < len(styles) else None)
    return Padding(grid, (0, 0, 0, 2))


def widths(columns: Sequence[Sequence[str]], headings: int, keep: int, room: int) -> list[int]:
    """Characters of each column, two apart, in as much room: the widest give way first. Numbers and names never break.

    Examples:
        >>> widths([["metric", "average"], ["semantic, class-IL", "100.00"]], 1, 1, 20)
        [7, 11]
    """
    found = [max(map(len, column)) for column in columns]
    least = [
        max([longest_word(column[:headings]), *map(len, body)] if is_numeric(body) or number < keep else [LEAST_CELL])
        for number, column in enumerate(columns)
        for body in [column[headings:]]
    ]
    while sum(found) + 2 * (len(found) - 1) > room:
        widest = max(range(len(found)), key=lambda number: (found[number] > least[number], found[number]))
        if found[widest] <= least[widest]:
            break
        found[widest] -= 1
    return found


def longest_word(cells: Sequence[str]) -> int:
    """Characters of the longest word."""
    return max((len(word) for cell in cells for word in cell.split()), default=0)


def fit(text: str) -> str:
    """A paragraph in lines that fit the terminal; elsewhere as it is."""
    width = columns()
    return text if width is None else textwrap.fill(text, max(LEAST_WIDTH, width), break_on_hyphens=False)
