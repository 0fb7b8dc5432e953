"""Where runs work: the interface of all places, and local processes that start from one warm interpreter.

A fork server loads torch once; every run is a process of its own, forked from it. A run that dies takes nothing with
it, and a study that dies takes its runs with it.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch

from synergy.device import keep_freed_memory
from synergy.errors import UsageError
from synergy.studies.work import Ended, Evaluated, Progress, go_on

TRIES = 3
"""How often a run is begun whose process dies."""
LOGS_NAME = "logs"
"""Folder, in that of the study, of what dying processes said."""


@dataclass(frozen=True)
class Warned:
    """A run said something that its user should read."""

    text: str


News: TypeAlias = Progress | Evaluated | Warned | Ended


class Pool(Protocol):
    """Takes runs by the path of their folder, and tells what becomes of them."""

    @property
    def free(self) -> int:
        """How many more runs can be started now."""

    @property
    def places(self) -> int:
        """How many runs work at once."""

    def start(self, folder: Path) -> None:
        """Let the run in `folder` work."""

    def news(self, seconds: float) -> list[tuple[Path, News]]:
        """What has happened, after at most so many seconds. The last news of a run is `Ended`."""

    def end(self, folder: Path) -> None:
        """Ask the run in `folder` to stop between two steps, with a checkpoint."""

    def stop(self) -> None:
        """Ask all runs to stop so."""

    def close(self) -> None:
        """End what still works, at once."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    place: Mapping[str, str]
    tries: int


class LocalPool:
    """Processes of this machine, one thread each.

    Args:
        places: the environment of each process that works at once, such as the GPU it sees.
        logs: a folder for what dying processes say; made if needed.

    Examples:
        >>> pool = LocalPool(local_places(jobs=3, per_gpu=1, gpus=0), Path("logs"))
        >>> pool.places, pool.free
        (3, 3)
    """

    def __init__(self, places: Sequence[Mapping[str, str]], logs: Path) -> None:
        self._all = tuple(places)
        self._free = list(places)
        self._logs = logs
        self._working: dict[Path, _Worker] = {}
        self._context: ForkServerContext | SpawnContext
        if sys.platform == "win32":
            self._context = multiprocessing.get_context("spawn")
        else:
            self._context = multiprocessing.get_context("forkserver")

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def places(self) -> int:
        return len(self._all)

    def start(self, folder: Path) -> None:
        self._start(folder, 1)

    def _start(self, folder: Path, tries: int) -> None:
        place = self._free.pop(0)
        self._logs.mkdir(parents=True, exist_ok=True)
        process, connection = self._forked(str(folder), dict(place), str(self._log(folder)))
        self._working[folder] = _Worker(process, connection, place, tries)

    def _forked(self, *arguments: Any) -> tuple[BaseProcess, Connection]:
        """A process for a run. A fork server that was killed is begun again."""
        for left in reversed(range(TRIES)):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs, *arguments))
            try:
                process.start()
                return process, ours
            except (EOFError, ConnectionError) as error:
                if not left:
                    raise UsageError("the process that starts runs was ended; is there too little memory?") from error
            finally:
                theirs.close()
        raise AssertionError("not reached")

    def news(self, seconds: float) -> list[tuple[Path, News]]:
        owners = {worker.connection: folder for folder, worker in self._working.items()}
        found: list[tuple[Path, News]] = []
        for connection in wait(list(owners), seconds):
            assert isinstance(connection, Connection)
            folder = owners[connection]
            try:
                news = connection.recv()
            except (EOFError, OSError):
                found += self._died(folder)
                continue
            found.append((folder, news))
            if isinstance(news, Ended):
                self._release(folder)
        return found

    def end(self, folder: Path) -> None:
        self._working[folder].process.terminate()

    def stop(self) -> None:
        for worker in self._working.values():
            worker.process.terminate()

    def close(self) -> None:
        for worker in self._working.values():
            worker.process.kill()
        for folder in list(self._working):
            self._release(folder)
        with suppress(OSError):
            self._logs.rmdir()

    def _died(self, folder: Path) -> list[tuple[Path, News]]:
        """A process that ended without a word is begun again; one that failed by itself is not."""
        worker = self._release(folder)
        code = worker.process.exitcode
        last = _last_line(self._log(folder))
        killed = code is not None and code < 0
        reason = f"its process was ended by signal {-(code or 0)}" if killed else f"its process ended with code {code}"
        if killed and worker.tries < TRIES:
            self._start(folder, worker.tries + 1)
            return [(folder, Warned(f"{reason}; it is begun again"))]
        return [(folder, Ended("failed", f"{reason}{': ' if last else ''}{last}"))]

    def _release(self, folder: Path) -> _Worker:
        worker = self._working.pop(folder)
        worker.process.join()
        worker.connection.close()
        self._free.append(worker.place)
        log = self._log(folder)
        with suppress(OSError):
            if log.stat().st_size == 0:
                log.unlink()
        return worker

    def _log(self, folder: Path) -> Path:
        return self._logs / f"{folder.name}.txt"


def _last_line(log: Path) -> str:
    """What a process said last; empty if it said nothing."""
    try:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(said) if line.strip()), "")


def local_places(jobs: int | None, per_gpu: int, gpus: int) -> list[dict[str, str]]:
    """The places of this machine: so many on each GPU, or one on each processor.

    Args:
        jobs: how many at most; by default as many as there are.
        per_gpu: runs that share a GPU.
        gpus: number of GPUs to use.

    >>> local_places(None, per_gpu=2, gpus=2)[1:3]
    [{'CUDA_VISIBLE_DEVICES': '1'}, {'CUDA_VISIBLE_DEVICES': '0'}]
    """
    if gpus:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else []
        names = seen or [str(number) for number in range(gpus)]
        places = [{"CUDA_VISIBLE_DEVICES": name} for _ in range(per_gpu) for name in names[:gpus]]
        return places if jobs is None else [places[n % len(places)] for n in range(jobs)]
    return [{} for _ in range(_processors() if jobs is None else jobs)]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _serve(connection: Connection, folder: str, place: Mapping[str, str], log: str) -> None:
    """The life of a process that works on one run."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.enable()
    os.environ.update(place)
    torch.set_num_threads(1)
    keep_freed_memory()
    stopping = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the study, which asks its runs to stop
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.set())
    threading.Thread(target=_end_with_the_study, daemon=True).start()

    def tell(news: News) -> None:
        with suppress(OSError):
            connection.send(news)

    warnings.showwarning = lambda message, *_: tell(Warned(str(message)))
    ended = go_on(Path(folder), tell, stopping.is_set)
    connection.send(ended)


def _end_with_the_study() -> None:
    study = multiprocessing.parent_process()
    if study is not None:
        study.join()
        os._exit(1)
