"""What a study looks like while it runs: a live table in a terminal, else a line for each run that ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from synergy.studies.conduct import Watcher
from synergy.studies.work import Ended, Progress
from synergy.terminal import screen
from synergy.terminal.output import say

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


class Lines(Watcher):
    """A line for each run that ends.

    Args:
        total: runs of the study.
        before: how many of them need no work.

    Examples:
        >>> Lines(total=3, before=1).ended("rot-digits-er-seed0", Ended("finished", None, 87.25, 3.2))
        2/3  rot-digits-er-seed0  finished, final average 87.25 %, 3.2 s
    """

    def __init__(self, total: int, before: int) -> None:
        self._total = total
        self._done = before

    def warned(self, name: str, text: str) -> None:
        say(f"{name}: warning: {text}")

    def left_out(self, count: int) -> None:
        self._done += count

    def ended(self, name: str, ended: Ended) -> None:
        self._done += 1
        width = len(str(self._total))
        say(f"{self._done:>{width}}/{self._total}  {name}  {_outcome(ended)}")


def _outcome(ended: Ended) -> str:
    if ended.status != "finished":
        return f"{ended.status}: {ended.error}"
    final = "" if ended.final is None else f", final average {ended.final:.2f} %"
    return f"finished{final}, {ended.wall_s:.1f} s"


class LiveTable(Lines):
    """A table of the runs at work below the lines of those that ended.

    Examples:
        >>> from rich.console import Console
        >>> from rich.live import Live
        >>> table = LiveTable(2, 0, Live(console=Console(quiet=True)))
        >>> table.started("er")
        >>> table.table().row_count
        2
    """

    def __init__(self, total: int, before: int, live: Live) -> None:
        super().__init__(total, before)
        self._live = live
        self._working: dict[str, tuple[float, Progress]] = {}

    def started(self, name: str) -> None:
        self._working[name] = (time.monotonic(), Progress(0, 1, 0.0))

    def progressed(self, name: str, progress: Progress) -> None:
        if name in self._working:
            self._working[name] = (self._working[name][0], progress)

    def ended(self, name: str, ended: Ended) -> None:
        self._working.pop(name, None)
        super().ended(name, ended)

    def tick(self) -> None:
        self._live.update(self.table())

    def table(self) -> Table:
        """The runs at work, and how many of the study have ended."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        room = screen.bar(self._live.console)
        table.add_column("run", overflow="ellipsis")  # names give way, numbers keep their room
        table.add_column("task", no_wrap=True)
        table.add_column("", width=room, no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        for name, (since, progress) in self._working.items():
            share = max(0.0, (progress.task - 1 + progress.done) / progress.tasks)
            bar = ProgressBar(total=1.0, completed=share, width=room)
            task = f"{progress.task}/{progress.tasks}" if progress.task else "loading"
            table.add_row(name, task, bar, f"{time.monotonic() - since:.0f} s")
        bar = ProgressBar(total=self._total, completed=self._done, width=room)
        table.add_row("all runs", f"{self._done}/{self._total}", bar, "")
        return table


@contextmanager
def watching(total: int, before: int, live: bool) -> Iterator[Watcher]:
    """The live table if `live` and rich is installed, else lines."""
    if not live or find_spec("rich") is None:
        yield Lines(total, before)
        return
    from rich.live import Live

    with Live(refresh_per_second=5, transient=True) as shown:
        yield LiveTable(total, before, shown)
