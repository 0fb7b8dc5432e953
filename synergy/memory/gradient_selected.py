"""A memory that prefers samples whose gradients point away from those of its own samples."""

from __future__ import annotations

import numpy as np
import torch

from synergy.memory.base import DrawableMemory, Forgetful, Positions
from synergy.memory.store import Samples


class GradientSelected(DrawableMemory, Forgetful):
    """Each sample has a score between 0 and 2: the similarity of its gradient to those in memory when it came.

    Reference: Aljundi et al. 2019, "Gradient based sample selection for online continual learning", algorithm 2
    (greedy).

    While there is room every sample is stored. Afterwards a batch is considered only if its own score is below 1: its
    gradient is at an obtuse angle to all it was compared with. Then for each of its samples, of score c, a slot i is
    drawn with probability proportional to the scores s, and replaced with probability s_i / (s_i + c).

    Args:
        capacity: slots.
        rng: decides which samples stay.
        draw_rng: decides which samples are drawn.

    Examples:
        >>> import numpy as np, torch
        >>> memory = GradientSelected(2, np.random.default_rng(0), np.random.default_rng(1))
        >>> memory.offer(Samples(torch.arange(3)[:, None], torch.zeros(3).long()), np.array([0.5, 1.5, 0.1]), 1.2)
        >>> memory.all().raw.flatten().tolist(), memory.scores.tolist()
        ([0, 1], [0.5, 1.5])
    """

    def __init__(self, capacity: int, rng: np.random.Generator, draw_rng: np.random.Generator) -> None:
        super().__init__(capacity, draw_rng)
        self.scores = torch.zeros(capacity, dtype=torch.float64)
        """Score of each slot, `[capacity]`, on the host; 0 where a slot is not filled."""
        self._rng = rng

    def offer(self, samples: Samples, scores: np.ndarray[tuple[int], np.dtype[np.float64]], batch_score: float) -> None:
        """Offer samples in order, with the score of each, `[N]`, and that of the batch's mean gradient."""
        n, capacity = len(samples), self.store.capacity
        # Rounding can carry a cosine past -1, and scores are weights of a draw.
        scores = np.maximum(scores, np.finfo(np.float64).tiny)
        room = min(capacity - len(self), n)
        slots = np.full(n, capacity)
        slots[:room] = np.arange(len(self), len(self) + room)
        self.scores.numpy()[slots[:room]] = scores[:room]
        if batch_score < 1:
            slots[room:] = self._replaced(scores[room:])
        self.store.write(slots, samples)

    def _replaced(
        self, candidates: np.ndarray[tuple[int], np.dtype[np.float64]]
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The slot of each candidate, `capacity` if it is not stored; every decision depends on those before."""
        stored = self.scores.numpy()
        slots = np.full(len(candidates), self.store.capacity)
        for n, (score, (which, whether)) in enumerate(
            zip(candidates, self._rng.random((len(candidates), 2)), strict=True)
        ):
            mass = np.cumsum(stored)
            slot = min(int(np.searchsorted(mass, which * mass[-1], side="right")), len(stored) - 1)
            if whether < stored[slot] / (stored[slot] + score):
                slots[n], stored[slot] = slot, score
        return slots

    def keep(self, positions: Positions) -> None:
        """Take out all samples but those at `positions` `[N]`, rising; then there is room for any others."""
        scores = self.scores.numpy()
        kept = scores[positions]
        scores[:] = 0
        scores[: len(kept)] = kept
        self.store.keep(positions)
