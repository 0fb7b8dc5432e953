"""What a run looks like in a terminal that can show it: a live table of its tasks, with a bar for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from synergy.runs.evaluate import Evaluations
from synergy.terminal import screen
from synergy.terminal.console import Progress, averages
from synergy.terminal.pace import duration
from synergy.types import Task

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table

    from synergy.types import ProtocolName

REDRAW_SECONDS = 0.2


class LiveRun(Progress):
    """A row for each task, and a line about the whole run below. At the end the table stays.

    Args:
        shown: the terminal.
        options: of `Progress`.

    Examples:
        >>> from rich.console import Console
        >>> from synergy.runs.evaluate import Evaluation
        >>> run = LiveRun(Console(quiet=True), n_tasks=2, say=print, quiet=True)
        >>> run.task_ended(0, {("working", "class-IL"): Evaluation((90.0, 10.0), {}, None)})
        >>> run.table().row_count, len(run.table().columns)
        (1, 3)
    """

    def __init__(self, shown: Console, *, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        super().__init__(**options)
        self._shown = shown
        self._clock = clock
        self._live: Live | None = None
        self._rows: dict[int, dict[tuple[str, ProtocolName], str]] = {}
        self._current: int | None = None
        self._steps = self._done = 0
        self._losses: dict[str, float] = {}
        self._drawn_at = -REDRAW_SECONDS

    def task_begins(self, task: Task, steps: int, done: int) -> None:
        from rich.live import Live

        if self._live is None:
            self._say("average accuracy over the tasks seen so far, percent")
            self._live = Live(console=self._shown, auto_refresh=False, transient=True)
            self._live.start()
        if self._pace is not None:
            self._pace.task_begins()
        self._current, self._steps, self._done = task.index, steps, done
        self._losses = {}
        self._draw()

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        self._done += new_steps
        self._losses = losses
        if self._pace is not None:
            self._pace.looked(step, new_steps)
            self._tell(self._pace)
        if self._done >= self._steps or self._clock() - self._drawn_at >= REDRAW_SECONDS:
            self._draw()

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        self._rows[index] = averages(index, evaluations)
        self._current = None
        self._draw()

    def close(self) -> None:
        """Take the live table away, and leave what is known of all tasks."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            if self._rows:
                self._shown.print(self.table())

    def table(self, most: int | None = None) -> Table:
        """The tasks that ended, the last `most` of them, and the one that is learned."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        keys = list(dict.fromkeys(key for row in self._rows.values() for key in row))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("task", style="cyan", no_wrap=True, justify="right")
        room = screen.bar(self._shown)
        table.add_column("", width=room, no_wrap=True)
        for predictor, protocol in keys:
            table.add_column(f"{protocol} {predictor}", justify="right")
        for index, row in list(self._rows.items())[-most if most else 0 :]:
            bar = ProgressBar(total=1.0, completed=1.0, width=room)
            cells = (Text(row.get(key, "-")) for key in keys)
            table.add_row(f"{index + 1}/{self._n_tasks}", bar, *cells)
        if self._current is not None:
            bar = ProgressBar(total=max(1, self._steps), completed=self._done, width=room, complete_style="cyan")
            table.add_row(f"{self._current + 1}/{self._n_tasks}", bar, *[""] * len(keys))
        return table

    def _draw(self) -> None:
        if self._live is not None:
            self._drawn_at = self._clock()
            self._live.update(self._view(), refresh=True)

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        parts = []
        if self._current is not None:
            parts.append("evaluating" if self._done >= self._steps else f"step {self._done:,} of {self._steps:,}")
        left = None if self._pace is None else self._pace.seconds_left()
        if left is not None:
            parts.append(f"whole run: {duration(left)} left")
        parts += [f"{name} {value:.3f}" for name, value in self._losses.items()]
        line = Text(", ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")
        return Group(self.table(max(1, self._shown.height - 6)), line)
