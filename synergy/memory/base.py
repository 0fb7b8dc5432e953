"""What all memories have in common: samples in a store, and a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from synergy.memory.store import Samples, Store
from synergy.state import State, collect, restore

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]


class Memory:
    """Samples in a store of `capacity` slots. Its state is its attributes."""

    def __init__(self, capacity: int) -> None:
        self.store = Store(capacity)

    def __len__(self) -> int:
        return self.store.filled

    @property
    def capacity(self) -> int:
        """Slots."""
        return self.store.capacity

    def all(self) -> Samples:
        """Everything in memory: read it, do not write to it."""
        return self.store.all()

    def state_dict(self) -> State:
        return collect(vars(self))

    def load_state_dict(self, state: State) -> None:
        restore(vars(self), state)


def check_samples(
    memory: Memory, raw: Tensor, targets: Tensor, n_classes: int | None, outputs: Mapping[str, Sequence[int]]
) -> None:
    """See that what was restored is of a kind with what will be offered: of that a fresh memory knows nothing.

    Args:
        memory: restored.
        raw: a sample as it will be offered, `[1, ...]`.
        targets: its label or numbers, `[1, ...]`.
        n_classes: labels are below it; None where targets are numbers.
        outputs: fields that hold an output of the network each, and its shape.

    Raises:
        ValueError: the samples have other shapes or types, or labels that there are not.
    """
    if not len(memory):
        return
    samples = memory.all()
    expected = {"raw": raw[0], "labels": targets[0], **{name: torch.empty(*shape) for name, shape in outputs.items()}}
    for name, value in samples.fields().items():
        like = expected.get(name, value[0])
        of_kind = name in outputs and value.is_floating_point()
        if value.shape[1:] != like.shape or not (of_kind or value.dtype == like.dtype):
            raise ValueError(f"a memory whose '{name}' are {value.dtype} {list(value.shape[1:])} each")
    if n_classes is not None and not 0 <= int(samples.labels.min()) <= int(samples.labels.max()) < n_classes:
        raise ValueError(f"a memory with labels that are none of the {n_classes}")


class Drawn(Memory):
    """A memory from which random samples are drawn.

    Args:
        capacity: slots.
        draw_rng: decides which are drawn.
    """

    def __init__(self, capacity: int, draw_rng: np.random.Generator) -> None:
        super().__init__(capacity)
        self._draw_rng = draw_rng

    def draw(self, n: int, rng: np.random.Generator | None = None) -> Samples:
        """`n` different samples (all of them if there are fewer), copied. The memory must not be empty.

        Args:
            n: at least 1.
            rng: decides in place of the memory's own generator, for a draw that is not for replay.
        """
        assert len(self), "nothing to draw from an empty memory"
        size = min(n, len(self))
        rng = self._draw_rng if rng is None else rng
        return self.store.get(rng.choice(len(self), size=size, replace=False, shuffle=False))


class Forgetful(Memory, ABC):
    """A memory from which single samples can be taken out again, whatever it decides by."""

    @abstractmethod
    def keep(self, positions: Positions) -> None:
        """Take out all samples but those at `positions` `[N]`, rising, and go on as if the others had just left."""

    def shrink(self, capacity: int, rng: np.random.Generator) -> None:
        """Go on with fewer slots; which samples stay is drawn from `rng`, each with the same probability."""
        if len(self) > capacity:
            self.keep(np.sort(rng.choice(len(self), size=capacity, replace=False, shuffle=False)))
        self.store.shrink(capacity)
