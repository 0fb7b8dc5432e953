"""The memory of a learner, as its user sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from synergy.errors import UsageError
from synergy.memory.base import Forgetful, Memory
from synergy.methods.base import Method

CHUNK = 1000
"""Samples that are brought to the host at once."""


class Stored:
    """What a learner has in memory.

    Args:
        method: whose memory it is; None before there is one.
        known: the label of each class; None where targets are numbers.
    """

    def __init__(self, method: Method[Any] | None, known: Sequence[Hashable] | None) -> None:
        self._method = method
        self._memories = [] if method is None else method.memories()
        self._known = known

    def __len__(self) -> int:
        """Samples."""
        return sum(map(len, self._memories))

    def summary(self) -> dict[str, Any]:
        """Samples, capacity, bytes of all slots, and samples per class (by label; not for regression)."""
        summary = {
            "samples": len(self),
            "capacity": sum(memory.capacity for memory in self._memories),
            "bytes": sum(memory.store.nbytes() for memory in self._memories),
        }
        return summary if self._known is None else {**summary, "per_class": self._per_class(self._known)}

    def _per_class(self, known: Sequence[Hashable]) -> dict[Hashable, int]:
        counts: Counter[int] = Counter()
        for memory in self._memories:
            if len(memory):
                counts.update(memory.all().labels.tolist())
        return {label: counts[output] for output, label in enumerate(known)}

    def forget(self, predicate: Callable[[Tensor, Any], bool]) -> int:
        """Take out every sample for which `predicate(sample, label)` is true; how many those were."""
        if not callable(predicate):
            raise UsageError(
                f"predicate: given {predicate!r}; allowed: a callable, (sample, label) -> whether it must go"
            )
        forgotten = sum(self._forget_from(memory, predicate) for memory in self._memories if len(memory))
        if forgotten and self._method is not None:
            self._method.memory_changed()
        return forgotten

    def _forget_from(self, memory: Memory, predicate: Callable[[Tensor, Any], bool]) -> int:
        if not isinstance(memory, Forgetful):
            raise UsageError(f"memory: a {type(memory).__name__} cannot forget single samples")
        samples = memory.all()
        keep = [
            start + n
            for start in range(0, len(samples), CHUNK)
            for n, (sample, label) in enumerate(
                zip(samples.raw[start : start + CHUNK].cpu(), self._labels(samples.labels, start), strict=True)
            )
            if not _decided(predicate(sample, label))
        ]
        forgotten = len(samples) - len(keep)
        if forgotten:
            memory.keep(np.asarray(keep, dtype=np.int64))
        return forgotten

    def _labels(self, labels: Tensor, start: int) -> Sequence[Any]:
        chunk = labels[start : start + CHUNK].cpu()
        return list(chunk) if self._known is None else [self._known[output] for output in chunk.tolist()]


def _decided(answer: object) -> bool:
    try:
        return bool(answer)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"predicate: it gave {type(answer).__name__} of several values; allowed: true or false for each sample "
            "(such as bool((sample > 0).any()))"
        ) from error
