"""How well a stream is predicted, each batch before it is learned."""

from __future__ import annotations

import torch
from torch import Tensor

from synergy.state import State, collect, restore

FADING = 0.999


class Prequential:
    """The mean of a score over all samples so far, and one in which a sample fades as others come after it.

    Reference: Gama, Sebastião & Rodrigues 2013, "On evaluating stream learning algorithms": test, then train; with a
    fading factor of 0.999 the latest thousand samples carry the weight of about 632.

    Args:
        device: of the scores. It is never waited for before somebody reads the mean.
    """

    def __init__(self, device: torch.device) -> None:
        self.samples = 0
        self.weight = 0.0
        self.total = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        self.faded = torch.zeros_like(self.total)

    def add(self, score: Tensor, n: int) -> None:
        """Count `n` samples with the sum `score` (a scalar)."""
        fading = FADING**n
        self.samples += n
        self.weight = self.weight * fading + n
        self.total += score
        self.faded.mul_(fading).add_(score)

    def mean(self) -> float | None:
        """Over all samples; None before the first."""
        return float(self.total) / self.samples if self.samples else None

    def recent(self) -> float | None:
        """Over the latest samples; None before the first."""
        return float(self.faded) / self.weight if self.samples else None

    def state_dict(self) -> State:
        return collect(vars(self))

    def load_state_dict(self, state: State) -> None:
        restore(vars(self), state)
