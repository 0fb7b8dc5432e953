"""A memory in equal sections; in each of them the newest samples overwrite the oldest."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from synergy.memory.base import DrawableMemory
from synergy.memory.store import Samples


class Ring(DrawableMemory):
    """The last `capacity // n_sections` samples of every section, the sections one after the other.

    Reference: Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning", with a section for each
    task.

    Args:
        capacity: slots, at least one for each section.
        n_sections: how often `next_section` opens a new one, and the first.
        draw_rng: decides which samples are drawn.

    Examples:
        >>> import numpy as np, torch
        >>> memory = Ring(4, 2, np.random.default_rng(0))
        >>> memory.offer(Samples(torch.arange(5)[:, None], torch.zeros(5).long()))
        >>> memory.next_section()
        >>> memory.offer(Samples(torch.arange(5, 6)[:, None], torch.ones(1).long()))
        >>> memory.all().raw.flatten().tolist()
        [4, 3, 5]
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

    def place(self, n: int) -> Tensor:
        """Decide where the next `n` samples go: into the present section, over its oldest where it is full.

        Returns:
            For `put`: `int64 [n]` on the host, `capacity` for a sample that later ones of the same batch overwrite.
        """
        slots = self.start + (self.seen + np.arange(n)) % self.size
        self.seen += n
        return self.store.place(slots)

    def put(self, places: Tensor, samples: Samples) -> None:
        """Write samples `[n]` where `place` decided."""
        self.store.put(places, samples)

    def offer(self, samples: Samples) -> None:
        """Place and put in one call."""
        self.put(self.place(len(samples)), samples)

    def next_section(self) -> None:
        """Close the present section and open the next. Slots that it did not use go to later sections."""
        self.section += 1
        self.start, self.seen = len(self), 0
