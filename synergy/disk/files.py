"""Durable files: after a crash, on a full disk and beside a second writer, a file holds the old content or the new."""

from __future__ import annotations

import errno
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from synergy.disk.locks import holding, tolerate_missing


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write the whole file at `path` in one step, replacing what was there. Text is written as UTF-8, unchanged.

    Raises:
        OSError: the folder does not exist or cannot be written, or the disk is full. `path` is as it was before.
        ValueError: a text cannot be written as UTF-8 (half of a surrogate pair). `path` is as it was before.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = _beside(path)
    with ExitStack() as undo:
        undo.callback(temporary.unlink, missing_ok=True)
        write_synced(temporary, data)
        temporary.replace(path)
        undo.pop_all()
    sync_folder(path.parent)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def try_writing(path: Path) -> None:
    """See whether `write_atomically` could begin to write `path`; nothing is changed.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    temporary = _beside(path)
    write_synced(temporary, b"")
    temporary.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left beside it. Call it only while nobody else writes `path`.

    Raises:
        OSError: the folder does not exist, or cannot be read or written.
    """
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.tmp")
    with os.scandir(path.parent) as entries:
        found = [each for each in entries if leftover.fullmatch(each.name) and each.is_file(follow_symlinks=False)]
    for each in found:
        Path(each.path).unlink()


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and sync it: when this returns, the file survives a loss of power.

    Raises:
        OSError: a file of that name exists, the folder cannot be written, or the disk is full. A part may be left.
    """
    with synced(path) as file:
        file.write(data)


@contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """A new file to write in the block, synced at its end. Raises as `write_synced`."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def append_line(path: Path, line: str) -> None:
    """Append `line` and a newline to the text file at `path`, all of it or nothing; a missing file is made.

    Any number of processes may append to one file (on Windows, which lacks the lock, one at a time). After a last line
    that a crash has torn, the new line starts on a line of its own.

    Raises:
        ValueError: `line` holds a newline.
        OSError: the file cannot be written, or the disk is full. Its content is as it was before.
    """
    if "\n" in line:
        raise ValueError("given a text of several lines; allowed: one line")
    # Unbuffered, so that the line is one write, which the system puts at the end of the file as a whole.
    with path.open("a+b", buffering=0) as file, holding(file.fileno(), path):
        start = file.seek(0, os.SEEK_END)
        data = _fresh_line(file, start) + line.encode() + b"\n"
        with ExitStack() as undo:
            undo.callback(file.truncate, start)
            written = file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
            undo.pop_all()
    if start == 0:
        sync_folder(path.parent)


def _fresh_line(file: FileIO, end: int) -> bytes:
    """What must come first for the next text to start a line of its own."""
    if end == 0:
        return b""
    file.seek(end - 1)
    return b"" if file.read(1) == b"\n" else b"\n"


def sync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive a loss of power. Windows does that by itself."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            tolerate_missing(os.fsync, descriptor)
        finally:
            os.close(descriptor)
