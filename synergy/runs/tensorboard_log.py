"""TensorBoard events of a run. The only file that imports tensorboard."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from synergy.errors import UsageError
from synergy.runs.evaluate import Evaluations
from synergy.runs.listeners import Listener

_FILES = "events.out.tfevents."


def check_installed() -> None:
    """Raises UsageError if tensorboard is not installed."""
    try:
        import tensorboard  # type: ignore[import-untyped]  # noqa: F401 - to see whether it is there
    except ImportError as error:
        reason = "--tensorboard needs tensorboard; install it with: pip install 'synergy-cl[tensorboard]'"
        raise UsageError(reason) from error


class TensorBoard(Listener):
    """Writes losses by step, and the average accuracy over the tasks seen by task.

    An event is written once, also where a killed run had written it after its last checkpoint. If the disk takes no
    more, one warning says so and the run goes on without events.

    Args:
        folder: of the event files; made if it is missing.
        after: the step that a resumed run goes on from. Events of later steps that are there already count no more.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     log = TensorBoard(Path(name) / "tensorboard")
        ...     log.looked(1, 1, {"loss": 0.5})
        ...     log.close()
        ...     sorted(_told(Path(name) / "tensorboard"))
        [('loss/loss', 1)]
    """

    def __init__(self, folder: Path, after: int | None = None) -> None:
        self._folder = folder
        self._file: _EventFile | None = None
        self._told: set[tuple[str, int]] = set()
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = _EventFile(_next_path(folder))
            if after is not None:
                self._file.restart(after + 1)
                self._told = {(tag, step) for tag, step in _told(folder) if step <= after}

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        for name, value in losses.items() if new_steps else ():
            self._write(f"loss/{name}", value, step)

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        for (predictor, protocol), evaluation in evaluations.items():
            seen = evaluation.accuracies[: index + 1]
            self._write(f"accuracy/{protocol}/{predictor}", sum(seen) / len(seen), index + 1)
        self.saving()

    def saving(self) -> None:
        with self._writing():
            if self._file is not None:
                self._file.flush()

    def close(self) -> None:
        with self._writing():
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self, tag: str, value: float, step: int) -> None:
        with self._writing():
            if self._file is not None and (tag, step) not in self._told:
                self._file.scalar(tag, value, step)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Within, a file that cannot be written is given up with a warning."""
        try:
            yield
        except OSError as error:
            file, self._file = self._file, None
            if file is not None:
                with suppress(OSError):
                    file.close()
            reason = f"no more TensorBoard events: cannot write to '{self._folder}': {error.strerror or error}"
            warnings.warn(f"{reason}; training goes on", stacklevel=2)


class _EventFile:
    """One file of events, written by the calling thread: whoever writes sees the error."""

    def __init__(self, path: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

        self._records = RecordWriter(path.open("xb"))
        self._add(file_version="brain.Event:2")

    def restart(self, step: int) -> None:
        """Tell readers that what other files say of `step` and later counts no more."""
        from tensorboard.compat.proto.event_pb2 import SessionLog  # type: ignore[import-untyped]

        self._add(step=step, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def scalar(self, tag: str, value: float, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        self._add(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _add(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())


def _next_path(folder: Path) -> Path:
    """A name after all others in their order, which is the order in which TensorBoard reads them."""
    stamps = [int(path.name.removeprefix(_FILES).split(".")[0]) for path in _event_files(folder)]
    stamp = max([int(time.time()), *(stamp + 1 for stamp in stamps)])
    return folder / f"{_FILES}{stamp:010d}.{socket.gethostname()}.{os.getpid()}"


def _event_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob(f"{_FILES}*")) if path.name.split(".")[3].isdecimal()]


def _told(folder: Path) -> set[tuple[str, int]]:
    """Tag and step of all events that count."""
    from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
        RawEventFileLoader,
    )
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    told: set[tuple[str, int]] = set()
    for path in _event_files(folder):
        for event in map(Event.FromString, RawEventFileLoader(str(path)).Load()):
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                told = {(tag, step) for tag, step in told if step < event.step}
            told |= {(value.tag, event.step) for value in event.summary.value}
    return told
