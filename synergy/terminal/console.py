"""Runs and records as plain text for a terminal. The command line prints it."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Never

import numpy as np
from tqdm import tqdm

from synergy import presets
from synergy.device import device_name
from synergy.errors import counted
from synergy.runs.config import RunConfig
from synergy.runs.evaluate import Evaluations
from synergy.runs.listeners import Listener
from synergy.runs.metrics import titles
from synergy.runs.prepare import Prepared
from synergy.runs.records import Accuracies, Record
from synergy.terminal import screen
from synergy.terminal.pace import Pace, duration
from synergy.types import ProtocolName, Task

if TYPE_CHECKING:
    from synergy.runs.resume import Reopened

NO_FORWARD_TRANSFER = "no forward transfer under class-IL: before its task a class is never the answer, whatever learns"

WIDTH = 100
"""Characters of a line in a paragraph, at most; a table is as wide as its cells."""
MARGIN, LEAST = 13, 40
"""Characters of what stands before a paragraph, and of a line in a narrow terminal."""

PASSING_EVERY = 30.0
"""Seconds between two lines about a pass of a frozen backbone."""


def opening(prepared: Prepared) -> str:
    """The block before training: scenario, data, method, network, and the origin of every value."""
    config, source = prepared.config, prepared.source
    values = config.as_mapping()
    data = f"{source.name} ({source.origin}): {source.train_samples} training, {source.test_samples} "
    data += "held-out samples" if config.training.validation else "test samples"
    data += "" if source.complete or config.training.validation else ", a part of the published data set"
    tasks, epochs = counted(prepared.scenario.n_tasks, "task"), counted(prepared.schedule.n_epochs, "epoch")
    lines = {
        "scenario": f"{config.scenario_name}, {tasks}{_listed(values['scenario'])}",
        "protocol": ", ".join(prepared.scenario.protocols),
        "data": data,
        "method": f"{config.method_name}{_listed(values['method'])}",
        "net": f"{config.net_name}{_listed(values['net'])}, {prepared.n_parameters:,} parameters",
        "training": f"{epochs}, batch size {config.training.batch_size}" + ", partial" * config.partial,
        "device": ", ".join([device_name(prepared.device), *_means(config)]),
        "seed": str(config.training.seed),
        "values from": _origins(config.provenance),
    }
    return "\n".join(_paragraphs(name, text) for name, text in lines.items())


def _means(config: RunConfig) -> list[str]:
    """How a run computes: its precision and memory layout."""
    training = config.training
    return [str(training.precision), str(training.memory_format).replace("_", " ")]


def passing_backbone(say: Callable[[str], None]) -> Callable[[int, int], None]:
    """Tells how far the samples have passed a frozen backbone: every half minute, and at the end."""
    began = last = time.monotonic()

    def passed(done: int, total: int) -> None:
        nonlocal began, last
        now = time.monotonic()
        if not done:
            began = last = now
        elif done == total:
            say(f"features     {total:,} samples have passed the backbone, in {duration(now - began)}")
        elif now - last >= PASSING_EVERY:
            left = duration((now - began) / done * (total - done))
            say(f"features     {done:,} of {total:,} samples have passed the backbone, {left} left")
            last = now

    return passed


def tuned_values_hint(config: RunConfig) -> str:
    """A line about tuned values; empty if the run uses them, or if there are none."""
    if config.training.features is not None or any(of.startswith("preset") for of in config.provenance.values()):
        return ""
    found = presets.available(config.scenario_name, config.method_name)
    if not found:
        return ""
    sizes = sorted({preset.buffer_size for preset in found if preset.buffer_size is not None})
    of_sizes = f" for --buffer_size {', '.join(map(str, sizes))}" if sizes else ""
    return _paragraphs("hint", f"tuned values exist{of_sizes}; --load_best_args takes them")


def reopening(run: Reopened) -> str:
    """The place from which a run goes on."""
    training = run.session.training
    tasks = training.schedule.tasks(training.scenario)
    if run.checkpoint is None:
        return "no checkpoint that could be used: starts again from the beginning"
    return f"goes on after step {training.steps}, {len(training.evaluations)} of {tasks} tasks done: {run.checkpoint}"


def _paragraphs(name: str, text: str) -> str:
    """`name`, and to its right the lines of `text`, broken between words."""
    width = min(WIDTH, max(LEAST, (screen.columns() or LEAST + WIDTH) - MARGIN))
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width, break_on_hyphens=False)]
    margin = [name, *[""] * (len(lines) - 1)]
    return "\n".join(f"{screen.name(f'{left:<{MARGIN}}')}{line}" for left, line in zip(margin, lines, strict=True))


def _listed(options: Mapping[str, object]) -> str:
    return "".join(f", {name}={value}" for name, value in options.items() if name not in ("name", "n_tasks"))


def _origins(provenance: Mapping[str, str]) -> str:
    """A line for each origin with its options; plain defaults are one line."""
    by_origin: dict[str, list[str]] = {}
    for name, origin in provenance.items():
        by_origin.setdefault(origin, []).append(name)
    by_origin["default"] = ["all else"]
    ordered = sorted(by_origin, key=lambda origin: (origin.startswith("default"), origin != "default", origin))
    return "\n".join(f"{origin}: {', '.join(by_origin[origin])}" for origin in ordered)


def averages(index: int, evaluations: Evaluations) -> dict[tuple[str, ProtocolName], str]:
    """The average accuracy over the tasks up to `index`, percent, of every predictor under every protocol."""
    # The same arithmetic as in the metrics: the last line and the table show the same digits.
    return {key: f"{np.mean(each.accuracies[: index + 1]):.2f}" for key, each in evaluations.items()}


class Progress(Listener):
    """A bar for each task, and a line with the average accuracies after it.

    Args:
        n_tasks: of the run.
        say: prints a line.
        quiet: no bar, as when the output is not a terminal.
        first: task of the run, or of what is left of it.
        pace: measures the run, for the time that is left of it.
        config: of the run, for advice on a long one.

    Examples:
        >>> from synergy.runs.evaluate import Evaluation
        >>> progress = Progress(n_tasks=2, say=print, quiet=True)
        >>> progress.task_ended(0, {("working", "class-IL"): Evaluation((90.0, 10.0), {}, None)})
        task 1/2  class-IL: working 90.00
    """

    def __init__(
        self,
        n_tasks: int,
        say: Callable[[str], None],
        quiet: bool,
        first: int = 0,
        *,
        pace: Pace | None = None,
        config: RunConfig | None = None,
    ) -> None:
        self._pace = pace
        self._config = config
        self._n_tasks = n_tasks
        self._say = say
        self._quiet = quiet
        self._first = first
        self._bar: tqdm[Never] | None = None

    def task_begins(self, task: Task, steps: int, done: int) -> None:
        if task.index == self._first:
            self._say("average accuracy over the tasks seen so far, percent")
        if self._pace is not None:
            self._pace.task_begins()
        name = f"task {task.index + 1}/{self._n_tasks}"
        self._bar = tqdm(
            total=steps, initial=done, desc=name, unit="step", disable=self._quiet, leave=False, file=sys.stderr
        )

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        shown = {name: f"{value:.3f}" for name, value in losses.items()}
        if self._pace is not None:
            self._pace.looked(step, new_steps)
            self._tell(self._pace)
            if (left := self._pace.seconds_left()) is not None:
                shown = {"whole run": f"{duration(left)} left", **shown}
        if self._bar is not None:
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(new_steps)

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        self.close()
        width = len(str(self._n_tasks))
        by_protocol: dict[str, list[str]] = {}
        for (predictor, protocol), average in averages(index, evaluations).items():
            by_protocol.setdefault(protocol, []).append(f"{predictor} {average}")
        text = "   ".join(f"{protocol}: {', '.join(each)}" for protocol, each in by_protocol.items())
        self._say(f"task {index + 1:>{width}}/{self._n_tasks}  {text or 'no answer before the last task'}")

    def evaluated(self, seconds: float, of_task: bool) -> None:
        if self._pace is not None:
            self._pace.evaluated(seconds)

    def _tell(self, pace: Pace) -> None:
        """Say how long the run will take, when there is news."""
        if line := pace.line():
            if self._bar is not None:
                self._bar.clear()
            self._say("\n".join([line, *(pace.advice(self._config) if self._config is not None else ())]))

    def close(self) -> None:
        """Remove the bar, also in the middle of a task."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def closing(record: Record) -> str:
    """The accuracy matrix of the answer, the metrics of every predictor, time and memory."""
    if not record.accuracies:
        return "nothing was evaluated"
    measured = record.measured
    cost = (
        f"{counted(record.steps, 'step')} in {measured.train_s:.1f} s ({measured.steps_per_s:.0f} steps/s), "
        f"evaluation {measured.evaluate_s:.1f} s, peak memory {measured.peak_memory_mb:.0f} MB"
    )
    return "\n\n".join([matrix(record.answer()), metrics(record), screen.fit(cost)])


