"""Conducts a study: which runs are left, who works on them, and what is said on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from synergy.studies.folders import Standing, StudyFolder
from synergy.studies.grid import PlannedRun
from synergy.studies.pool import Pool, Warned
from synergy.studies.work import Ended, Progress

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

    def tick(self) -> None:
        """A moment has passed."""


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
    todo: Sequence[PlannedRun],
    pool: Pool,
    watcher: Watcher,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Ended]:
    """Let all runs work. Returns how each run ended, by name; runs that were not begun are left out.

    Raises:
        UsageError: the folder cannot be written.
    """
    waiting = list(todo)
    working: dict[Path, str] = {}
    ended: dict[str, Ended] = {}
    stopped = False
    try:
        while working or (waiting and not stopped):
            while waiting and pool.free and not stopped:
                run = waiting.pop(0)
                path = folder.begin(run)
                working[path] = run.name
                pool.start(path)
                watcher.started(run.name)
            for path, news in pool.news(LOOK_SECONDS):
                name = working[path]
                if isinstance(news, Ended):
                    del working[path]
                    ended[name] = news
                    watcher.ended(name, news)
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
    return ended
