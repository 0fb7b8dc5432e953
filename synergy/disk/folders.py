"""Folders that are replaced as a whole: whoever looks finds the old content or the new one, complete.

A new folder is filled under a hidden name beside its place (`.NAME.<16 digits>.new`). Then the old folder is put aside
(`.NAME.old`), the new one takes its name, and the old one is removed. The lock of the folder above keeps these renames
apart from those of other processes, and from readers that are about to open the files. It is held for milliseconds:
filling happens without it. A draft is locked while its writer lives, so that only the drafts of dead writers are swept.

A folder is replaced or removed only if it holds plain files of known names and nothing else.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from synergy.disk import files
from synergy.disk.locks import locked

_LEFTOVER = re.compile(r"\.(.+)\.(?:[0-9a-f]{16}\.new|old)")


@contextmanager
def replacing(folder: Path, names: Collection[str]) -> Iterator[Path]:
    """An empty folder to fill in the block. At the end of the block it takes the place of `folder`, durably.

    Whatever kills the process, `settled` finds the old folder or the new one. An error in the block or in the renames
    leaves the old folder in its place and nothing else. Several processes of one machine may replace one folder.

    Args:
        folder: the place. A link keeps pointing to it.
        names: of the files that the block may write, each to be synced by the block.

    Raises:
        FileExistsError: something else than a folder of such files is at `folder`; it is left alone.
        BlockingIOError: another process held the folder above for too long.
        OSError: the folder above does not exist or cannot be written.
    """
    # Beside what a link points to, so that the link stays one.
    folder = Path(os.path.realpath(folder))
    with ExitStack() as undo:
        with locked(folder.parent):
            _finish(folder, names)
            _check_replaceable(folder, names)
            draft = folder.parent / f".{folder.name}.{secrets.token_hex(8)}.new"
            draft.mkdir()
            undo.callback(remove, draft, names)
            undo.enter_context(locked(draft))
        yield draft
        files.sync_folder(draft)
        with locked(folder.parent):
            _finish(folder, names)
            _check_replaceable(folder, names)
            _swap(draft, folder)
            remove(_aside(folder), names)


@contextmanager
def settled(folder: Path) -> Iterator[Path]:
    """Where the content of `folder` is. Within the block no other process of this machine replaces it.

    Raises:
        BlockingIOError: another process held the folder above for too long.
    """
    folder = Path(os.path.realpath(folder))
    with ExitStack() as stack:
        # A folder above that is missing or may not be read has its own error, where the files are opened.
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            stack.enter_context(locked(folder.parent, shared=True))
        yield _aside(folder) if _aside(folder).is_dir() and not folder.exists() else folder


def finish(folder: Path, names: Collection[str]) -> None:
    """Complete or undo what killed writers of `folder` began.

    Raises:
        OSError: the folder above cannot be read or written.
    """
    with locked(folder.parent):
        _finish(folder, names)


def unfinished(names: Iterable[str]) -> set[str]:
    """The folders that a writer began to replace, from the names beside them.

    >>> unfinished(["a", ".b.old", ".c.0123456789abcdef.new"]) == {"b", "c"}
    True
    """
    return {match[1] for name in names if (match := _LEFTOVER.fullmatch(name))}


def remove(folder: Path, names: Collection[str]) -> None:
    """Remove a folder of such files, complete or not. What cannot be removed now stays for the next time."""
    with suppress(OSError):
        if holds_only(folder, names):
            for name in names:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def holds_only(folder: Path, names: Collection[str]) -> bool:
    """Whether a folder (no link to one) holds plain files of these names, or some of them, and nothing else."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return all(entry.name in names and entry.is_file(follow_symlinks=False) for entry in entries)


def _aside(folder: Path) -> Path:
    """Where the old folder is while the new one takes its name."""
    return folder.parent / f".{folder.name}.old"


def _finish(folder: Path, names: Collection[str]) -> None:
    if holds_only(_aside(folder), names) and not os.path.lexists(folder):
        _aside(folder).rename(folder)
    remove(_aside(folder), names)
    for entry in folder.parent.iterdir():
        is_draft = (
            entry.name.endswith(".new") and (match := _LEFTOVER.fullmatch(entry.name)) and match[1] == folder.name
        )
        if is_draft and _is_abandoned(entry):
            remove(entry, names)


def _is_abandoned(draft: Path) -> bool:
    try:
        with locked(draft, patience=0):
            return True
    except OSError:
        return False


def _check_replaceable(folder: Path, names: Collection[str]) -> None:
    if folder.exists() and not holds_only(folder, names):
        raise FileExistsError(errno.EEXIST, "there is something else of that name", str(folder))


def _swap(draft: Path, folder: Path) -> None:
    """Let the draft take its name, or leave both folders as they were."""
    with ExitStack() as undo:
        if folder.exists():
            folder.rename(_aside(folder))
            undo.callback(_aside(folder).rename, folder)
        draft.rename(folder)
        undo.callback(folder.rename, draft)
        files.sync_folder(folder.parent)
        undo.pop_all()
