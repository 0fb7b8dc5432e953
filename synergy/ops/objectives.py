"""What is minimised, and the likelihood that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.ops.fisher import LogLikelihood, categorical


@dataclass(frozen=True)
class Objective:
    """A loss, and the log-likelihood that the Fisher information is taken of.

    Attributes:
        loss: outputs `[B, ...]` and targets `[B, ...]` -> mean over the samples, a scalar.
        log_likelihood: the same -> of each sample `[B]`, up to a constant.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    log_likelihood: LogLikelihood


def gaussian(outputs: Tensor, targets: Tensor) -> Tensor:
    """log p(y | x) of a normal distribution with variance 1 around the outputs, without its constant: `[B]`."""
    return -0.5 * (outputs - targets).square().reshape(len(outputs), -1).sum(1)


CROSS_ENTROPY = Objective(F.cross_entropy, categorical)
"""Of logits `[B, K]` and labels `int64 [B]`."""
SQUARED_ERROR = Objective(F.mse_loss, gaussian)
"""Of outputs and targets of one shape `[B, ...]`: mean over samples and elements."""


def weighted_cross_entropy(weights: Tensor) -> Objective:
    """Cross-entropy where a sample of class k counts `weights[k]` (`[K]`) times; the likelihood stays the model's.

    The loss of a batch is the weighted mean, and 0 where no sample counts.
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        total = F.cross_entropy(logits, labels, weight=weights, reduction="sum")
        return total / weights[labels].sum().clamp_min(torch.finfo(weights.dtype).tiny)

    return Objective(loss, categorical)
