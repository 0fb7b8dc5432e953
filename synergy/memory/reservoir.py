"""Reservoir sampling: every sample seen so far is in memory with the same probability."""

from __future__ import annotations

import numpy as np

from synergy.memory.store import Samples, Store
from synergy.state import State, collect, restore


class Reservoir:
    """A uniform sample, without replacement, of everything ever offered.

    Reference: Vitter 1985, algorithm R. The n-th sample (from 1) goes to slot n - 1 while there is room; afterwards it
    draws j uniformly from 0..n-1 and goes to slot j if j < capacity.

    Args:
        capacity: slots.
        rng: decides which samples stay.
        draw_rng: decides which are drawn.
    """

    def __init__(self, capacity: int, rng: np.random.Generator, draw_rng: np.random.Generator) -> None:
        self.store = Store(capacity)
        self.seen = 0
        self._rng = rng
        self._draw_rng = draw_rng

    def __len__(self) -> int:
        return self.store.filled

    @property
    def capacity(self) -> int:
        return self.store.capacity

    def offer(self, samples: Samples) -> None:
        """Offer samples in order, with the result of offering them one by one."""
        n = len(samples)
        numbers = np.arange(self.seen + 1, self.seen + n + 1)
        slots = reservoir_slots(numbers, self._rng.random(n), self.capacity)
        self.seen += n
        self.store.write(slots, samples)

    def draw(self, n: int) -> Samples:
        """`n` different samples (all of them if there are fewer), copied. The memory must not be empty."""
        assert len(self), "nothing to draw from an empty memory"
        size = min(n, len(self))
        return self.store.get(self._draw_rng.choice(len(self), size=size, replace=False, shuffle=False))

    def all(self) -> Samples:
        """Everything in memory, without a copy: read it, do not write to it."""
        return self.store.all()

    def state_dict(self) -> State:
        return collect(vars(self))

    def load_state_dict(self, state: State) -> None:
        restore(vars(self), state)


def reservoir_slots(
    numbers: np.ndarray[tuple[int], np.dtype[np.int64]],
    uniforms: np.ndarray[tuple[int], np.dtype[np.float64]],
    capacity: int,
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The slot of each sample: `numbers` `[N]` count from 1, `uniforms` `[N]` lie in [0, 1); none if `>= capacity`."""
    # The product of a uniform just below 1 and n rounds to n in rare cases; that must not become a slot.
    drawn = np.minimum((uniforms * numbers).astype(np.int64), numbers - 1)
    return np.where(numbers <= capacity, numbers - 1, drawn)
