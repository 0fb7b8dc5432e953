"""Pictures of records and of streams. The only file that imports matplotlib."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from synergy.disk import files
from synergy.errors import UsageError, unknown
from synergy.report.courses import group_course
from synergy.report.groups import Choice, Group
from synergy.report.statistics import Interval
from synergy.report.tables import Column, table
from synergy.runs.records import Accuracies, Record
from synergy.scenarios.base import AnyScenario
from synergy.types import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png", "svg")
MOST_NAMED = 3
"""Classes of a task that its row in a picture of a stream names."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""After Okabe and Ito: told apart with every kind of colour blindness."""
COLUMNS, MOST_RUNS = 4, 40
"""Panels beside each other, and in a picture."""


def accuracy_over_time(records: Sequence[Record], path: Path) -> Path:
    """Draw, for the answer of each run, the accuracy on every task after every task.

    A panel for each run: a thin line for each task, from when it was learned on, and a thick one for the average over
    the tasks seen by then.

    Runs that learned no more than one task are left out; a warning says so.

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
    if missing := [record.run_id for record in records if record not in drawable]:
        reason = "learned no more than one task, which has no course"
        warnings.warn(f"not in the picture: {', '.join(missing)}: {reason}", stacklevel=2)
    columns = min(len(drawable), COLUMNS)
    rows = -(-len(drawable) // columns)
    figure = _figure(path, 0.8 + 3.2 * columns, 3.6 * rows)
    most = max(len(record.answer().matrix) for record in drawable)
    panels = [figure.add_subplot(rows, columns, number + 1) for number in range(len(drawable))]
    for number, (panel, record) in enumerate(zip(panels, drawable, strict=True)):
        _draw(panel, record, most)
        panel.set_ylabel("accuracy, percent" if number % columns == 0 else "")
    if any(_is_per_task(record.answer()) for record in drawable):
        _add_key(figure, panels, most)
    return _save(figure, path)


def methods_over_time(found: Sequence[Group], choice: Choice, path: Path) -> Path:
    """Draw the chosen metric of each method after every task: the mean over seeds, and a band for its 95 % interval.

    A panel for each stream and buffer size; a method has one colour in all panels. Where the metric has one value
    alone, as on a stream of one task, a point with a bar stands for the line.

    Returns:
        Where the picture lies.

    Raises:
        UsageError: there is nothing to draw or too much, the format is unknown, matplotlib is missing or the file
            cannot be written.
    """
    content = table(found, choice)
    panels = content.columns
    if not 0 < len(panels) <= MOST_RUNS:
        raise UsageError(f"a picture of methods: given {len(panels)} streams with numbers; allowed: 1 to {MOST_RUNS}")
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    key_rows = -(-len(content.methods) // (2 * columns))
    figure = _figure(path, 0.4 + 4.6 * columns, 3.5 * rows + 0.25 * key_rows + 0.2)
    styles = {method: _style(number) for number, method in enumerate(content.methods)}
    drawn: dict[str, Any] = {}
    for number, column in enumerate(panels):
        panel = figure.add_subplot(rows, columns, number + 1)
        _draw_methods(panel, column, choice, styles, drawn)
        panel.set_ylabel(f"{choice.title}, percent" if number % columns == 0 else "")
    key = [drawn[method] for method in content.methods]
    figure.legend(key, content.methods, loc="outside lower center", ncols=2 * columns, fontsize=8, frameon=False)
    return _save(figure, path)


def _draw_methods(
    panel: Axes, column: Column, choice: Choice, styles: Mapping[str, Mapping[str, Any]], drawn: dict[str, Any]
) -> None:
    """The methods of one stream. Their handles for the key go into `drawn`."""
    courses = {method: group_course(entry.group, choice) for method, entry in column.entries.items()}
    longest = max(map(len, courses.values()))
    is_over_time = any(sum(point is not None for point in each) > 1 for each in courses.values())
    for place, (method, each) in enumerate(courses.items()):
        points = [(t + 1 if is_over_time else place, point) for t, point in enumerate(each) if point is not None]
        x, y = [t for t, _ in points], [point.value for _, point in points]
        style = dict(styles[method])
        if len(points) > 1:
            low = [point.value if point.low is None else point.low for _, point in points]
            high = [point.value if point.high is None else point.high for _, point in points]
            panel.fill_between(x, low, high, color=style["color"], alpha=0.16, linewidth=0)
        else:
            half = [point.half or 0.0 for _, point in points]
            panel.errorbar(x, y, half, color=style["color"], linewidth=1.4, capsize=3)
        (handle,) = panel.plot(x, y, linewidth=1.6, markersize=4, markevery=max(1, longest // 10), **style)
        drawn.setdefault(method, handle)
    size = "" if column.buffer_size is None else f", buffer {column.buffer_size}"
    seeds = sorted({len(entry.group.runs) for entry in column.entries.values()})
    panel.set_title(f"{column.stream}{size}\n{column.protocol}, {_range(seeds)}", fontsize=9)
    _limit(panel, courses)
    panel.grid(alpha=0.25, linewidth=0.5)
    if is_over_time:
        panel.set_xlabel("tasks learned")
        panel.locator_params(axis="x", integer=True)
    else:
        panel.set_xticks([])


def _limit(panel: Axes, courses: Mapping[str, Sequence[Interval | None]]) -> None:
    """Axis limits that fit the means; a band of two seeds may leave the panel."""
    values = [point.value for each in courses.values() for point in each if point is not None]
    room = max(1.0, 0.12 * (max(values) - min(values)))
    panel.set_ylim(min(values) - room, max(values) + room)


def _range(counts: Sequence[int]) -> str:
    """How many seeds, smallest and largest number.

    >>> _range([1]), _range([3]), _range([1, 3])
    ('1 seed', '3 seeds', '1 to 3 seeds')
    """
    count = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{count} seed" if list(counts) == [1] else f"{count} seeds"


def _style(number: int) -> Mapping[str, Any]:
    """Colour, dashes and marker of a method: eight colours that colour-blind people tell apart, then other dashes."""
    colours = len(COLOURS)
    dashes = ("-", "--", ":", "-.")[number // colours % 4]
    return {"color": COLOURS[number % colours], "linestyle": dashes, "marker": "osD^vPX*"[number % 8]}


def stream(scenario: AnyScenario, path: Path, tasks: int = 5, samples: int = 8) -> Path:
    """Draw what the first tasks of a stream look like: a row of training samples, as they come, for each task.

    Returns:
        Where the picture lies.

    Raises:
        UsageError: the format is unknown, matplotlib is missing or the file cannot be written.
    """
    shown = min(tasks, scenario.n_tasks)
    # A stream of one stretch has no tasks to show: its course does, from the first batch to the last.
    rows = [scenario.task(i).batches(0) for i in range(shown)] if shown > 1 else _course(scenario.task(0), tasks)
    figure = _figure(path, 0.95 * samples + 1.4, 1.0 * len(rows), dpi=110)
    for number, row in enumerate(rows):
        images = torch.cat([raw for raw, _ in itertools.islice(row, samples)])[:samples]
        for place, image in enumerate(images.cpu()):
            panel = figure.add_subplot(len(rows), samples, number * samples + place + 1)
            panel.imshow(image.permute(1, 2, 0).squeeze(2) if len(image) == 1 else image.permute(1, 2, 0), cmap="gray")
            panel.set_xticks([])
            panel.set_yticks([])
            if place == 0:
                text = row_label(scenario, number) if shown > 1 else f"at {100 * number // len(rows)} %"
                panel.set_ylabel(text, fontsize=12, rotation=0, ha="right", va="center", labelpad=10)
    return _save(figure, path)


def row_label(scenario: AnyScenario, number: int) -> str:
    """Number of a task, and its classes where it does not have all of them.

    Examples:
        >>> from synergy import testing
        >>> row_label(testing.scenario("seq-digits"), 1), row_label(testing.scenario("rot-digits"), 1)
        ('task 2\\n2, 3', 'task 2')
    """
    word = "task" if scenario.boundaries else "phase"
    classes = scenario.task(number).classes
    if len(classes) == scenario.n_classes:
        return f"{word} {number + 1}"
    names = scenario.setting.source.info.classes or tuple(map(str, range(scenario.n_classes)))
    few = [names[label] for label in classes] if len(classes) <= MOST_NAMED else [f"{len(classes)} classes"]
    return "\n".join([f"{word} {number + 1}", *([", ".join(few)] if all(len(name) < 3 for name in few) else few)])


def class_counts(counts: Sequence[Mapping[int, int]], n_classes: int, path: Path, title: str = "") -> Path:
    """Draw how many samples of each class every phase of a stream has, as a heat map.

    Args:
        counts: of each phase: label -> samples.
        n_classes: labels are 0 to `n_classes - 1`.
        title: above it.

    Returns:
        Where the picture lies.

    Raises:
        UsageError: as for `stream`.
    """
    figure = _figure(path, 9, 3.2)
    panel = figure.add_subplot()
    grid = [[phase.get(label, 0) for label in range(n_classes)] for phase in counts]
    image = panel.imshow(
        grid, aspect="auto", cmap="magma_r", norm="symlog", extent=(-0.5, n_classes - 0.5, len(counts) + 0.5, 0.5)
    )
    panel.locator_params(axis="y", integer=True)
    panel.set_xlabel("class (label of the source)")
    panel.set_ylabel("phase")
    panel.set_title(title, fontsize=10)
    figure.colorbar(image, ax=panel, label="samples")
    return _save(figure, path)


def _course(task: Task, rows: int) -> list[Iterator[tuple[Tensor, Tensor]]]:
    batches = len(task.order(0))
    return [task.batches(0, start=batches * row // rows) for row in range(rows)]


def check_name(name: str) -> None:
    """See whether a picture can have this name, before anything is drawn.

    Raises:
        UsageError: it is that of a folder or of no file, or ends in no format that is known.
    """
    path = Path(name)
    try:
        is_folder = name != "" and path.is_dir()
    except OSError as error:
        raise _unwritable(name, error.strerror) from error
    if is_folder:
        raise _unwritable(name, "Is a directory")
    if "\0" in name:
        raise _unwritable(name, "no path has a zero byte in it")
    if _format(path) not in FORMATS:
        raise UsageError(f"picture '{name}': {unknown('picture format', _format(path), FORMATS)}")


def _format(path: Path) -> str:
    return path.suffix[1:].lower()


def _unwritable(name: str, reason: str | None) -> UsageError:
    return UsageError(f"cannot write the picture '{name}': {reason}; name another file")


def _figure(path: Path, width: float, height: float, dpi: int = 150) -> Figure:
    """An empty figure, in inches, for a file of this name."""
    check_name(str(path))
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("pictures need matplotlib; install it with: pip install 'synergy-cl[report]'") from error
    figure = Figure(figsize=(width, height), layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = io.BytesIO()
        figure.savefig(image, format=_format(path))
        files.write_atomically(path, image.getvalue())
    except OSError as error:
        raise _unwritable(str(path), error.strerror) from error
    return path


def _draw(panel: Axes, record: Record, most: int) -> None:
    """One run; a colour for each task, the same in all panels; the longest run has `most` tasks."""
    answer = record.answer()
    tasks = range(1, len(answer.matrix) + 1)
    for k in range(len(tasks)) if _is_per_task(answer) else ():
        line = [_or_gap(row[k]) for row in answer.matrix[k:]]
        panel.plot(tasks[k:], line, color=_colours(most)(k), linewidth=0.8, marker=".", markersize=3)
    average = _averages(answer)
    panel.plot(tasks, average, color="black", linewidth=2.2, label="average over tasks seen")
    method = f"{record.name_of('method')} ({answer.predictor}, {answer.protocol}) on {record.name_of('scenario')}"
    panel.set_title(f"{_shortened(record.run_id)}\n{method}\nfinal average {average[-1]:.1f} %", fontsize=8)
    panel.set_xlabel("tasks learned")
    panel.locator_params(axis="x", integer=True)
    panel.set_ylim(0, 101)
    panel.grid(alpha=0.25, linewidth=0.5)
    panel.legend(loc="lower left", fontsize=7, frameon=False)


def _add_key(figure: Figure, panels: Sequence[Axes], most: int) -> None:
    """The colour of each task, beside the panels."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    edges = [k + 0.5 for k in range(most + 1)]
    scale = ScalarMappable(BoundaryNorm(edges, most), _colours(most))
    key = figure.colorbar(scale, ax=list(panels), label="accuracy on task (thin lines)", aspect=30, pad=0.01)
    key.ax.minorticks_off()
    key.set_ticks([tick for tick in MaxNLocator(8, integer=True).tick_values(1, most) if 1 <= tick <= most])


def _colours(most: int) -> Colormap:
    import matplotlib

    return matplotlib.colormaps["viridis"].resampled(most + 1)  # the last, a light yellow, is hard to see


def _is_per_task(answer: Accuracies) -> bool:
    """Whether each task has a test split of its own."""
    return len(answer.matrix[0]) == len(answer.matrix)


def _shortened(name: str, longest: int = 44) -> str:
    return name if len(name) <= longest else f"{name[: longest // 2]}…{name[-longest // 2 + 1 :]}"


def _or_gap(accuracy: float | None) -> float:
    """NaN where nothing was evaluated, which leaves a gap in the line."""
    return float("nan") if accuracy is None else accuracy


def _averages(answer: Accuracies) -> list[float]:
    seen = [[_or_gap(value) for value in row[: t + 1]] for t, row in enumerate(answer.matrix)]
    return [sum(row) / len(row) for row in seen]
