"""A greedy memory that keeps as many samples of one class as of another."""

from __future__ import annotations

import numpy as np
import torch

from synergy.memory.base import Forgetful, Positions
from synergy.memory.store import Samples

NOBODY = -1
"""The label of a slot that is not filled."""


class ClassBalanced(Forgetful):
    """Stores samples of a class until it has its share, at the cost of the class with the most samples.

    Reference: Prabhu, Torr & Dokania 2020, "GDumb: A Simple Approach that Questions Our Progress in Continual
    Learning", algorithm 1. The share of a class is capacity / classes seen. A sample of a class that has its share is
    not stored. Any other goes to a free slot; in a full memory it goes to a random slot of the class with the most
    samples (of several such classes a random one).

    Every class seen keeps at least `capacity // classes seen` samples, or all ever offered if those are fewer.

    Args:
        capacity: slots.
        rng: decides which samples leave.

    Examples:
        >>> import numpy as np, torch
        >>> memory = ClassBalanced(4, np.random.default_rng(0))
        >>> memory.offer(Samples(torch.arange(6)[:, None], torch.tensor([0, 0, 0, 0, 1, 1])))
        True
        >>> memory.counts()
        array([2, 2])
    """

    def __init__(self, capacity: int, rng: np.random.Generator) -> None:
        super().__init__(capacity)
        self.owners = torch.full((capacity,), NOBODY)
        """Label of each slot, `int64 [capacity]`, on the host."""
        self.known: list[int] = []
        """The classes that were ever offered, by first appearance."""
        self._rng = rng

    def counts(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Samples of each class, `[K]`, for the labels up to the highest that was ever offered."""
        return self._counts(self.known)

    def _counts(self, labels: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        owners = self.owners.numpy()
        return np.bincount(owners[owners != NOBODY], minlength=1 + max(labels, default=-1))

    def offer(self, samples: Samples) -> bool:
        """Offer samples in order; whether any was stored. Waits once for the device, to read the labels."""
        labels = samples.labels.tolist()
        slots = np.asarray(self._slots(labels), dtype=np.int64)
        self.store.write(slots, samples)
        return bool((slots < self.store.capacity).any())

    def _slots(self, labels: list[int]) -> list[int]:
        """The slot of each sample, `capacity` if it is not stored; every decision depends on those before."""
        owners, counts = self.owners.numpy(), self._counts(self.known + labels)
        filled = len(self)
        slots = []
        for label in labels:
            if label not in self.known:
                self.known.append(label)
            if counts[label] * len(self.known) >= self.store.capacity:
                slots.append(self.store.capacity)
                continue
            if filled < self.store.capacity:
                slot, filled = filled, filled + 1
            else:
                slot = self._leaving(owners, counts)
                counts[owners[slot]] -= 1
            owners[slot] = label
            counts[label] += 1
            slots.append(slot)
        return slots

    def _leaving(
        self, owners: np.ndarray[tuple[int], np.dtype[np.int64]], counts: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> int:
        largest = self._rng.choice(np.flatnonzero(counts == counts.max()))
        return int(self._rng.choice(np.flatnonzero(owners == largest)))

    def keep(self, positions: Positions) -> None:
        """Take out all samples but those at `positions` `[N]`, rising; their slots are free. Classes stay known."""
        owners = self.owners.numpy()
        kept = owners[positions]
        owners[:] = NOBODY
        owners[: len(kept)] = kept
        self.store.keep(positions)
