"""Which classes come in which task, and which samples: in order, blurred, or drifting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from synergy.errors import UsageError, counted, unknown

Numbers: TypeAlias = NDArray[np.int64]
USUAL_TASKS = 5


def blurred(homes: Numbers, kinds: Numbers, share: float, n_tasks: int, rng: np.random.Generator) -> Numbers:
    """The task of each sample, after a share of each kind was moved to the tasks before and after.

    Args:
        homes: the task that each sample belongs to, `int64 [N]`.
        kinds: of which the same share moves, such as the classes; all samples of a kind have one task.
        share: from 0 to 0.5.
        n_tasks: at least 2.
        rng: chooses the samples.

    Raises:
        UsageError: there is one task alone.

    Examples:
        >>> blurred(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 0.5, 2, np.random.default_rng(0)).tolist()
        [1, 0, 0, 1]
    """
    if n_tasks < 2:
        raise UsageError("blur: given for one task; allowed: for two or more, as samples move between them")
    moved = homes.copy()
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        home = homes[members[0]]
        neighbours = [task for task in (home - 1, home + 1) if 0 <= task < n_tasks]
        chosen = rng.permutation(members)[: round(share * len(members))]
        for place, task in enumerate(neighbours):
            moved[chosen[place :: len(neighbours)]] = task
    return moved


def drifting(homes: Numbers, strength: float, n_tasks: int, rng: np.random.Generator) -> list[Numbers]:
    """The samples in the order of a stream that drifts, in equal parts.

    Args:
        homes: the task t that each sample belongs to, `int64 [N]`.
        strength: a sample stands at t + (1 + strength) * U, U uniform in [0, 1).
        n_tasks: number of parts.
        rng: draws U.

    Examples:
        >>> [part.tolist() for part in drifting(np.array([1, 0, 1, 0]), 0.0, 2, np.random.default_rng(0))]
        [[3, 1], [2, 0]]
    """
    places = homes + (1 + strength) * rng.random(len(homes))
    return np.array_split(np.argsort(places, kind="stable"), n_tasks)


def parsed_order(given: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """The labels in a given order, by the names of the classes or else by their numbers.

    Raises:
        UsageError: it is no order of all classes.

    Examples:
        >>> names = ["ant", "bee", "cow"]
        >>> parsed_order(["cow", "ant", "bee"], names), parsed_order(["2", "0", "1"], names)
        ((2, 0, 1), (2, 0, 1))
    """
    numbers = {str(label): label for label in range(len(names))}
    by_name = {name: label for label, name in enumerate(names)}
    known = by_name if set(given) & (by_name.keys() - numbers.keys()) or by_name.keys() <= set(given) else numbers
    for position, name in enumerate(given):
        if name not in known:
            raise unknown("class in class_order", name, known)
        if name in given[:position]:
            raise UsageError(f"class_order: '{name}' is given twice; allowed: each of the {len(names)} classes once")
    if left := [name for name in known if name not in given]:
        raise UsageError(
            f"class_order: given {len(given)} of {len(names)} classes, without {', '.join(left[:5])}; "
            "allowed: each of them once"
        )
    return tuple(known[name] for name in given)


def grouped(order: Sequence[int], n_tasks: int | None, first: int | None) -> list[tuple[int, ...]]:
    """The classes of each task: `first` in the first one, or else as many as in the others.

    Raises:
        UsageError: a task would have no class.

    Examples:
        >>> grouped(range(7), 3, None), grouped(range(7), 3, 4)
        ([(0, 1, 2), (3, 4), (5, 6)], [(0, 1, 2, 3), (4, 5), (6,)])
    """
    classes = len(order)
    tasks = min(USUAL_TASKS, classes) if n_tasks is None else n_tasks
    if tasks > classes:
        raise UsageError(f"n_tasks: given {tasks}; allowed: at most {classes}, the number of classes")
    most = classes - tasks + 1
    if first is not None and (first > most or (tasks == 1 and first < classes)):
        allowed = f"1 to {most}" if tasks > 1 else str(classes)
        raise UsageError(
            f"first_task: given {first}; allowed: {allowed}, to divide {classes} classes into {counted(tasks, 'task')}"
        )
    sizes = _shares(classes, tasks) if first is None else [first, *_shares(classes - first, tasks - 1)]
    return [tuple(order[start:end]) for start, end in pairwise(accumulate(sizes, initial=0))]


def _shares(total: int, parts: int) -> list[int]:
    """As equal as whole numbers allow, the larger ones first."""
    return [total // parts + (part < total % parts) for part in range(parts)] if parts else []
