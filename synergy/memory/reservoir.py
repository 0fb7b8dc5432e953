"""Reservoir sampling: every sample seen so far is in memory with the same probability."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synergy.memory.base import DrawableMemory, Forgetful, Positions
from synergy.memory.store import Samples, last_writers
from synergy.state import State

MOST = 2**53
"""Most samples that can be offered: larger counts are not exact in float64."""


class Reservoir(DrawableMemory, Forgetful):
    """A uniform sample, without replacement, of everything ever offered.

    Reference: Vitter 1985, algorithm R. The n-th sample (from 1) goes to slot n - 1 while there is room; afterwards it
    draws j uniformly from 0..n-1 and goes to slot j if j < capacity.

    It counts presentations: with several epochs an image is offered several times, and two slots may hold it.

    Args:
        capacity: slots.
        rng: decides which samples stay.
        draw_rng: decides which samples are drawn.

    Examples:
        >>> import numpy as np, torch
        >>> memory = Reservoir(3, np.random.default_rng(0), np.random.default_rng(1))
        >>> memory.offer(Samples(torch.arange(100)[:, None], torch.zeros(100).long()))
        >>> len(memory), memory.seen
        (3, 100)
    """

    def __init__(self, capacity: int, rng: np.random.Generator, draw_rng: np.random.Generator) -> None:
        super().__init__(capacity, draw_rng)
        self.seen = 0
        self._rng = rng
        self._prepared: deque[tuple[Tensor, int]] = deque()

    def place(self, n: int) -> Tensor:
        """Decide where the next `n` samples go, in order, with the result of offering them one by one.

        Returns:
            For `put`: `int64 [n]` on the host, `capacity` for a sample that does not stay. It needs counts alone, so
            that it can run ahead of the device.
        """
        if self._prepared:
            places, self.store.filled = self._prepared.popleft()
            assert len(places) == n, f"a batch of {n} samples where one of {len(places)} was prepared"
            self.seen += n
            return places
        numbers = np.arange(self.seen + 1, self.seen + n + 1)
        slots = reservoir_slots(numbers, self._rng.random(n), self.capacity)
        if len(self) < min(self.seen, self.capacity):  # some were taken out: there are free slots among those in use
            slots = closed_up(slots, len(self), self.capacity)
        self.seen += n
        return self.store.place(slots)

    def prepare(self, sizes: Sequence[int]) -> None:
        """Decide for several batches at once, of these sizes; the next calls of `place` hand the same results out."""
        if len(self) < min(self.seen, self.capacity):
            return  # free slots among those in use: each batch depends on the one before
        ends = np.cumsum(sizes)
        numbers = self.seen + np.arange(1, ends[-1] + 1)
        slots = reservoir_slots(numbers, self._rng.random(ends[-1]), self.capacity)
        # A slot number of its own for each batch, so that the last writer is found within a batch.
        shift = np.repeat(np.arange(len(sizes)) * (self.capacity + 1), sizes)
        kept = last_writers(slots, self.capacity, shift)
        places = np.full(len(slots), self.capacity)
        places[kept] = slots[kept]
        filled = np.minimum(self.seen + ends, self.capacity)
        parts = torch.from_numpy(places).split(list(sizes))
        self._prepared.extend(zip(parts, filled.tolist(), strict=True))

    def put(self, places: Tensor, samples: Samples) -> None:
        """Write samples `[n]` where `place` decided."""
        self.store.put(places, samples)

    def offer(self, samples: Samples) -> None:
        """Place and put in one call."""
        self.put(self.place(len(samples)), samples)

    def state_dict(self) -> State:
        assert not self._prepared, "decisions that were prepared are no state"
        return super().state_dict()

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        if not len(self) <= self.seen < MOST:
            raise ValueError(f"a reservoir of {len(self)} samples that was offered {self.seen}")

    def keep(self, positions: Positions) -> None:
        """Take out all samples but those at `positions` `[N]`, rising.

        The slots of the others stay theirs until a later sample draws one of them, so that every sample ever offered
        and not taken out is in memory with the same probability as before.
        """
        self.store.keep(positions)

    def shrink(self, capacity: int, rng: np.random.Generator) -> None:
        """Go on with fewer slots, as if there had never been more. `rng` draws the slots that stay.

        It draws among all slots that were ever filled, empty ones included. Otherwise samples would stay with too high
        a probability after others were taken out.
        """
        used = min(self.seen, self.capacity)
        if used > capacity:
            chosen = np.sort(rng.choice(used, size=capacity, replace=False, shuffle=False))
            self.keep(chosen[chosen < len(self)])
        self.store.shrink(capacity)


def reservoir_slots(
    numbers: np.ndarray[tuple[int], np.dtype[np.int64]],
    uniforms: np.ndarray[tuple[int], np.dtype[np.float64]],
    capacity: int,
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The slot of each sample, by algorithm R; a sample with a slot `>= capacity` is not stored.

    Args:
        numbers: of the samples in the stream, from 1, `[N]`.
        uniforms: random numbers in [0, 1), `[N]`.
        capacity: slots.
    """
    # The product of n and a uniform just below 1 rounds to n in rare cases, which is one too many.
    drawn = np.minimum((uniforms * numbers).astype(np.int64), numbers - 1)
    return np.where(numbers <= capacity, numbers - 1, drawn)


def closed_up(
    slots: np.ndarray[tuple[int], np.dtype[np.int64]], filled: int, capacity: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The slots `[N]` without gaps: a sample that drew a free slot gets the first free one.

    Draws are independent of what the slots hold, so all free slots are alike.
    """
    if filled == capacity:
        return slots
    closed = slots.copy()
    for n in np.flatnonzero((slots >= filled) & (slots < capacity)):
        if slots[n] >= filled:
            closed[n] = filled
            filled += 1
    return closed
