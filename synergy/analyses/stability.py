"""Stability and plasticity: what of each task was learned, and what of it is left at the end.

Sarfraz et al. 2022, *SYNERgy between SYNaptic consolidation and Experience Replay for general continual learning*. All
of it is in the record.
"""

from __future__ import annotations

from dataclasses import dataclass

from synergy.analyses.base import Analysis, NoOptions
from synergy.analyses.trained import TrainedRun
from synergy.errors import UsageError
from synergy.runs import metrics
from synergy.runs.findings import Chart, Description, Line, Number
from synergy.runs.records import Record


@dataclass(frozen=True)
class Balance:
    """Of one predictor, in percent.

    Attributes:
        learned: accuracy on each task right after it was learned, `[T]`.
        kept: accuracy on each task at the end, `[T]`.
        plasticity, stability, trade_off: as in `synergy.runs.metrics`.

    Examples:
        >>> Balance((90.0, 80.0), (60.0, 80.0), 85.0, 60.0, 70.3).kept
        (60.0, 80.0)
    """

    learned: tuple[float, ...]
    kept: tuple[float, ...]
    plasticity: float
    stability: float
    trade_off: float


@dataclass(frozen=True)
class Stability:
    """The balance of each predictor, by name.

    Examples:
        >>> found = Stability({"working": Balance((90.0, 80.0), (60.0, 80.0), 85.0, 60.0, 70.3)})
        >>> found.predictors["working"].stability
        60.0
    """

    predictors: dict[str, Balance]


def stability(run: TrainedRun, options: NoOptions | None = None) -> Stability:
    """What was learned and kept of each task. Raises UsageError as `stability_of` does."""
    return stability_of(run.record)


def stability_of(record: Record) -> Stability:
    """The same from a record, under the protocol of its result.

    Raises:
        UsageError: the run has not a test split for each of two or more tasks.

    Examples:
        >>> from synergy.runs.config import build
        >>> from synergy.runs.session import run
        >>> balance = stability_of(run(build("seq-digits", "sgd", {"max_tasks": 2}))).predictors["working"]
        >>> min(balance.learned) > 95, balance.kept[0]
        (True, 0.0)
    """
    protocol = record.answer().protocol
    found = {}
    for each in record.accuracies:
        if each.protocol != protocol or any(value is None for row in each.matrix for value in row):
            continue
        rows = [[value for value in row if value is not None] for row in each.matrix]
        values = [formula(rows) for formula in (metrics.plasticity, metrics.stability, metrics.trade_off)]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            found[each.predictor] = Balance(tuple(row[t] for t, row in enumerate(rows)), tuple(rows[-1]), *known)
    if not found:
        tasks, splits = len(record.answer().matrix), len(record.answer().matrix[0])
        raise UsageError(
            f"stability: given {tasks} tasks with {splits} test splits; allowed: a split for each of 2 tasks"
        )
    return Stability(found)


def described(result: Stability) -> Description:
    """What to show of the balance."""
    numbers, learned, kept = [], [], []
    for name, each in result.predictors.items():
        numbers += [
            Number("plasticity, %", name, each.plasticity),
            Number("stability, %", name, each.stability),
            Number("trade-off, %", name, each.trade_off),
        ]
        tasks = tuple(float(task + 1) for task in range(len(each.kept)))
        learned.append(Line(name, tasks, each.learned))
        kept.append(Line(name, tasks, each.kept))
    charts = (
        Chart("learned: accuracy on each task when it came", "task", "accuracy, %", tuple(learned)),
        Chart("kept: accuracy on each task at the end", "task", "accuracy, %", tuple(kept)),
    )
    return Description(tuple(numbers), charts)


ANALYSIS = Analysis("stability", "what of each task was learned, and what is left?", NoOptions, stability, described)
