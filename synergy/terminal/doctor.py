"""`synergy doctor`: is everything here that a run needs, and does it work?"""

from __future__ import annotations

import textwrap

from synergy.terminal import health, screen
from synergy.terminal.output import say
from synergy.terminal.parser import Parser

WIDTH = 100
"""Characters of a line where no terminal says another number."""
PROBLEM_EXIT = 1


def doctor(arguments: list[str]) -> int:
    """`synergy doctor`: 1 if there is a problem, else 0."""
    description = (
        "Look at versions, devices (with real training steps), data, cache, disk, extras and thread settings. "
        "Each line is ok, a warning or a problem, with what to do. The exit code is 1 if there is a problem, else 0."
    )
    Parser("synergy doctor", description=description, allow_abbrev=False).parse_strictly(arguments)
    found = []
    for finding in health.findings():
        found.append(finding)
        say(shown(finding))
    problems, warnings = (sum(each.level == level for each in found) for level in ("problem", "warning"))
    counts = [
        f"{number} {name}{'s' * (number != 1)}" for number, name in ((problems, "problem"), (warnings, "warning"))
    ]
    say(f"\n{', '.join(counts)}")
    return PROBLEM_EXIT if problems else 0


def shown(finding: health.Finding) -> str:
    """A finding in a line, and what to do below it.

    >>> print(shown(health.Finding("warning", "disk", "1.5 GB free", "make room")))
    warning  disk: 1.5 GB free
             do: make room
    """
    indent = " " * 9
    width = max(screen.LEAST_WIDTH, screen.columns() or WIDTH)
    parts = [f"{finding.level:<8} {finding.what}: {finding.text}", *[f"{indent}do: {finding.do}"] * bool(finding.do)]
    return "\n".join(
        textwrap.fill(part, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for part in parts
    )
