"""Conducts a study: which runs are left, who works on them, and what is said on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from synergy.studies.folders import Standing, StudyFolder
from synergy.studies.grid import PlannedRun
from synergy.studies.pool import Pool, Warned
from synergy.studies.work import Ended, Evaluated, Progress

LOOK_SECONDS = 0.2


class Watcher:
    """Is told how a study goes. By default it does nothing.

    Examples:
        >>> Watcher().started("rot-digits-er-seed0")
    """

    def started(self, name: str) -> None:
        """A run works."""

    def progressed(self, name: str, progress: Progress) -> None:
        """A working run came further."""

    def warned(self, name: str, text: str) -> None:
        """A run said something that its user should read."""

    def ended(self, name: str, ended: Ended) -> None:
        """A run works no more."""

    def left_out(self, count: int) -> None:
        """So many runs need no work after all."""

    def tick(self) -> None:
        """A moment has passed."""


class Work(Protocol):
    """Says which run comes next. Runs are named by their folders."""

    def take(self) -> PlannedRun | None:
        """The next run; None if there is none before another one has ended."""

    def evaluated(self, name: str, news: Evaluated) -> bool:
        """A run was evaluated after a task. Returns whether it shall go on."""

    def ended(self, name: str, ended: Ended) -> Ended:
        """A run works no more. Returns how that is told."""

    def saved(self) -> int:
        """How many runs turned out to need no work since the last time this was asked."""


class Queue:
    """Runs one after the other, to their ends.

    Examples:
        >>> Queue(()).take() is None
        True
    """

    def __init__(self, runs: Iterable[PlannedRun]) -> None:
        self._waiting = deque(runs)

    def take(self) -> PlannedRun | None:
        return self._waiting.popleft() if self._waiting else None

    def evaluated(self, name: str, news: Evaluated) -> bool:
        return True

    def ended(self, name: str, ended: Ended) -> Ended:
        return ended

    def saved(self) -> int:
        return 0


@dataclass(frozen=True)
class Left:
    """The runs of a study by what is to be done with them."""

    done: tuple[Standing, ...]
    failed: tuple[Standing, ...]
    todo: tuple[Standing, ...]


def left(standings: Iterable[Standing], retry_failed: bool = False) -> Left:
    """What is to be done: runs that failed are left alone unless they are asked for."""
    each = tuple(standings)
    failed = tuple(s for s in each if s.state == "failed" and not retry_failed)
    done = tuple(s for s in each if s.state == "finished")
    return Left(done, failed, tuple(s for s in each if s not in done and s not in failed))


def conduct(
    folder: StudyFolder,
    work: Work,
    pool: Pool,
    watcher: Watcher,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Ended]:
    """Let all runs work. Returns how each run ended, by name; runs that were not begun are left out.

    Raises:
        UsageError: the folder cannot be written.
    """
    working: dict[Path, str] = {}
    ended: dict[str, Ended] = {}
    stopped = False
    try:
        while True:
            while pool.free and not stopped and (run := work.take()) is not None:
                path = folder.begin(run)
                working[path] = run.name
                pool.start(path)
                watcher.started(run.name)
            watcher.left_out(work.saved())
            if not working:
                return ended
            for path, news in pool.news(LOOK_SECONDS):
                name = working[path]
                if isinstance(news, Ended):
                    del working[path]
                    ended[name] = work.ended(name, news)
                    watcher.ended(name, ended[name])
                elif isinstance(news, Evaluated):
                    if not work.evaluated(name, news):
                        pool.end(path)
                elif isinstance(news, Progress):
                    watcher.progressed(name, news)
                elif isinstance(news, Warned):
                    watcher.warned(name, news.text)
            watcher.tick()
            if should_stop() and not stopped:
                stopped = True
                pool.stop()
    finally:
        pool.close()
