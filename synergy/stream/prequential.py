"""How well a stream is predicted, each batch before it is learned."""

from __future__ import annotations

import torch
from torch import Tensor

from synergy.state import State, collect, restore

FADING = 0.999
WAITING = 100
"""Batches whose scores wait to be summed."""


class Prequential:
    """The mean of a score over all samples so far, and one in which a sample fades as others come after it.

    Reference: Gama, Sebastião & Rodrigues 2013, "On evaluating stream learning algorithms": test, then train; with a
    fading factor of 0.999 the latest thousand samples carry the weight of about 632.

    Scores stay on their device until somebody asks for a mean, or until `WAITING` of them are there: so they cost next
    to nothing as they come, and the device is waited for that rarely.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.weight = 0.0
        self.total = 0.0
        self.faded = 0.0
        self._waiting: list[tuple[Tensor, int]] = []

    def add(self, score: Tensor, n: int) -> None:
        """Count `n` samples with the sum `score` (a scalar)."""
        self._waiting.append((score, n))
        if len(self._waiting) == WAITING:
            self._sum_up()

    def mean(self) -> float | None:
        """Over all samples; None before the first."""
        self._sum_up()
        return self.total / self.samples if self.samples else None

    def recent(self) -> float | None:
        """Over the latest samples; None before the first."""
        self._sum_up()
        return self.faded / self.weight if self.samples else None

    def state_dict(self) -> State:
        self._sum_up()
        return collect(self._sums())

    def load_state_dict(self, state: State) -> None:
        sums = self._sums()
        restore(sums, state)
        vars(self).update(sums, _waiting=[])

    def _sum_up(self) -> None:
        if not self._waiting:
            return
        scores = torch.stack([score for score, _ in self._waiting]).tolist()
        for score, (_, n) in zip(scores, self._waiting, strict=True):
            fading = FADING**n
            self.samples += n
            self.weight = self.weight * fading + n
            self.total += score
            self.faded = self.faded * fading + score
        self._waiting = []

    def _sums(self) -> dict[str, int | float]:
        return {"samples": self.samples, "weight": self.weight, "total": self.total, "faded": self.faded}
