"""How well a stream is predicted, each batch before it is learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from synergy.state import State, collect, restore

FADING = 0.999
WAITING, LARGEST = 100, 10**6
"""Batches that wait to be scored, and numbers in their answers."""


class Prequential:
    """The mean of a score over all samples so far, and one in which a sample fades as others come after it.

    Reference: Gama, Sebastião & Rodrigues 2013, "On evaluating stream learning algorithms": test, then train; with a
    fading factor of 0.999 the latest thousand samples carry the weight of about 632.

    Answers stay where they are until somebody asks for a mean, or until many wait: so they cost next to nothing as they
    come, and the device is waited for that rarely.

    Args:
        score: answers `[N, ...]` and targets `[N, ...]` -> the score of each sample `[N]`.
    """

    def __init__(self, score: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.samples = 0
        self.weight = 0.0
        self.total = 0.0
        self.faded = 0.0
        self._score = score
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._numbers = 0

    def add(self, answers: Tensor, targets: Tensor) -> None:
        """Count the answers `[B, ...]` to a batch with targets `[B, ...]`; neither may be written to from now on."""
        if self._waiting and self._waiting[0][0].shape[1:] != answers.shape[1:]:
            self._sum_up()
        self._waiting.append((answers, targets))
        self._numbers += answers.numel()
        if len(self._waiting) == WAITING or self._numbers > LARGEST:
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
        vars(self).update(sums, _waiting=[], _numbers=0)

    def _sum_up(self) -> None:
        if not self._waiting:
            return
        answers, targets = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        scores = self._score(answers, targets).cpu().double()
        for of_batch in scores.split([len(targets) for _, targets in self._waiting]):
            n, score = len(of_batch), of_batch.sum().item()
            fading = FADING**n
            self.samples += n
            self.weight = self.weight * fading + n
            self.total += score
            self.faded = self.faded * fading + score
        self._waiting, self._numbers = [], 0

    def _sums(self) -> dict[str, int | float]:
        return {"samples": self.samples, "weight": self.weight, "total": self.total, "faded": self.faded}


def hits(scores: Tensor, outputs: Tensor) -> Tensor:
    """1 where the highest of the scores `[N, K]` is that of the output `[N]`, else 0: `[N]`."""
    return scores.argmax(1) == outputs


def squared_errors(answers: Tensor, targets: Tensor) -> Tensor:
    """Mean over the elements of each sample, `[N]`."""
    return (answers - targets).square().flatten(1).mean(1)
