"""Task-recency bias: how much of the probability goes to the classes of which task.

A network that learned the last task last tends to answer with its classes (Masana et al. 2022, *Class-Incremental
Learning: Survey and Performance Evaluation on Image Classification*, section 3). Over a test set of all tasks the
probability of a network without that bias is spread as the samples are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from synergy.analyses.base import Analysis, NoOptions
from synergy.analyses.trained import TrainedRun
from synergy.errors import UsageError
from synergy.runs.findings import Chart, Description, Grid, Line, Number

TITLE = "task-recency bias"


@dataclass(frozen=True)
class Mass:
    """Where the probability of one predictor goes, in percent.

    Attributes:
        mass: of each task's classes, mean over all test samples, `[T]`; they add up to 100.
        answers: share of the samples that are answered with a class of each task, `[T]`.
        by_task: mean mass `[T][T]`: over the test samples of task (row), of the classes of task (column).

    Examples:
        >>> Mass((40.0, 60.0), (30.0, 70.0), ((70.0, 30.0), (10.0, 90.0))).mass
        (40.0, 60.0)
    """

    mass: tuple[float, ...]
    answers: tuple[float, ...]
    by_task: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Recency:
    """The bias of each predictor.

    Attributes:
        samples: share of the test samples of each task, percent, `[T]`: the mass of a network without bias.
        predictors: by name.

    Examples:
        >>> mass = Mass((40.0, 60.0), (30.0, 70.0), ((70.0, 30.0), (10.0, 90.0)))
        >>> Recency((50.0, 50.0), {"working": mass}).samples
        (50.0, 50.0)
    """

    samples: tuple[float, ...]
    predictors: dict[str, Mass]


def recency(run: TrainedRun, options: NoOptions | None = None) -> Recency:
    """Probability mass per task over the test set, at the end of the run.

    The mass of a task is the softmax probability of all its classes together. Classes of tasks that were not learned
    stay outside.

    Raises:
        UsageError: tasks share classes, the run learned a single one, or answers are taken within a task.
    """
    classes = _classes(run)
    predictors = {}
    for name in run.predictors:
        of_splits = [mass_per_task(run.logits(name, split), classes) for split in run.splits]
        # Every split is a task, so a mean over samples weighs the tasks by their samples.
        everything = torch.cat([masses for masses, _ in of_splits])
        answers = torch.cat([answered for _, answered in of_splits]).double()
        by_task = tuple(_row(masses.mean(0)) for masses, _ in of_splits)
        predictors[name] = Mass(_row(everything.mean(0)), _row(answers.mean(0)), by_task)
    total = sum(map(len, run.splits))
    return Recency(tuple(100 * len(split) / total for split in run.splits), predictors)


def mass_per_task(logits: Tensor, classes: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """For each sample the mass of each task, and whether its answer is of that task, both `[N, T]`.

    Args:
        logits: `[N, n_classes]`.
        classes: of each task.

    Examples:
        >>> masses, answers = mass_per_task(torch.zeros(1, 4), [(0,), (1, 2)])
        >>> masses.tolist(), answers.tolist()
        ([[0.3333333333333333, 0.6666666666666666]], [[1.0, 0.0]])
    """
    learned = [label for of_task in classes for label in of_task]
    probabilities = logits[:, learned].double().softmax(1)
    owner = torch.tensor([task for task, of_task in enumerate(classes) for _ in of_task])
    masses = probabilities.new_zeros(len(logits), len(classes)).index_add_(1, owner, probabilities)
    answers = torch.nn.functional.one_hot(owner[probabilities.argmax(1)], len(classes)).double()
    return masses, answers


def _classes(run: TrainedRun) -> list[tuple[int, ...]]:
    """The classes of each learned task. Raises UsageError if the bias is not defined."""
    classes = list(run.record.task_classes[: run.tasks])
    labels = [label for of_task in classes for label in of_task]
    scenario = run.record.name_of("scenario")
    if len(set(labels)) < len(labels) or run.protocol == "task-IL":
        raise UsageError(
            f"recency: given {scenario} ({run.protocol}), where a class is of several tasks or the task is told; "
            "allowed: class-IL with classes of one task each, such as seq-mnist"
        )
    if len(classes) < 2 or len(run.splits) != len(classes):
        raise UsageError(f"recency: given {len(classes)} tasks with {len(run.splits)} test splits; allowed: 2 or more")
    return classes


def _row(values: Tensor) -> tuple[float, ...]:
    return tuple((100 * values).tolist())


def described(result: Recency) -> Description:
    """What to show of the bias."""
    tasks = tuple(float(task + 1) for task in range(len(result.samples)))
    names = tuple(str(task + 1) for task in range(len(tasks)))
    fair = Line("", tasks, result.samples)
    found = result.predictors.items()
    return Description(
        numbers=tuple(
            Number("mass on the last task over its share of the samples, points", name, each.mass[-1] - fair_last)
            for name, each in found
            for fair_last in result.samples[-1:]
        ),
        charts=(
            Chart(
                TITLE,
                "task",
                "probability mass, %",
                tuple(Line(name, tasks, each.mass) for name, each in found),
                fair,
                "share of the samples",
            ),
        ),
        grids=tuple(
            Grid("probability mass by task", name, "samples of task", "classes of task", names, names, each.by_task)
            for name, each in found
        ),
    )


ANALYSIS = Analysis("recency", "does it answer with the classes it learned last?", NoOptions, recency, described)
