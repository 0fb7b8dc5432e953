"""Exponential averages with a warm-up."""

from __future__ import annotations

from torch import Tensor


def warm_decay(step: int, decay: float) -> float:
    """The decay `min(1 - 1/(step + 1), decay)` at `step` (from 1): a plain mean first, an exponential average later.

    Without the warm-up an average started from a random network would carry it along for `1 / (1 - decay)` steps.
    """
    return min(1 - 1 / (step + 1), decay)


def average_(average: Tensor, value: Tensor, decay: float) -> Tensor:
    """In place: `average <- decay * average + (1 - decay) * value`."""
    return average.lerp_(value, 1 - decay)
