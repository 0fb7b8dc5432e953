"""A memory in equal sections, in each of which the newest samples overwrite the oldest."""

from __future__ import annotations

import numpy as np

from synergy.memory.base import Drawn
from synergy.memory.store import Samples


class Ring(Drawn):
    """The last `capacity // n_sections` samples of every section, the sections one after the other.

    Reference: Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning", with a section for each
    task.

    Args:
        capacity: slots, at least one for each section.
        n_sections: how often `next_section` opens a new one, and the first.
        draw_rng: decides which samples are drawn.
    """

    def __init__(self, capacity: int, n_sections: int, draw_rng: np.random.Generator) -> None:
        assert 1 <= n_sections <= capacity, f"{capacity} slots for {n_sections} sections"
        super().__init__(capacity, draw_rng)
        self.size = capacity // n_sections
        """Slots of a section."""
        self.n_sections = n_sections
        self.section = 0
        self.start = 0
        self.seen = 0
        """Samples offered to the present section, which begins at slot `start`."""

    def offer(self, samples: Samples) -> None:
        """Put samples into the present section, over the oldest where it is full."""
        n = len(samples)
        kept = np.arange(max(0, n - self.size), n)
        slots = self.start + (self.seen + kept) % self.size
        self.seen += n
        self.store.put(slots, samples if len(kept) == n else samples.select(kept))

    def next_section(self) -> None:
        """Leave the present section as it is. Slots that it did not use go to those that follow."""
        self.section += 1
        self.start, self.seen = len(self), 0
