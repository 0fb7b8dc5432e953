"""How well a stream is predicted, each batch before it is learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from synergy.state import State, collect, restore

FADING = 0.999
WAITING, LARGEST = 100, 10**6
"""Batches that wait to be scored, and numbers in their answers."""

Several: TypeAlias = tuple[Tensor, ...]
"""One for each batch that waits."""
Counts: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
"""A number for each batch that waits."""


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
        self._known: int | None = None
        self._numbers = 0

    def add(self, outputs: Tensor, targets: Tensor, known: int | None = None) -> None:
        """Count the answers to a batch. What is given may not be written to from now on.

        Args:
            outputs: `[N, ...]`, of which the first B rows are the answers.
            targets: `[B, ...]`.
            known: how many columns of the answers count, the first ones; None for all.
        """
        if known != self._known:
            self._sum_up()
            self._known = known
        self._waiting.append((outputs, targets))
        self._numbers += outputs.numel()
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
        answers, targets, sizes = self._side_by_side(*zip(*self._waiting, strict=True))
        scores = self._score(answers if self._known is None else answers[:, : self._known], targets)
        sums = np.add.reduceat(scores.cpu().double().numpy(), np.cumsum(sizes) - sizes)
        for n, score in zip(sizes.tolist(), sums.tolist(), strict=True):
            fading = FADING**n
            self.samples += n
            self.weight = self.weight * fading + n
            self.total += score
            self.faded = self.faded * fading + score
        self._waiting, self._numbers = [], 0

    def _side_by_side(self, told: Several, targets: Several) -> tuple[Tensor, Tensor, Counts]:
        """Of each of the outputs told as many rows as its batch has samples, all targets, and how many samples."""
        try:  # to stack is quicker than to look first whether all are of one shape, as they mostly are
            stacked, of_all = torch.stack(told), torch.stack(targets)
        except RuntimeError:
            sizes = np.array([each.shape[0] for each in targets])
            return self._uneven_rows(told, sizes), torch.cat(targets), sizes
        n = of_all.shape[1]
        return stacked[:, :n].flatten(0, 1), of_all.flatten(0, 1), np.full(len(told), n)

    def _uneven_rows(self, told: Several, sizes: Counts) -> Tensor:
        """The first rows of each of the outputs told, one after the other, in one go."""
        if self._known is not None and len({outputs.shape[1] for outputs in told}) > 1:
            told = tuple(outputs[:, : self._known] for outputs in told)
        rows = np.array([outputs.shape[0] for outputs in told])
        shift = np.cumsum(rows) - rows - (np.cumsum(sizes) - sizes)
        chosen = torch.from_numpy(np.arange(sizes.sum()) + np.repeat(shift, sizes))
        return torch.cat(told).index_select(0, chosen.to(told[0].device))

    def _sums(self) -> dict[str, int | float]:
        return {"samples": self.samples, "weight": self.weight, "total": self.total, "faded": self.faded}


def hits(scores: Tensor, outputs: Tensor) -> Tensor:
    """1 where the highest of the scores `[N, K]` is that of the output `[N]`, else 0: `[N]`."""
    # As `argmax`, the first of equals, but quicker on the host.
    return scores.max(1).indices == outputs


def squared_errors(answers: Tensor, targets: Tensor) -> Tensor:
    """Mean over the elements of each sample, `[N]`."""
    return (answers - targets).square().reshape(len(answers), -1).mean(1)
