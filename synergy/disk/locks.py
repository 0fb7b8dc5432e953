"""The one lock of the house: it keeps processes and threads of one machine apart, and ends with its holder."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

if sys.platform != "win32":
    import fcntl

P = ParamSpec("P")

PATIENCE = 60.0
"""Seconds to wait for a lock. Its holders work for milliseconds, so a longer wait means a stopped process."""
PAUSE = 0.002
"""Seconds between two tries."""

_UNSUPPORTED = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF})
"""Errors of filesystems (some network ones) that cannot lock a file or sync a folder at all."""


@contextmanager
def locked(path: Path, *, shared: bool = False, patience: float | None = None) -> Iterator[None]:
    """Hold the lock of a file or folder within the block.

    Windows and some network filesystems have no such lock. There the block runs without one.

    Args:
        path: an existing file or folder.
        shared: let other holders in that share it too. By default the holder is alone.
        patience: seconds to wait for other holders; by default `PATIENCE`.

    Raises:
        BlockingIOError: another holder kept it for `patience` seconds.
        OSError: `path` does not exist or cannot be opened.

    Examples:
        >>> import tempfile
        >>> from contextlib import suppress
        >>> with tempfile.TemporaryDirectory() as name, locked(Path(name)):
        ...     with suppress(BlockingIOError), locked(Path(name), patience=0):
        ...         print("two holders")
    """
    if sys.platform == "win32":
        path.stat()
        yield
        return
    # Network filesystems give the lock of a file only to those who may write it. No one may open a folder for writing.
    descriptor = os.open(path, os.O_RDONLY if shared or path.is_dir() else os.O_RDWR)
    try:
        with holding(descriptor, path, shared=shared, patience=patience):
            yield
    finally:
        os.close(descriptor)


@contextmanager
def holding(descriptor: int, path: Path, *, shared: bool = False, patience: float | None = None) -> Iterator[None]:
    """As `locked`, for a file at `path` that is open already."""
    if sys.platform == "win32":
        yield
        return
    _take(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, PATIENCE if patience is None else patience)
    try:
        yield
    finally:
        # Closing would not do: a forked child has the same open file.
        tolerate_missing(fcntl.flock, descriptor, fcntl.LOCK_UN)


def _take(descriptor: int, path: Path, kind: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            tolerate_missing(fcntl.flock, descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process is using it", str(path)) from error
        time.sleep(PAUSE)


def tolerate_missing(operation: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do without an operation that the filesystem does not have. Any other error of the operation is raised."""
    try:
        operation(*args, **kwargs)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
