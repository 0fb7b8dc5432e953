"""The memory of a learner, as its user sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from synergy.errors import UsageError
from synergy.memory.base import Forgetful, Memory
from synergy.stream.progress import Progress

CHUNK = 1000
"""Samples that are brought to the host at once."""


class MemoryContents:
    """The samples that a learner keeps: how many, of which classes; some can be taken out for good.

    Args:
        progress: of the learner.

    Examples:
        >>> import torch
        >>> from synergy import Learner
        >>> learner = Learner(torch.nn.Linear(2, 2), "er", buffer_size=10, minibatch_size=10)
        >>> _ = learner.observe([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["a", "b", "b"])
        >>> learner.memory.summary()
        {'samples': 3, 'capacity': 10, 'bytes': 160, 'per_class': {'a': 1, 'b': 2}}
        >>> learner.memory.forget(lambda sample, label: label == "b")
        2
        >>> len(learner.memory)
        1
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __len__(self) -> int:
        """Samples."""
        return sum(map(len, self._memories()))

    def summary(self) -> dict[str, Any]:
        """Samples, capacity, bytes of all slots, and samples per class (by label; not for numbers)."""
        memories = self._memories()
        summary = {
            "samples": len(self),
            "capacity": sum(memory.capacity for memory in memories),
            "bytes": sum(memory.store.nbytes() for memory in memories),
        }
        return summary if self._known() is None else {**summary, "per_class": self._per_class()}

    def forget(self, predicate: Callable[[Tensor, Any], bool]) -> int:
        """Take out every sample for which `predicate(sample, label)` is true; how many those were.

        Raises:
            UsageError: the predicate cannot be called, does not decide, or the memory cannot forget single samples.
                Nothing is taken out then.
        """
        if not callable(predicate):
            raise UsageError(
                f"predicate: given {predicate!r}; allowed: a callable, (sample, label) -> whether it must go"
            )
        memories = [memory for memory in self._memories() if len(memory)]
        kept = [self._kept(memory, predicate) for memory in memories]
        forgotten = sum(len(memory) - len(positions) for memory, positions in zip(memories, kept, strict=True))
        if forgotten:
            self._progress.change(lambda: self._keep(memories, kept))
        return forgotten

    def _memories(self) -> list[Memory]:
        worker = self._progress.worker
        return [] if worker is None else worker.method.memories()

    def _known(self) -> Sequence[Hashable] | None:
        labels = self._progress.labels
        return None if labels is None else labels.known

    def _per_class(self) -> dict[Hashable, int]:
        counts: Counter[int] = Counter()
        for memory in self._memories():
            if len(memory):
                counts.update(memory.all().labels.tolist())
        return {label: counts[output] for output, label in enumerate(self._known() or ())}

    def _kept(self, memory: Memory, predicate: Callable[[Tensor, Any], bool]) -> list[int]:
        """Positions of the samples that stay."""
        if not isinstance(memory, Forgetful):
            raise UsageError(f"memory: a {type(memory).__name__} cannot forget single samples")
        return [n for n, (sample, label) in enumerate(self._samples(memory)) if not _decided(predicate(sample, label))]

    def _keep(self, memories: Sequence[Memory], kept: Sequence[list[int]]) -> None:
        for memory, positions in zip(memories, kept, strict=True):
            if isinstance(memory, Forgetful) and len(positions) < len(memory):
                memory.keep(np.asarray(positions, dtype=np.int64))
        if self._progress.worker is not None:
            self._progress.worker.method.memory_changed()

    def _samples(self, memory: Memory) -> Iterator[tuple[Tensor, Any]]:
        """Each sample on the host, with its label or its numbers."""
        samples, known = memory.all(), self._known()
        for raw, labels in zip(samples.raw.split(CHUNK), samples.labels.split(CHUNK), strict=True):
            targets = list(labels.cpu()) if known is None else [known[output] for output in labels.tolist()]
            yield from zip(raw.cpu(), targets, strict=True)


def _decided(answer: object) -> bool:
    try:
        return bool(answer)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"predicate: it gave {type(answer).__name__} of several values; allowed: true or false for each sample "
            "(such as bool((sample > 0).any()))"
        ) from error
