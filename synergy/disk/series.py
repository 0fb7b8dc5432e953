"""The checkpoints of one run, each in a folder named after how far the run was."""

from __future__ import annotations

import re
from pathlib import Path

from synergy.disk import checkpoint, files, folders
from synergy.errors import UsageError
from synergy.state import State

_NAME = re.compile(r"step-(\d+)-task-(\d+)")


class Series:
    """The checkpoints of one run, each named after how far the run was. One process writes them.

    Args:
        folder: holds them. It is made with the first one.
        keep: how many stay. Older ones go as soon as a new one is durable.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     series = Series(Path(name) / "checkpoint", keep=2)
        ...     for step in (10, 20, 30):
        ...         series.add({"step": step}, step=step, task=0)
        ...     [path.name for path in series.newest_first()]
        ['step-00000030-task-0000', 'step-00000020-task-0000']
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._last: Path | None = None

    def add(self, state: State, *, step: int, task: int) -> None:
        """Write the checkpoint of step `step` after `task` tasks, unless it is the one that was written last.

        Raises:
            UsageError: something else has its name, such as a link.
            OSError, TypeError, ValueError: as `checkpoint.write`.
            After each of them all earlier checkpoints are still there.
        """
        path = self.folder / f"step-{step:08d}-task-{task:04d}"
        if path == self._last:
            return
        if path.is_symlink():  # `write` would replace the folder it leads to, which is of another run
            raise UsageError(f"checkpoint {path}: there is a link of that name; move it away")
        if not self.folder.is_dir():
            self.folder.mkdir()
            files.sync_folder(self.folder.parent)
        checkpoint.write(state, path)
        self._last = path
        # A damaged one may be ahead. The resumed run could not use it, and will come by again.
        passed = [each for each in self.newest_first() if progress(each) <= progress(path)]
        for old in passed[self.keep :]:
            folders.remove(old, checkpoint.NAMES)

    def newest_first(self) -> list[Path]:
        """All checkpoints, damaged ones too. Raises UsageError if the folder cannot be read."""
        paths = [self.folder / name for name in self._names() if _NAME.fullmatch(name)]
        return sorted(paths, key=progress, reverse=True)

    def clean(self) -> None:
        """Complete or undo what a killed writer of these checkpoints began.

        Raises:
            UsageError: the folder cannot be read.
            OSError: the folder cannot be written.
        """
        for name in sorted(folders.unfinished(self._names())):
            if _NAME.fullmatch(name):
                folders.finish(self.folder / name, checkpoint.NAMES)

    def _names(self) -> list[str]:
        """Of all that is in the folder."""
        try:
            return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        except OSError as error:
            raise UsageError(f"cannot read '{self.folder}': {error.strerror}; allow it, or move it away") from error


def progress(path: Path) -> tuple[int, int]:
    """Step and task in the name of a checkpoint of a series."""
    step, task = map(int, re.findall(r"\d+", path.name))
    return step, task
