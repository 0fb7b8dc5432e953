"""What the command line writes: results to the standard output, errors and warnings to the standard error.

An output that takes no more (closed, a full disk, a reader that went away) ends no run. The only file that prints.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from contextlib import suppress
from typing import TextIO

LONGEST_LINE = 5000
"""Characters of an error; only a message that quotes a damaged file is longer."""


class Outlet(io.TextIOBase):
    """An output that never fails: what it cannot write is dropped, and the first error is kept.

    Args:
        stream: where the text goes; None, as Python gives it, for an output that was closed before the start.

    Attributes:
        error: why text was dropped; None if none was.

    Examples:
        >>> out = Outlet(None)
        >>> print("hello", file=out)
        >>> out.error.strerror
        'Bad file descriptor'
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.error: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream; UTF-8 for one that is neither terminal nor file."""
        return (self._stream and self._stream.encoding) or "utf-8"

    def write(self, text: str, /) -> int:
        try:
            self._open_stream().write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        return self._open_stream().fileno()

    def _open_stream(self) -> TextIO:
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream

    def _give_up(self, error: OSError) -> None:
        self.error = self.error or error
        # The rest of the text goes nowhere. Python would try to write it at exit.
        with suppress(OSError):
            descriptor = self.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def occupy_standard_files() -> None:
    """Open nothing in place of standard files that are closed: else the next file would get their numbers, and text."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


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
    encoding = output.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