def matrix(accuracies: Accuracies) -> str:
    """Accuracy on each task seen (columns) after each task (rows).

    A terminal gets as many columns as it has room for: whole percents first, then the newest tasks only.
    """
    n = min(len(accuracies.matrix[0]), len(accuracies.matrix))
    title = f"accuracy of '{accuracies.predictor}' ({accuracies.protocol}), percent: task (column) after task (row)"
    title = screen.fit(title)
    if (width := screen.columns()) is not None and len(f"  {n}") + 7 * n > width:
        return f"{title}\n{_narrow(accuracies.matrix, n, width)}"
    rows = [["", *(str(k + 1) for k in range(n))]]
    for t, row in enumerate(accuracies.matrix):
        rows.append([str(t + 1), *(_number(value, 1) if k <= t else "" for k, value in enumerate(row[:n]))])
    return f"{title}\n{screen.table(rows)}"


def _narrow(values: Sequence[Sequence[float | None]], n: int, width: int) -> str:
    """The matrix in whole percents, with the newest tasks that fit."""
    shown = [[_number(value, 0) if k <= t else "" for k, value in enumerate(row[:n])] for t, row in enumerate(values)]
    cell = 1 + max(len(str(n)), *(len(number) for row in shown for number in row))
    margin = len(f"  {n}")
    first = max(0, n - max(1, (width - margin) // cell))
    rows = ["".join([" " * margin, *(f"{k + 1:>{cell}}" for k in range(first, n))])]
    for t, row in enumerate(shown):
        rows.append("".join([f"{t + 1:>{margin}}", *(f"{number:>{cell}}" for number in row[first:])]).rstrip())
    left_out = [f"  without tasks 1 to {first}, for want of room"] if first else []
    return "\n".join([*rows, *left_out])


def metrics(record: Record) -> str:
    """A line for each metric, a column for each predictor and protocol."""
    rows = [["metric, percent", *(f"{each.predictor}, {each.protocol}" for each in record.accuracies)]]
    for name, title in _held([record]).items():
        rows.append([title, *(_number(each.metrics.get(name)) for each in record.accuracies)])
    rows.append(["calibration error", *(_number(each.calibration_error) for each in record.accuracies)])
    return "\n".join([screen.table(rows), *_notes([record])])


def by_class(record: Record) -> str:
    """The answer's accuracy on each class at the end, by the class names of the data set; empty without accuracies."""
    if not record.accuracies or not record.accuracies[0].per_class:
        return ""
    answer = record.answer()
    cells = [f"{record.class_name(number)} {accuracy:.1f}" for number, accuracy in answer.per_class.items()]
    width = min(WIDTH, screen.columns() or WIDTH)
    lines = textwrap.wrap(", ".join(cells), width, initial_indent="  ", subsequent_indent="  ")
    title = f"accuracy of '{answer.predictor}' ({answer.protocol}) by class at the end, percent"
    return "\n".join([screen.fit(title), *lines])


def _held(records: Sequence[Record]) -> dict[str, str]:
    """Name and title of the metrics that at least one of the runs has."""
    return titles(name for record in records for each in record.accuracies for name in each.metrics)


def _notes(records: Sequence[Record]) -> list[str]:
    """The reasons for empty cells."""
    shown = "forward_transfer" in _held(records)
    empty = any(
        each.protocol == "class-IL" and "backward_transfer" in each.metrics and "forward_transfer" not in each.metrics
        for record in records
        for each in record.accuracies
    )
    return [screen.fit(NO_FORWARD_TRANSFER)] if shown and empty else []


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
