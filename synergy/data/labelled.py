"""What all data of the user's own have: names of classes and domains, and a test set or a share held out as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synergy.errors import UsageError
from synergy.randomness import generator


@dataclass(frozen=True)
class HeldOut:
    """Which part of the samples is the test set where the data bring none.

    Attributes:
        share: of the samples of each class.
        seed: of the choice.

    Examples:
        >>> print(HeldOut(0.2, 0))
        20 % of each class held out by seed 0 as test set
    """

    share: float
    seed: int

    def __str__(self) -> str:
        return f"{100 * self.share:g} % of each class held out by seed {self.seed} as test set"

    def chosen(self, groups: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which samples are in the test set, `bool [N]`: of each group the share, rounded, but at least one of two.

        Args:
            groups: the number of each sample's group: its class, or its class in its domain.

        Examples:
            >>> int(HeldOut(0.2, 0).chosen(np.array([0, 0, 0, 0, 0, 1, 1])).sum())
            2
        """
        mask = np.zeros(len(groups), bool)
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            count = min(max(1, round(len(members) * self.share)), len(members) - 1)
            rng = generator(self.seed, f"test set/{group}")
            mask[rng.permutation(members)[:count]] = True
        return mask


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: numbers by size if all are whole numbers, else in alphabetical order.

    Examples:
        >>> ordered(["10", "9", "10"]), ordered(["rose", "10", "9"])
        (('9', '10'), ('10', '9', 'rose'))
    """
    found = set(names)
    return tuple(sorted(found, key=_size) if all(map(_is_number, found)) else sorted(found))


def numbered(names: Sequence[str], order: Sequence[str]) -> NDArray[np.int64]:
    """The place of each name in `order`, `int64 [N]`."""
    places = {name: place for place, name in enumerate(order)}
    return np.fromiter((places[name] for name in names), np.int64, len(names))


def check_classes(where: str, classes: Sequence[str], train: NDArray[np.int64], test: NDArray[np.int64]) -> None:
    """Raises UsageError unless there are two classes or more, and each has samples for training and for the test.

    Args:
        where: what messages call the data.
        classes: the names of the labels 0, 1, ...
        train, test: the labels of the samples.
    """
    if len(classes) < 2:
        raise UsageError(f"{where}: has one class, '{''.join(classes)}'; allowed: at least two")
    for labels, kind in ((train, "training"), (test, "test")):
        counts = np.bincount(labels, minlength=len(classes))
        if not counts.all():
            missing = classes[int(np.argmin(counts))]
            raise UsageError(
                f"{where}: class '{missing}' has no {kind} samples; allowed: two samples of a class or more, "
                "or a test set with samples of each"
            )


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _size(name: str) -> tuple[int, str]:
    return int(name), name
