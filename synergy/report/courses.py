"""How a metric went from task to task: one run, and a group of runs with its interval over seeds."""

from __future__ import annotations

from collections.abc import Sequence

from synergy.report.groups import Choice, Group
from synergy.report.statistics import Interval, mean_interval
from synergy.runs.metrics import METRICS, transfers_forward
from synergy.runs.records import Accuracies, Record


def course(record: Record, accuracies: Accuracies, choice: Choice) -> list[float | None]:
    """The chosen metric after each task, as if the run had ended there, `[T]`.

    None where it is not defined. A metric that is no function of the accuracy matrix has a value at the end alone.
    """
    after = [None] * (len(accuracies.matrix) - 1)
    metric = next((metric for metric in METRICS if metric.name == choice.metric), None)
    if metric is None:
        return [*after, choice.of(accuracies)]
    baseline = accuracies.baseline if transfers_forward(accuracies.protocol, record.task_classes) else ()
    values = []
    for t in range(1, len(accuracies.matrix) + 1):
        part = [row[:t] for row in accuracies.matrix[:t]]
        values.append(metric.formula(part, baseline[:t] if len(part[0]) == t else baseline))
    return values


def group_course(group: Group, choice: Choice) -> list[Interval | None]:
    """Mean and interval over seeds of the metric after each task, `[T]`; None after a task where a run lacks it."""
    held = [(record, choice.accuracies(record)) for record in group.runs.values()]
    courses = [course(record, accuracies, choice) for record, accuracies in held if accuracies is not None]
    if not courses:
        return []
    return [_interval([each[t] for each in courses]) for t in range(min(map(len, courses)))]


def _interval(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return mean_interval(known) if len(known) == len(values) else None
