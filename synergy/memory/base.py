"""The common part of all memories: samples in a store, and a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synergy.memory.store import Samples, Store
from synergy.state import State, collect, restore
from synergy.types import View, ViewDraws

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Places of samples in memory, rising."""


class Memory:
    """Samples in a store of `capacity` slots. Its state is its attributes.

    Args:
        capacity: slots.

    Examples:
        >>> memory = Memory(4)
        >>> len(memory), memory.capacity
        (0, 4)
    """

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

    def prepare(self, sizes: Sequence[int]) -> None:
        """Called before decisions for several batches of these sizes: a memory may decide for all of them at once."""

    def state_dict(self) -> State:
        return collect(self._parts())

    def load_state_dict(self, state: State) -> None:
        parts = self._parts()
        restore(parts, state)
        vars(self).update(parts)

    def _parts(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_prepared"}


def check_samples(
    memory: Memory, raw: Tensor, targets: Tensor, n_classes: int | None, outputs: Mapping[str, Sequence[int]]
) -> None:
    """Compare the samples of a restored memory with those that will be offered.

    Args:
        memory: restored.
        raw: a sample as it will be offered, `[1, ...]`.
        targets: its label or numbers, `[1, ...]`.
        n_classes: labels are below it; None where targets are numbers.
        outputs: names and shapes of the fields that each hold an output of the network.

    Raises:
        ValueError: the samples have other shapes or types, or labels outside the known classes.
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
        raise ValueError(f"a memory with labels outside the {n_classes} known classes")


@dataclass(frozen=True)
class Draw:
    """A decided draw from memory: the slots, `int64 [R]`, and the random part of their view."""

    slots: Tensor
    view: ViewDraws


@dataclass(frozen=True)
class Recalled:
    """Samples from memory as a network sees them.

    Attributes:
        inputs: their view, float `[R, ...]`.
        labels: `int64 [R]`.
        extras: other stored fields, such as logits `[R, K]`.
    """

    inputs: Tensor
    labels: Tensor
    extras: Mapping[str, Tensor]


class DrawableMemory(Memory):
    """A memory that gives random samples.

    Args:
        capacity: slots.
        draw_rng: decides which samples are drawn.

    Examples:
        >>> import numpy as np, torch
        >>> memory = DrawableMemory(4, np.random.default_rng(0))
        >>> memory.store.write(np.arange(3), Samples(torch.tensor([[7], [8], [9]]), torch.tensor([0, 1, 0])))
        >>> sorted(memory.draw(3).raw.flatten().tolist())
        [7, 8, 9]
    """

    def __init__(self, capacity: int, draw_rng: np.random.Generator) -> None:
        super().__init__(capacity)
        self._draw_rng = draw_rng

    def choose(self, n: int, rng: np.random.Generator | None = None) -> Tensor:
        """The slots of `n` different samples (of all if there are fewer), `int64 [R]` on the host.

        It needs counts alone, so that it can run ahead of the device. The memory must hold a sample.

        Args:
            n: at least 1.
            rng: decides instead of the memory's own generator, for draws that serve another purpose than replay.
        """
        assert len(self), "the memory is empty"
        rng = self._draw_rng if rng is None else rng
        return torch.from_numpy(rng.choice(len(self), size=min(n, len(self)), replace=False, shuffle=False))

    def decide(self, n: int, view: View, rng: np.random.Generator) -> Draw | None:
        """A draw of `n` samples whose view draws from `rng`; None while the memory is empty."""
        if not len(self):
            return None
        slots = self.choose(n)
        return Draw(slots, view.decide(len(slots), rng))

    def recall(self, draw: Draw, view: View) -> Recalled:
        """The samples of a decided draw, as a network sees them."""
        samples = self.store.get(draw.slots)
        return Recalled(view(samples.raw, draw.view), samples.labels, samples.extras)

    def draw(self, n: int, rng: np.random.Generator | None = None) -> Samples:
        """Choose `n` samples and copy them; arguments as in `choose`."""
        return self.store.get(self.choose(n, rng))


class Forgetful(Memory, ABC):
    """A memory that can forget: single samples can be taken out of it again."""

    @abstractmethod
    def keep(self, positions: Positions) -> None:
        """Take out all samples but those at `positions` `[N]`, rising. The memory goes on by its own rule."""

    def shrink(self, capacity: int, rng: np.random.Generator) -> None:
        """Go on with fewer slots. `rng` draws the samples that stay, each with the same probability."""
        if len(self) > capacity:
            self.keep(np.sort(rng.choice(len(self), size=capacity, replace=False, shuffle=False)))
        self.store.shrink(capacity)
