"""What a check is: a name, the reason for it, and something to run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from synergy.state import same


@dataclass(frozen=True)
class Check:
    """One clause of a contract, tried on one object. Call it: it returns if the clause holds.

    Attributes:
        name: short, of its own among the checks of one object.
        reason: the clause, in one sentence.
        run: raises AssertionError with the finding if the clause is broken.

    Examples:
        >>> Check("positive", "The number is above 0.", lambda: require(1 > 0, "the number is 1"))()
        >>> Check("positive", "The number is above 0.", lambda: require(-1 > 0, "the number is -1"))()
        Traceback (most recent call last):
        AssertionError: positive: the number is -1 (The number is above 0.)
    """

    name: str
    reason: str
    run: Callable[[], None]

    def __call__(self) -> None:
        """Run the check.

        Raises:
            AssertionError: the name, the finding, and the reason.
        """
        try:
            self.run()
        except AssertionError as error:
            raise AssertionError(f"{self.name}: {error} ({self.reason})") from error

    def __str__(self) -> str:
        return self.name


def require(holds: bool, complaint: str) -> None:
    """Raises AssertionError with `complaint` unless it `holds`; also where Python skips assertions."""
    if not holds:
        raise AssertionError(complaint)


def run_all(checks: Iterable[Check]) -> None:
    """Run checks in order, until one fails."""
    for check in checks:
        check()


@contextmanager
def global_randomness_untouched() -> Iterator[None]:
    """Raises AssertionError at the end if a global generator of torch, numpy or Python was used within."""
    before = global_states()
    yield
    require(same(before, global_states()), "a global random generator was used; own one instead")


def global_states() -> list[Any]:
    """The states of the global generators of torch, numpy and Python."""
    name, keys, *rest = np.random.get_state()  # read only, to see that others leave it alone
    return [torch.get_rng_state(), random.getstate()[1], str(name), torch.from_numpy(np.asarray(keys).copy()), rest]
