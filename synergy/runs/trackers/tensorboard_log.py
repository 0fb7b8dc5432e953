"""TensorBoard events of a run. The only file that imports tensorboard."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synergy.runs.trackers.base import TrackedRun, Tracker, curves, flat, markdown, require, results

if TYPE_CHECKING:
    from synergy.runs.evaluate import Evaluations
    from synergy.runs.records import Record

_FILES = "events.out.tfevents."


class TensorBoard(Tracker):
    """Writes losses by step, accuracies by task, and configuration and final table as texts, to `tensorboard/`.

    An event is written once, also where a killed run had written it after its last checkpoint: events of later steps
    that are there already count no more.

    Args:
        run: what is logged.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     log = TensorBoard(TrackedRun(Path(name), {"method": {"lr": 0.1}}, steps=0))
        ...     log.looked(1, 1, {"loss": 0.5})
        ...     log.close()
        ...     sorted(_told(Path(name) / "tensorboard"))
        [('config', 0), ('loss/loss', 1)]
    """

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        folder = run.folder / "tensorboard"
        # A file from before a run was resumed may say more than the run remembers.
        resumed = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = _EventFile(_next_path(folder))
        self._told: set[tuple[str, int]] = set()
        with self._closed_on_failure():
            if resumed:
                self._file.restart(run.steps + 1)
                self._told = {(tag, step) for tag, step in _told(folder) if step <= run.steps}
            self._text("config", markdown(("option", "value"), flat(run.config)), 0)

    @classmethod
    def check(cls) -> None:
        require("tensorboard", "tensorboard")

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        if new_steps:
            self._scalars({f"loss/{name}": value for name, value in losses.items()}, step)

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        self._scalars(curves(index, evaluations), index + 1)
        self.saving()

    def recorded(self, record: Record) -> None:
        self._text("results", markdown(*results(record)), record.steps)

    def saving(self) -> None:
        with self._closed_on_failure():
            self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _scalars(self, numbers: Mapping[str, float], step: int) -> None:
        with self._closed_on_failure():
            for tag, value in numbers.items():
                if (tag, step) not in self._told:
                    self._file.scalar(tag, value, step)

    def _text(self, tag: str, text: str, step: int) -> None:
        with self._closed_on_failure():
            if (tag, step) not in self._told:
                self._file.text(tag, text, step)

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(OSError):
                self._file.close()
            raise


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

    def text(self, tag: str, text: str, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto  # type: ignore[import-untyped]
        from tensorboard.compat.proto.types_pb2 import DT_STRING  # type: ignore[import-untyped]

        plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
        self._add(step=step, summary=Summary(value=[Summary.Value(tag=tag, metadata=plugin, tensor=tensor)]))

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
