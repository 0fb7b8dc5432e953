"""Exponential averages with a warm-up."""

from __future__ import annotations

import torch
from torch import Tensor


def warm_decay(step: int, decay: float) -> float:
    """The decay `min(1 - 1/(step + 1), decay)` at `step` (from 1): a plain mean first, an exponential average later.

    Without the warm-up an average started from a random network would carry it along for `1 / (1 - decay)` steps.
    """
    return min(1 - 1 / (step + 1), decay)


def average_(average: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """In place: `average <- (1 - weight) * average + weight * value`, with a scalar `weight` on the same device."""
    return average.lerp_(value, weight.to(average.dtype))


def new_weight(decay: float) -> Tensor:
    """The weight `1 - decay` of the new value in an average: a scalar on the host, decided anew for each step."""
    return torch.tensor(1 - decay, dtype=torch.float64)
