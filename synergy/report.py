"""Pictures of records. The only file that imports matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synergy.errors import UsageError, unknown
from synergy.results import Accuracies, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("pdf", "png", "svg")
COLUMNS, MOST_RUNS = 4, 40
"""Panels beside each other, and in a picture."""


def accuracy_over_time(records: Sequence[Record], path: Path) -> Path:
    """Draw, for the answer of each run, the accuracy on every task after every task.

    A panel for each run: a thin line for each task, from when it was learned on, and a thick one for the average over
    the tasks seen by then.

    Returns:
        Where the picture lies.

    Raises:
        UsageError: no run has more than one task, there are too many, the format is unknown, matplotlib is missing or
            the file cannot be written.
    """
    drawable = [record for record in records if record.accuracies and len(record.answer().matrix) > 1]
    if not 0 < len(drawable) <= MOST_RUNS:
        given = f"given {len(drawable)}; allowed: 1 to {MOST_RUNS}"
        raise UsageError(f"a picture over time shows runs that learned more than one task: {given}")
    if path.suffix[1:] not in FORMATS:
        raise unknown("picture format", path.suffix[1:], FORMATS)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("pictures need matplotlib; install it with: pip install 'synergy-cl[report]'") from error
    columns = min(len(drawable), COLUMNS)
    rows = -(-len(drawable) // columns)
    figure = Figure(figsize=(0.8 + 3.2 * columns, 3.6 * rows), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    for number, record in enumerate(drawable, start=1):
        panel = figure.add_subplot(rows, columns, number)
        _draw(panel, record)
        panel.set_ylabel("accuracy, percent" if number % columns == 1 % columns else "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise UsageError(f"cannot write the picture '{path}': {error.strerror}; name another file") from error
    return path


def _draw(panel: Axes, record: Record) -> None:
    import matplotlib

    answer = record.answer()
    tasks = range(1, len(answer.matrix) + 1)
    colours = matplotlib.colormaps["viridis"]
    per_task = len(answer.matrix[0]) == len(answer.matrix)
    for k in range(len(tasks)) if per_task else ():
        line = [_or_gap(row[k]) for row in answer.matrix[k:]]
        panel.plot(tasks[k:], line, color=colours(k / len(tasks)), linewidth=0.8, marker=".", markersize=3)
    average = _averages(answer)
    panel.plot(tasks, average, color="black", linewidth=2.2, label="average over tasks seen")
    name, scenario = record.name_of("method"), record.name_of("scenario")
    panel.set_title(f"{name} ({answer.predictor}), {scenario}\nfinal average {average[-1]:.1f} %", fontsize=9)
    panel.set_xlabel("tasks learned")
    panel.locator_params(axis="x", integer=True)
    panel.set_ylim(0, 101)
    panel.grid(alpha=0.25, linewidth=0.5)
    panel.legend(loc="lower left", fontsize=7, frameon=False)


def _or_gap(accuracy: float | None) -> float:
    """NaN where nothing was evaluated, which leaves a gap in the line."""
    return float("nan") if accuracy is None else accuracy


def _averages(answer: Accuracies) -> list[float]:
    seen = [[_or_gap(value) for value in row[: t + 1]] for t, row in enumerate(answer.matrix)]
    return [sum(row) / len(row) for row in seen]
