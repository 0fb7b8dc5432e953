"""The commands that train: run, resume. Each takes its arguments and returns an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from synergy.terminal import screen
from synergy.terminal.output import complain, say
from synergy.terminal.parser import Parser, run_config

if TYPE_CHECKING:  # help is printed without torch
    from synergy.runs.prepare import Prepared
    from synergy.runs.records import Record
    from synergy.runs.training import Training
    from synergy.terminal.console import Progress

FAILED_EXIT, INTERRUPTED_EXIT = 1, 130


def run(arguments: list[str]) -> int:
    """`synergy run`: train, evaluate, leave a record."""
    config = run_config(arguments)
    from synergy.device import keep_freed_memory
    from synergy.runs.prepare import prepare
    from synergy.runs.session import execute
    from synergy.terminal import console

    keep_freed_memory()
    prepared = prepare(config, console.passing_backbone(say))
    say(console.opening(prepared))
    if hint := console.tuned_values_hint(config):
        say(hint)
    say("")
    progress = _progress(prepared)
    with stopping_on_interrupt() as should_stop:
        record, folder = execute(prepared, progress, should_stop)
    return _close(record, folder, prepared.method.remarks())


def resume(arguments: list[str]) -> int:
    """`synergy resume`: go on with a run that was stopped."""
    parser = Parser("synergy resume", description="Go on with a run from its newest good checkpoint.")
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parsed = parser.parse_strictly(arguments)
    from synergy.device import keep_freed_memory
    from synergy.runs.resume import reopened
    from synergy.terminal import console

    keep_freed_memory()
    with stopping_on_interrupt() as should_stop, reopened(Path(parsed.run)) as run:
        prepared, training = run.session.prepared, run.session.training
        say(console.opening(prepared))
        for reason in run.skipped:
            say(f"skipped: {reason}")
        say(console.reopening(run))
        say("")
        progress = _progress(prepared, training)
        record, folder = run.session.proceed(progress, should_stop)
    return _close(record, folder, prepared.method.remarks())


def _progress(prepared: Prepared, training: Training | None = None) -> Progress:
    """What shows a run on its way, from its beginning or from where `training` stands."""
    from synergy.terminal.console import Progress
    from synergy.terminal.pace import Pace

    schedule, scenario = prepared.schedule, prepared.scenario
    tasks = schedule.tasks(scenario)
    done, first = (0, 0) if training is None else (training.steps, training.task)
    evaluations = tasks - first + (training is None or not training.baseline)
    pace = Pace([schedule.steps(scenario.task(index)) for index in range(tasks)], done, evaluations=evaluations)
    config = prepared.config
    config = replace(config, training=replace(config.training, device=prepared.device.type))
    shown = screen.rich_console() if screen.is_terminal() else None
    if shown is not None:
        from synergy.terminal.run_table import LiveRun

        return LiveRun(shown, n_tasks=tasks, say=say, quiet=True, first=first, pace=pace, config=config)
    return Progress(tasks, say, not sys.stderr.isatty(), first, pace=pace, config=config)


def _close(record: Record, folder: Path, remarks: Sequence[str]) -> int:
    """Say how a run ended, and what the method remarks about its answers. Returns the exit code."""
    from synergy.runs.folder import shell_word
    from synergy.terminal import console

    say("")
    say(console.closing(record))
    for remark in remarks:
        say(f"\nnote: {remark}")
    say(f"\nrecord: {folder / 'record.json'}")
    if record.status == "finished":
        return 0
    resumable = record.status == "interrupted" and "checkpoint_every" in record.config["output"]
    hint = f"; go on with: synergy resume {shell_word(folder)}" if resumable else ""
    complain(f"run {record.status}: {record.error}{hint}")
    return FAILED_EXIT if record.status == "failed" else INTERRUPTED_EXIT


@contextmanager
def stopping_on_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM asks the run to stop between two steps; the second one ends it at once."""
    asked = False
    signals = (signal.SIGINT, signal.SIGTERM)

    def ask(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield lambda: asked
    finally:
        restore()
