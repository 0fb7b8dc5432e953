"""Metrics of continual learning: pure functions of the accuracy matrix.

The matrix `A` has a row per learned task and a column per test split: `A[t, k]` is the accuracy in percent on split `k`
after task `t`, both counted from 0; NaN (or None) means that it was not evaluated. If there are as many columns as
rows, column `k` belongs to task `k`. A stream with one test split (MNIST-360, GCIL) has one column.

Results are in percent, differences in percentage points. A metric that a matrix does not define is None: a metric that
compares tasks needs at least two tasks and a column for each, and all entries in its formula.

Sources:
    Rebuffi et al. 2017, *iCaRL: Incremental Classifier and Representation Learning* (average over time).
    Lopez-Paz and Ranzato 2017, *Gradient Episodic Memory for Continual Learning* (backward and forward transfer).
    Chaudhry et al. 2018, *Riemannian Walk for Incremental Learning* (average accuracy, forgetting).
    Sarfraz et al. 2022, *SYNERgy between SYNaptic consolidation and Experience Replay for general continual learning*
    (plasticity, stability and their trade-off).
    Guo et al. 2017, *On Calibration of Modern Neural Networks* (expected calibration error).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synergy.errors import UsageError
from synergy.types import ProtocolName

Floats: TypeAlias = NDArray[np.float64]
Matrix: TypeAlias = Floats | Sequence[Sequence[float | None]]
"""Accuracies in percent, `[T, K]`; NaN or None: not evaluated."""

Vector: TypeAlias = NDArray[Any] | Sequence[float]


def average_after(matrix: Matrix, t: int) -> float | None:
    """Average accuracy after task `t` over the splits seen by then: mean of `A[t, k]` over `k <= min(t, K - 1)`.

    Chaudhry et al. 2018. Range 0 to 100.

    Raises:
        UsageError: there is no row `t`.
    """
    accuracy = _as_matrix(matrix)
    if not 0 <= t < len(accuracy):
        raise UsageError(f"average after task {t}: the matrix has rows for {len(accuracy)} tasks, counted from 0")
    return _mean(accuracy[t, : t + 1])


def final_average(matrix: Matrix) -> float | None:
    """What is known at the end: mean over `k` of `A[T-1, k]`.

    A run that was stopped ends with the last task it finished. Range 0 to 100.
    """
    last = len(_as_matrix(matrix)) - 1
    return None if last < 0 else average_after(matrix, last)


def average_over_time(matrix: Matrix) -> float | None:
    """Average accuracy over time, "AAA": mean over `t` of the mean over `k <= t` of `A[t, k]`.

    Rebuffi et al. 2017, who call it average incremental accuracy. Range 0 to 100.
    """
    accuracy = _as_matrix(matrix)
    return _mean(np.array([_mean(row[: t + 1]) for t, row in enumerate(accuracy)], dtype=np.float64))


def forgetting(matrix: Matrix) -> float | None:
    """What was known and is lost at the end: mean over `k < T-1` of `max_{k <= t < T-1} A[t, k] - A[T-1, k]`.

    Chaudhry et al. 2018, who also count rows before task `k` (`t < k`). Range -100 to 100, lower is better; negative
    where the last task made earlier ones better.
    """
    accuracy = _per_task(matrix)
    if accuracy is None:
        return None
    last = len(accuracy) - 1
    best = np.array([accuracy[k:last, k].max() for k in range(last)])
    return _mean(best - accuracy[last, :last])


def backward_transfer(matrix: Matrix) -> float | None:
    """What later tasks did to earlier ones: mean over `k < T-1` of `A[T-1, k] - A[k, k]`.

    Lopez-Paz and Ranzato 2017. Range -100 to 100, higher is better.
    """
    accuracy = _per_task(matrix)
    return None if accuracy is None else _mean((accuracy[-1] - accuracy.diagonal())[:-1])


def forward_transfer(matrix: Matrix, baseline: Vector) -> float | None:
    """What earlier tasks did for one not yet learned: mean over `k >= 1` of `A[k-1, k] - baseline[k]`.

    Lopez-Paz and Ranzato 2017. Range -100 to 100, higher is better. Left out under class-IL (see `transfers_forward`).

    Args:
        baseline: accuracies of the untrained network in percent, `[K]`; empty if they were not measured.

    Raises:
        UsageError: the baseline has another length than a row of the matrix.
    """
    accuracy, untrained = _per_task(matrix), np.asarray(baseline, dtype=np.float64)
    if accuracy is None or untrained.size == 0:
        return None
    if untrained.shape != accuracy.shape[1:]:
        raise UsageError(f"baseline: given {untrained.size} accuracies for {accuracy.shape[1]} test splits")
    return _mean(accuracy.diagonal(offset=1) - untrained[1:])


def transfers_forward(protocol: ProtocolName, task_classes: Sequence[Sequence[int]]) -> bool:
    """Whether forward transfer tells methods apart: False under class-IL if every class belongs to one task.

    A network answers with classes it was trained on. There `A[k-1, k]` is 0 whatever learns, and forward transfer is
    minus the accuracy of the untrained network.
    """
    classes = [label for task in task_classes for label in task]
    return protocol != "class-IL" or len(set(classes)) < len(classes)


def plasticity(matrix: Matrix) -> float | None:
    """How well each task was learned when it came: mean over `k` of `A[k, k]`.

    Sarfraz et al. 2022. Range 0 to 100.
    """
    accuracy = _per_task(matrix)
    return None if accuracy is None else _mean(accuracy.diagonal())


def stability(matrix: Matrix) -> float | None:
    """How well earlier tasks are known at the end: mean over `k < T-1` of `A[T-1, k]`.

    Sarfraz et al. 2022. Range 0 to 100.
    """
    accuracy = _per_task(matrix)
    return None if accuracy is None else _mean(accuracy[-1, :-1])


def trade_off(matrix: Matrix) -> float | None:
    """Harmonic mean of plasticity `P` and stability `S`: `2PS / (P + S)`, and 0 if both are 0.

    Sarfraz et al. 2022. Range 0 to 100.
    """
    learned, kept = plasticity(matrix), stability(matrix)
    if learned is None or kept is None:
        return None
    return 2 * learned * kept / (learned + kept) if learned + kept > 0 else 0.0


@dataclass(frozen=True)
class Metric:
    """A number that sums up a run.

    Attributes:
        name: its key in a record.
        title: its name in a table.
        formula: from the accuracy matrix `[T, K]` and the baseline `[K]` to a value, or None where it is not defined.
        unit: of the value. A difference of percentages is in percentage points, which tables call percent too.
        lower_is_better: whether the best value is the lowest.

    Examples:
        >>> metric = METRICS[0]
        >>> metric.title
        'final average'
        >>> metric.formula([[90.0, 10.0], [60.0, 80.0]], [])
        70.0
    """

    name: str
    title: str
    formula: Callable[[Matrix, Vector], float | None]
    unit: str = "percent"
    lower_is_better: bool = False


METRICS = (
    Metric("final_average", "final average", lambda matrix, _: final_average(matrix)),
    Metric("average_over_time", "average over time", lambda matrix, _: average_over_time(matrix)),
    Metric("forgetting", "forgetting", lambda matrix, _: forgetting(matrix), lower_is_better=True),
    Metric("backward_transfer", "backward transfer", lambda matrix, _: backward_transfer(matrix)),
    Metric("forward_transfer", "forward transfer", forward_transfer),
    Metric("plasticity", "plasticity", lambda matrix, _: plasticity(matrix)),
    Metric("stability", "stability", lambda matrix, _: stability(matrix)),
    Metric("trade_off", "trade-off", lambda matrix, _: trade_off(matrix)),
)
"""All metrics of the accuracy matrix, in the order of a table."""


def summary(matrix: Matrix, baseline: Vector) -> dict[str, float]:
    """All metrics that are defined for the matrix, by name, in percent.

    Args:
        baseline: accuracies of the untrained network in percent, `[K]`; empty if they were not measured.

    Raises:
        UsageError: the baseline has another length than a row of the matrix.
    """
    values = {metric.name: metric.formula(matrix, baseline) for metric in METRICS}
    return {name: value for name, value in values.items() if value is not None}


def titles(names: Iterable[str]) -> dict[str, str]:
    """The title of each metric that a record holds, by name, in the order of a table.

    The metrics of `METRICS` come first. Other metrics follow in alphabetical order; their titles are their names with
    spaces.

    >>> titles(["published_final", "trade_off", "forgetting"])
    {'forgetting': 'forgetting', 'trade_off': 'trade-off', 'published_final': 'published final'}
    """
    held = set(names)
    known = {metric.name: _title(metric) for metric in METRICS if metric.name in held}
    return known | {name: name.replace("_", " ") for name in sorted(held - known.keys())}


def is_lower_better(name: str) -> bool:
    """Whether the best value of a metric, by its key in a record, is the lowest. Unknown metrics are better if higher.

    >>> is_lower_better("forgetting"), is_lower_better("calibration_error"), is_lower_better("published_final")
    (True, True, False)
    """
    return name == "calibration_error" or any(metric.name == name and metric.lower_is_better for metric in METRICS)


def _title(metric: Metric) -> str:
    return metric.title if metric.unit == "percent" else f"{metric.title}, {metric.unit}"


def expected_calibration_error(confidence_sum: Vector, correct: Vector, count: Vector) -> float | None:
    """Gap of confidence and accuracy in bins of confidence: `100 * sum_b (n_b / n) * abs(confidence_b - accuracy_b)`.

    Bin `b` holds `n_b` of `n` predictions. Guo et al. 2017. Range 0 to 100, lower is better; None if
    there are no predictions.

    Args:
        confidence_sum: sum of the confidences (0 to 1) of the predictions in each bin, `[bins]`.
        correct: how many of them are right, `[bins]`.
        count: how many there are, `[bins]`.

    Raises:
        UsageError: the three do not have the same length.
    """
    confident, right, total = (np.asarray(v, dtype=np.float64) for v in (confidence_sum, correct, count))
    if not confident.shape == right.shape == total.shape:
        raise UsageError(f"calibration: given {confident.size}, {right.size} and {total.size} bins; allowed: as many")
    if total.sum() == 0:
        return None
    # The size of a bin cancels: n_b * |mean confidence - accuracy| = |sum of confidences - number of right ones|.
    return float(100 * np.abs(confident - right).sum() / total.sum())


def _as_matrix(matrix: Matrix) -> Floats:
    accuracy = np.asarray(matrix, dtype=np.float64)
    if accuracy.size == 0:
        return accuracy.reshape(0, 0)
    if accuracy.ndim != 2:
        raise UsageError(f"accuracy matrix: given {accuracy.ndim} dimensions; allowed: 2 (tasks, test splits)")
    return accuracy


def _per_task(matrix: Matrix) -> Floats | None:
    """The matrix if it has at least two tasks and a column for each, else None."""
    accuracy = _as_matrix(matrix)
    tasks, splits = accuracy.shape
    return accuracy if tasks == splits and tasks > 1 else None


def _mean(values: Floats) -> float | None:
    """The mean if there are values and all were evaluated, else None."""
    return None if values.size == 0 or np.isnan(values).any() else float(values.mean())
