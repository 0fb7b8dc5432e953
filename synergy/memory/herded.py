"""Exemplars: for every class the few samples that represent it best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from synergy.memory.base import DrawableMemory
from synergy.memory.store import Samples, joined


class Herded(DrawableMemory):
    """Exemplars of every class seen, the best of each class first. All classes have the same share of the slots.

    Reference: Rebuffi et al. 2017, "iCaRL: Incremental Classifier and Representation Learning", algorithms 4 and 5. Who
    puts exemplars in has them in the order of herding, so that to cut a class is to keep its first.

    Args:
        capacity: slots, at least one for every class that will come.
        draw_rng: decides which samples are drawn.

    Examples:
        >>> import numpy as np, torch
        >>> memory = Herded(4, np.random.default_rng(0))
        >>> memory.refill({0: Samples(torch.arange(9)[:, None], torch.zeros(9).long())})
        >>> memory.refill({1: Samples(torch.arange(10, 19)[:, None], torch.ones(9).long())})
        >>> memory.all().raw.flatten().tolist()
        [0, 1, 10, 11]
    """

    def __init__(self, capacity: int, draw_rng: np.random.Generator) -> None:
        super().__init__(capacity, draw_rng)
        self.classes: list[int] = []
        self.sizes: list[int] = []
        """Exemplars of each of `classes`, which lie in the slots in this order."""

    def share(self, new: Iterable[int]) -> int:
        """Exemplars of each class once the classes `new` are in memory too."""
        return self.store.capacity // len({*self.classes, *new})

    def of(self, label: int) -> Samples:
        """The exemplars of a class in memory, best first, copied."""
        which = self.classes.index(label)
        start = sum(self.sizes[:which])
        return self.store.get(torch.arange(start, start + self.sizes[which]))

    def refill(self, chosen: Mapping[int, Samples]) -> None:
        """Put in the exemplars of new classes, or others for old ones, best first; cut every class to its new share."""
        share = self.share(chosen)
        parts = {**{label: self.of(label) for label in self.classes}, **chosen}
        kept = {label: part.select(np.arange(min(share, len(part)))) for label, part in parts.items()}
        self.classes, self.sizes = list(kept), [len(part) for part in kept.values()]
        assert sum(self.sizes), "every class has 0 exemplars"
        samples = joined(list(kept.values()))
        self.store.filled = 0
        self.store.write(np.arange(len(samples)), samples)
