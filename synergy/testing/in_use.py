"""Memories at work, for the checks: filled to different degrees, drawn from, handed over."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from torch import Tensor

from synergy.errors import UsageError
from synergy.memory.base import Forgetful, Memory
from synergy.memory.store import Samples
from synergy.testing.pool import Pool

Counts: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

FEWEST, MOST = 2, 64
"""Slots of a memory that can be checked."""


@runtime_checkable
class Drawable(Protocol):
    """A memory that gives random samples."""

    def draw(self, n: int, rng: np.random.Generator | None = None, /) -> Samples: ...


@runtime_checkable
class Placeable(Protocol):
    """A memory that decides where samples go before it writes them."""

    def place(self, n: int, /) -> Tensor: ...
    def put(self, places: Tensor, samples: Samples, /) -> None: ...


class MemoriesInUse:
    """Memories of one kind, and a pool of samples that they are offered.

    Args:
        build: makes an empty memory from a seed.
        offer: offers a batch of samples to a memory.
        samples: makes that many samples, all with different `raw`.

    Raises:
        UsageError: the memory has too few or too many slots.

    Examples:
        >>> import numpy as np
        >>> from synergy.memory.ring import Ring
        >>> from synergy.testing.pool import different_samples
        >>> rings = MemoriesInUse(lambda seed: Ring(3, 1, np.random.default_rng(seed)), Ring.offer, different_samples)
        >>> sorted(rings.held(rings.filled(seed=0, n=5)))
        [2, 3, 4]
    """

    def __init__(
        self,
        build: Callable[[int], Memory],
        offer: Callable[[Any, Samples], object],
        samples: Callable[[int], Samples],
    ) -> None:
        self.build, self.offer = build, offer
        memory = build(0)
        self.capacity = memory.capacity
        self.forgetful, self.drawable = isinstance(memory, Forgetful), isinstance(memory, Drawable)
        self.placeable = isinstance(memory, Placeable)
        if not FEWEST <= self.capacity <= MOST:
            raise UsageError(
                f"capacity: given {self.capacity}; allowed: {FEWEST} to {MOST} slots; build a smaller memory for the "
                "checks"
            )
        self.pool = Pool(samples(8 * (self.capacity + 2)))

    def stages(self) -> Iterator[tuple[Memory, int]]:
        """An empty memory, a half full one, a full one and one that overflowed; and how many samples were offered."""
        for offered in (0, self.capacity // 2, self.capacity, 3 * self.capacity):
            yield self.filled(offered, offered), offered

    def stages_and_forgetting(self) -> Iterator[tuple[Memory, int]]:
        """The same, and a memory that forgot some of its samples."""
        yield from self.stages()
        memory = self.filled(0, 2 * self.capacity)
        if isinstance(memory, Forgetful):
            memory.keep(np.arange(1, len(memory), 2))
            yield memory, 2 * self.capacity

    def filled(self, seed: int, n: int) -> Memory:
        """A memory that the first `n` samples were offered to."""
        memory = self.build(seed)
        self.fill(memory, 0, n)
        return memory

    def fill(self, memory: Memory, start: int, end: int) -> None:
        """Offer samples in batches of different sizes, some larger than the memory."""
        for size in itertools.cycle((1, 3, self.capacity + 2, 2)):
            if start >= end:
                return
            self.offer(memory, self.pool.take(range(start, min(start + size, end))))
            start += size

    def used(self, seed: int) -> Memory:
        memory = self.build(seed)
        self.use(memory, 0, 3 * self.capacity)
        return memory

    def use(self, memory: Memory, start: int, end: int) -> list[list[int]]:
        """Offer samples and draw after each batch; gives the numbers of the samples that were drawn."""
        drawn = []
        for first in range(start, end, 3):
            self.fill(memory, first, min(first + 3, end))
            if len(memory) and self.drawable:
                drawn.append(self.pool.numbers(draw(memory, 2)))
        return drawn

    def handed_over(self, memory: Memory) -> Memory:
        """Another memory, of another seed, restored from the state of this one."""
        other = self.build(99)
        other.load_state_dict(memory.state_dict())
        return other

    def held(self, memory: Memory) -> list[int]:
        return self.pool.numbers(memory.all()) if len(memory) else []

    def counts(self, numbers: Iterable[list[int]]) -> Counts:
        """How often each sample of the pool is among the `numbers` of all trials."""
        return np.bincount(np.asarray([*itertools.chain(*numbers)], dtype=np.int64), minlength=len(self.pool))

    def count(self, memory: Memory, offered: int) -> str:
        return f"after {offered} samples it holds {len(memory)} in {memory.capacity} slots"


def draw(memory: Memory, n: int, rng: np.random.Generator | None = None) -> Samples:
    """Draw from a memory that is known to be drawable, with its own generator unless one is given."""
    assert isinstance(memory, Drawable)
    return memory.draw(n) if rng is None else memory.draw(n, rng)
