"""What the command line writes: results to the standard output, errors and warnings to the standard error.

The only file that prints.
"""

from __future__ import annotations

import re
import sys
from typing import TextIO

LONGEST_LINE = 5000
"""Characters of an error; only a message that quotes a damaged file is longer."""


def say(text: str) -> None:
    """Print a result."""
    print(_shown(text, sys.stdout), flush=True)


def complain(text: str) -> None:
    """Print an error in one line."""
    print("synergy: error:", _shown(_one_line(text), sys.stderr), file=sys.stderr)


def warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning in one line, for `warnings.showwarning`. The place in the code is left out."""
    print("synergy: warning:", _shown(_one_line(str(message)), sys.stderr), file=sys.stderr)


def _one_line(text: str) -> str:
    """Line breaks become spaces; characters that move the cursor are escaped. Other spaces stay: paths have them."""
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    line = line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]}...{line[-LONGEST_LINE // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _shown(text: str, output: TextIO) -> str:
    """`text`; characters that `output` cannot show are escaped."""
    encoding = output.encoding or "utf-8"  # None for an output that is neither terminal nor file
    return text.encode(encoding, "backslashreplace").decode(encoding)
