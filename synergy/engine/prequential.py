"""How well a stream is predicted, each batch before it is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from synergy.state import State, collect, restore

FADING = 0.999
WAITING = 100
"""Batches whose scores wait on the device until they are fetched together."""


class Prequential:
    """The mean of a score over all samples so far, and one in which a sample fades as others come after it.

    Reference: Gama, Sebastião & Rodrigues 2013, "On evaluating stream learning algorithms": test, then train. With a
    fading factor of 0.999 the latest thousand samples carry the weight of about 632.

    Scores wait on the device until somebody asks for a mean, or until many wait: fetching them waits for the device.

    Args:
        score: outputs `[B, ...]` and targets `[B, ...]` -> the score of each sample `[B]`.
        later: let batches wait, and score many in one operation. Nobody may write to what was added, and the score of
            a sample must have the same bits in any batch.

    Examples:
        >>> accuracy = Prequential(hits)
        >>> accuracy.mean() is None
        True
        >>> accuracy.add(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([1, 1]))
        >>> accuracy.mean()
        0.5
    """

    def __init__(self, score: Callable[[Tensor, Tensor], Tensor], *, later: bool = False) -> None:
        self.samples = 0
        self.weight = 0.0
        self.total = 0.0
        self.faded = 0.0
        self._score = score
        self._later = later
        self._waiting: tuple[tuple[Tensor, ...], ...] = ()
        """Answers and targets of each batch, or its scores."""

    def add(self, outputs: Tensor, targets: Tensor, known: int | None = None) -> None:
        """Count the outputs for a batch.

        Args:
            outputs: `[N, ...]`; the first B rows are those for the batch.
            targets: `[B, ...]`.
            known: how many columns of the outputs count, the first ones; None for all.
        """
        answers = outputs.detach()[: len(targets)]
        answers = answers if known is None else answers[:, :known]
        waiting = (answers, targets) if self._later else (self._score(answers, targets),)
        self._waiting = (*self._waiting, waiting)
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
        vars(self).update(sums, _waiting=())

    def _sum_up(self) -> None:
        if not self._waiting:
            return
        scores = torch.cat(list(self._scores())).cpu().double().numpy()
        sizes = np.array([len(each[-1]) for each in self._waiting])
        sums = np.add.reduceat(scores, np.cumsum(sizes) - sizes)
        samples, weight, total, faded = self.samples, self.weight, self.total, self.faded
        for n, score in zip(sizes.tolist(), sums.tolist(), strict=True):
            fading = FADING**n
            samples += n
            weight = weight * fading + n
            total += score
            faded = faded * fading + score
        # At once, so that Ctrl-C finds a batch counted, or waiting.
        vars(self).update(samples=samples, weight=weight, total=total, faded=faded, _waiting=())

    def _scores(self) -> Iterator[Tensor]:
        """The scores that wait, `[N]` of several batches each."""
        for _, same in groupby(self._waiting, key=lambda each: each[0].shape[1:]):
            parts = [torch.cat(part) for part in zip(*same, strict=True)]
            yield parts[0] if len(parts) == 1 else self._score(*parts)

    def _sums(self) -> dict[str, int | float]:
        return {"samples": self.samples, "weight": self.weight, "total": self.total, "faded": self.faded}


def hits(scores: Tensor, outputs: Tensor) -> Tensor:
    """1 where the highest of the scores `[N, K]` is that of the output `[N]`, else 0: `[N]`."""
    return scores.argmax(1) == outputs


def squared_errors(answers: Tensor, targets: Tensor) -> Tensor:
    """Mean over the elements of each sample, `[N]`."""
    return (answers - targets).square().reshape(len(answers), -1).mean(1)
