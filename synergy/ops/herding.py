"""Herding: samples whose mean stays close to the mean of all."""

from __future__ import annotations

import torch
from torch import Tensor


def herd(features: Tensor, count: int) -> Tensor:
    """Choose samples one after the other; each brings the mean of the chosen ones nearest to the mean of all.

    Reference: Welling 2009, "Herding Dynamical Weights to Learn"; Rebuffi et al. 2017 (iCaRL), algorithm 4.

    Args:
        features: `[N, D]`, N at least 1.
        count: samples to choose; at most N are chosen.

    Returns:
        `int64 [min(count, N)]`, different indices in the order of choice; the first of equally good samples.

    Examples:
        >>> import torch
        >>> herd(torch.tensor([[0.0], [1.0], [5.0]]), 2)
        tensor([1, 2])
    """
    mean, squares = features.mean(0), features.square().sum(1)
    chosen_sum = torch.zeros_like(mean)
    taken = torch.zeros_like(squares)
    chosen = []
    for k in range(1, min(count, len(features)) + 1):
        # |mean - (chosen_sum + f) / k|^2 differs from the cost by a factor and by a term that all samples share.
        wanted = k * mean - chosen_sum
        # A matrix product would lose precision under autocast.
        cost = squares - 2 * (features * wanted).sum(1) + taken
        best = cost.argmin(keepdim=True)
        chosen.append(best)
        chosen_sum = chosen_sum + features.index_select(0, best)[0]
        taken.index_fill_(0, best, torch.inf)
    return torch.cat(chosen)
