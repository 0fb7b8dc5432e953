"""A cell of a table that sorts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """What a table shows, and the value that sorts it.

    Examples:
        >>> Cell("3.0 s", 3.0).mark
        ''
    """

    text: str
    value: object
    mark: str = ""
