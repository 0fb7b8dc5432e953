"""Loss functions, each with its likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.ops.fisher import categorical
from synergy.ops.single_gradients import LogLikelihood


@dataclass(frozen=True)
class Objective:
    """A loss to minimise, and the log-likelihood behind the Fisher information.

    Attributes:
        loss: outputs `[B, ...]` and targets `[B, ...]` -> mean over the samples, a scalar.
        log_likelihood: outputs and targets -> log-likelihood of each sample, `[B]`, up to a constant.

    Examples:
        >>> import torch
        >>> SQUARED_ERROR.loss(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [3.0]]))
        tensor(0.5000)
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    log_likelihood: LogLikelihood


def gaussian(outputs: Tensor, targets: Tensor) -> Tensor:
    """log p(y | x) of a normal distribution with variance 1 around the outputs, without its constant: `[B]`."""
    return -0.5 * (outputs - targets).square().reshape(len(outputs), -1).sum(1)


CROSS_ENTROPY = Objective(F.cross_entropy, categorical)
"""For logits `[B, K]` and labels `int64 [B]`."""
SQUARED_ERROR = Objective(F.mse_loss, gaussian)
"""For outputs and targets of one shape `[B, ...]`: mean over samples and elements."""


def weighted_cross_entropy(weights: Tensor) -> Objective:
    """Cross-entropy as a weighted mean over the samples; 0 if all weights are 0. The likelihood has no weights.

    Args:
        weights: of each class, `[K]`.

    Examples:
        >>> import torch
        >>> objective = weighted_cross_entropy(torch.tensor([1.0, 0.0]))
        >>> objective.loss(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(0.6931)
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        total = F.cross_entropy(logits, labels, weight=weights, reduction="sum")
        return total / weights[labels].sum().clamp_min(torch.finfo(weights.dtype).tiny)

    return Objective(loss, categorical)
