"""Durable files: whatever happens (a crash, a full disk, a second writer), a file holds the old content or the new."""

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

if sys.platform != "win32":
    import fcntl

# What a filesystem answers (some network ones do) when it cannot lock a file or sync a folder at all.
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF})


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write the whole file at `path` in one step, replacing what was there. Text is written as UTF-8, unchanged.

    Raises:
        OSError: the folder does not exist or cannot be written, or the disk is full. `path` is as it was before.
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
    """Remove what killed writers of `path` have left beside it. Nobody may be writing `path` meanwhile.

    Raises:
        OSError: the folder does not exist, or cannot be read or written.
    """
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.tmp")
    with os.scandir(path.parent) as entries:
        found = [each for each in entries if leftover.fullmatch(each.name) and each.is_file(follow_symlinks=False)]
    for each in found:
        Path(each.path).unlink()


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file, which has left all of the system's buffers when this returns.

    Raises:
        OSError: there is a file of that name, the folder cannot be written, or the disk is full. A part may be left.
    """
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def append_line(path: Path, line: str) -> None:
    """Append `line` and a newline to the text file at `path`, all of it or nothing; the file is made if it is missing.

    Any number of processes may append to one file (on Windows, which lacks the lock, one at a time). A last line that
    a crash has torn stays as it is: the new one starts on a line of its own.

    Raises:
        ValueError: `line` holds a newline.
        OSError: the file cannot be written, or the disk is full. Its content is as it was before.
    """
    if "\n" in line:
        raise ValueError("given a text of several lines; allowed: one line")
    # Unbuffered, so that the line is one write, which the system puts at the end of the file as a whole.
    with path.open("a+b", buffering=0) as file, _lock(file):
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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that use this function out of `folder` meanwhile. Leaves an empty file `.lock` in it.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    with (folder / ".lock").open("ab", buffering=0) as file, _lock(file):
        yield


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Be the only process that owns the file at `path` meanwhile; however this one ends, the next may own it.

    Raises:
        BlockingIOError: another one owns it.
        OSError: there is no such file, or it cannot be written.
    """
    with path.open("r+b", buffering=0) as file:
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError as error:
                _tolerate(error)
        yield


@contextmanager
def _lock(file: FileIO) -> Iterator[None]:
    """The exclusive lock of an open file; closing the file gives it back. Without a lock where there is none."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            _tolerate(error)
    yield


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
            os.fsync(descriptor)
        except OSError as error:
            _tolerate(error)
        finally:
            os.close(descriptor)


def _tolerate(error: OSError) -> None:
    """Raise `error` unless it only says that the filesystem lacks the feature: then go on without it."""
    if error.errno not in _UNSUPPORTED:
        raise error
