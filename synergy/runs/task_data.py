"""The data of the task at hand, in tensors that stay where they are: recorded steps gather their batches from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synergy.types import Split, Task

MOST_BYTES = 4 * 2**30
"""Of a task's data; larger ones are not copied, and their batches are gathered before the step."""


class TaskData:
    """Samples and labels of a task, in one place for all tasks.

    Args:
        longest: samples of the longest task.

    Examples:
        >>> from synergy import testing
        >>> stream = testing.scenario("seq-digits")
        >>> data = TaskData(max(len(stream.task(index)) for index in range(2)))
        >>> places = []
        >>> for index in range(2):
        ...     data.enter(stream.task(index))
        ...     places.append(data.samples.raw.data_ptr())
        >>> places[0] == places[1]
        True
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._place: Split | None = None
        self.samples: Split | None = None
        """As many as the longest task has, the first ones those of the task; None if they are too many to be held."""

    def enter(self, task: Task) -> None:
        """Hold the data of a task from now on."""
        example, _ = task.take(torch.zeros(1, dtype=torch.int64, device=task.labels.device))
        self.samples = None
        if self._longest * example.nbytes <= MOST_BYTES:
            self.samples = self._room(task.train())

    def labels(self, block: Sequence[Tensor]) -> Sequence[Tensor]:
        """The labels of several batches, `int64 [B]` of samples each, in one operation."""
        assert self.samples is not None, "there are samples"
        found: tuple[Tensor, ...] = self.samples.labels.index_select(0, torch.cat(list(block))).split(
            [len(indices) for indices in block]
        )
        return found

    def _room(self, data: Split) -> Split:
        size = max(self._longest, len(data))
        place = self._place
        if place is None or len(place) < size or place.raw.shape[1:] != data.raw.shape[1:]:
            raw, labels = (part.new_zeros(size, *part.shape[1:]) for part in (data.raw, data.labels))
            place = self._place = Split(raw, labels, data.classes)
        place.raw[: len(data)] = data.raw
        place.labels[: len(data)] = data.labels
        return place
