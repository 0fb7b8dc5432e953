"""Exponential averages with a warm-up."""

from __future__ import annotations

import torch
from torch import Tensor


def warm_decay(step: int, decay: float, warmup: float = 1.0) -> float:
    """The decay `min(1 - c/(step + c), decay)` of an average at `step` (from 1), with c the `warmup`.

    At first the average looks back over about `step / c` steps, later over `1 / (1 - decay)`. With c = 1 it is a plain
    mean at first. Without a warm-up it would carry the random network it starts from along for `1 / (1 - decay)` steps.
    """
    return min(1 - warmup / (step + warmup), decay)


def average_(average: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """In place: `average <- (1 - weight) * average + weight * value`, with a scalar `weight` on the same device.

    Examples:
        >>> import torch
        >>> average_(torch.tensor([0.0, 8.0]), torch.tensor([4.0, 0.0]), new_weight(0.75))
        tensor([1., 6.])
    """
    return average.lerp_(value, weight.to(average.dtype))


def new_weight(decay: float) -> Tensor:
    """The weight `1 - decay` of the new value in an average: a scalar on the host, decided for each step."""
    return torch.tensor(1 - decay, dtype=torch.float64)
