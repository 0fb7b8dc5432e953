"""What the terminal can show: tables as wide as it is, in colour, if rich is installed. Files and pipes get plain text.

`NO_COLOR` takes the colour away. `FORCE_COLOR` gives a pipe what a terminal gets. A dumb terminal gets plain text.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_NUMBER = re.compile(r"(-|-?\d+(\.\d+)?( ± \d+\.\d+)?( s)?)?")
LEAST_WIDTH = 40
"""Columns that a table takes at least; a narrower terminal breaks its lines."""


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


def heading(text: str) -> str:
    """A line above a table: bold where the terminal can show that."""
    shown = rich_console()
    if shown is None:
        return text
    from rich.text import Text

    return rendered(shown, Text(text, style="bold"))


def table(rows: Sequence[Sequence[str]], headings: int = 1, styles: Sequence[str] = (), keep: int = 1) -> str:
    """Rows in columns, the first `headings` of them headings. A column of numbers stands to the right.

    Args:
        rows: of equal length.
        headings: rows that are headings.
        styles: of each row, headings included, where there is colour; empty for none.
        keep: columns from the left whose cells are never broken into lines. Numbers never are.
    """
    shown = rich_console()
    return plain(rows, headings) if shown is None else rendered(shown, _rich(rows, headings, styles, keep))


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


def _rich(rows: Sequence[Sequence[str]], headings: int, styles: Sequence[str], keep: int) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, show_header=headings > 0, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, column in enumerate(zip(*rows, strict=True)):
        numeric = is_numeric(column[headings:])
        grid.add_column(
            Text("\n".join(column[:headings])),
            justify="right" if numeric else "left",
            no_wrap=numeric or number < keep,
            overflow="fold",
            style="cyan" if number < keep and not styles else None,
        )
    for number, row in enumerate(rows[headings:], start=headings):
        grid.add_row(*map(Text, row), style=styles[number] if number < len(styles) else None)
    return Padding(grid, (0, 0, 0, 2))
