"""What several methods share: a replay step, a coin, an update of an averaged network, sums over features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from synergy.memory.base import Draw
from synergy.ops.averaging import new_weight, warm_decay
from synergy.ops.growth import classifier, classifier_name
from synergy.ops.modes import evaluating


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


UNSEEN = -1e4
"""Score of a class without a sample: below any that has some, and finite."""


def frozen_features(net: nn.Module, inputs: Tensor) -> Tensor:
    """What the last linear layer of a network that is never trained sees: `[B, D]`, in evaluation mode, no gradient.

    They are in float64, in which sums over a stream are exact to many digits; on a device without it in float32.
    """
    seen: list[Tensor] = []
    hook = head(net).register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        with torch.no_grad(), evaluating(net):
            net(inputs)
    finally:
        hook.remove()
    return seen[-1].flatten(1).to(sum_dtype(inputs.device))


def head(net: nn.Module) -> nn.Linear:
    """The last linear layer of a network. Raises UsageError if it has none."""
    return classifier(net, classifier_name(net))


def sum_dtype(device: torch.device) -> torch.dtype:
    """The type of sums over a stream on a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def one_hot(labels: Tensor, n_classes: int, like: Tensor) -> Tensor:
    """`int64 [B]` -> `[B, n_classes]` in the type of `like`. A product with it sums by class, on a GPU repeatably."""
    # `F.one_hot` looks at the labels, which a step cannot wait for.
    return (labels[:, None] == torch.arange(n_classes, device=labels.device)).to(like.dtype)
