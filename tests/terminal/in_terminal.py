"""Programs in a real pseudo-terminal, and the lines that a terminal would show of what they wrote."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-9]|38;5;[0-9]+)m")
"""The beginning of coloured text."""


def in_terminal(
    arguments: list[str], columns: int, folder: Path, rows: int = 50, environment: Mapping[str, str] | None = None
) -> str:
    """What `synergy` writes to a terminal of this size.

    Raises:
        AssertionError: it ends with an error.
    """
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    given = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    given |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
    command = [sys.executable, "-m", "synergy.terminal.cli", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=given) as process:
        os.close(theirs)
        written = b""
        while chunk := _read(ours):
            written += chunk
    os.close(ours)
    assert process.returncode == 0, written.decode()
    return written.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the program is gone
        return b""


def lines(written: str) -> list[str]:
    """The text in lines, without colours."""
    return _CONTROL.sub("", written).replace("\r\n", "\n").splitlines()
