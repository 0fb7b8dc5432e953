"""A memory with a block of samples for each task, filled when the task is over."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from synergy.errors import UsageError
from synergy.memory.base import DrawableMemory
from synergy.memory.store import Samples
from synergy.types import Task


class TaskWise(DrawableMemory):
    """Samples of every task so far, in the order of the tasks.

    Args:
        capacity: slots of all tasks together.
        draw_rng: decides which samples are drawn.

    Examples:
        >>> import numpy as np, torch
        >>> memory = TaskWise(4, np.random.default_rng(0))
        >>> memory.add(Samples(torch.arange(3)[:, None], torch.zeros(3).long()))
        >>> memory.cut(2)
        >>> memory.add(Samples(torch.arange(10, 12)[:, None], torch.ones(2).long()))
        >>> memory.of(1).raw.flatten().tolist()
        [10, 11]
    """

    def __init__(self, capacity: int, draw_rng: np.random.Generator) -> None:
        super().__init__(capacity, draw_rng)
        self.sizes: list[int] = []
        """Samples of each task."""

    def add(self, samples: Samples) -> None:
        """Put in the samples of a new task; there must be room for them."""
        start, end = len(self), len(self) + len(samples)
        assert end <= self.store.capacity, f"{end} samples do not fit into {self.store.capacity} slots"
        self.store.write(np.arange(start, end), samples)
        self.sizes.append(len(samples))

    def cut(self, share: int) -> None:
        """Keep the first `share` samples of each task."""
        if not self.sizes:
            return
        ends = np.cumsum(self.sizes)
        kept = [np.arange(end - n, end - n + min(n, share)) for n, end in zip(self.sizes, ends, strict=True)]
        samples = self.store.get(torch.from_numpy(np.concatenate(kept)))
        self.store.filled = 0
        self.store.write(np.arange(len(samples)), samples)
        self.sizes = [len(slots) for slots in kept]

    def slots_of(self, task: int) -> Tensor:
        """The slots of the task that was put in as number `task` (from 0), `int64 [N]` on the host."""
        start = sum(self.sizes[:task])
        return torch.arange(start, start + self.sizes[task])

    def of(self, task: int) -> Samples:
        """The samples of the task that was put in as number `task` (from 0), copied."""
        return self.store.get(self.slots_of(task))


def equal_share(buffer_size: int, n_tasks: int) -> int:
    """Samples of each task when `n_tasks` have the same share of a memory.

    Raises:
        UsageError: the memory is too small for one sample of each task.
    """
    if buffer_size < n_tasks:
        raise UsageError(
            f"buffer_size: given {buffer_size}; allowed: at least {n_tasks}, one sample for each of the "
            f"{n_tasks} tasks of the stream; give --buffer_size {n_tasks} or more"
        )
    return buffer_size // n_tasks


def pick(task: Task, n: int, rng: np.random.Generator) -> Samples:
    """`n` different training samples of a task (all if it has fewer), at random."""
    chosen = rng.choice(len(task), size=min(n, len(task)), replace=False)
    return Samples(*task.take(torch.from_numpy(chosen).to(task.labels.device)))
