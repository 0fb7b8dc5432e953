"""Decisions that several methods share: a replay step, a coin, an update of an averaged network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from synergy.memory.base import Draw
from synergy.ops.averaging import new_weight, warm_decay


@dataclass(frozen=True)
class ReplayStep:
    """The decisions of a step that replays once.

    Attributes:
        replay: the draw from memory; None while memory is empty.
        places: where the stream batch goes in memory, `int64 [B]`.
    """

    replay: Draw | None
    places: Tensor


def coin(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability, decided on the host."""
    return bool(rng.random() < probability)


def average_weight(
    rng: np.random.Generator, probability: float, step: int, decay: float, warmup: float
) -> Tensor | None:
    """Decide an update of an averaged network at `step` (from 1): the weight of the new value; None for no update.

    The coin always draws one number, so that later draws are the same whatever the probability.
    """
    return new_weight(warm_decay(step, decay, warmup)) if coin(rng, probability) else None


def short_average(name: str, steps: int, probability: float, decay: float, warmup: float) -> list[str]:
    """A remark if the averaged network `name` has seen fewer updates than it looks back over; else none.

    Args:
        name: of the predictor.
        steps: of the method so far.
        probability: of an update in a step.
        decay, warmup: of the average.
    """
    horizon = round(1 / (1 - warm_decay(max(steps, 1), min(decay, 1 - 1e-9), warmup)))
    updates = round(probability * steps)
    if updates >= horizon:
        return []
    return [
        f"the network '{name}' averages over the last {horizon} updates and has seen {updates}, so that it still holds "
        "early weights; raise ema_warmup (30 follows the stream), lower its alpha, or train longer"
    ]
