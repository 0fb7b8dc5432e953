"""Samples that can be told apart wherever they are: by their number, and by their bytes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FunctionType, ModuleType

import numpy as np
import torch
from torch import Tensor

from synergy.memory.store import Samples
from synergy.randomness import generator
from synergy.testing.checks import require


def different_samples(n: int) -> Samples:
    """`n` different samples: raw `uint8 [n, 1, 4, 4]` of random bytes, three labels, and logits `[n, 3]`.

    Examples:
        >>> different_samples(4).labels
        tensor([0, 1, 2, 0])
    """
    rng = generator(0, "testing/samples")
    raw = torch.from_numpy(rng.integers(1, 256, (n, 1, 4, 4), dtype=np.uint8))
    logits = torch.from_numpy(rng.random((n, 3), dtype=np.float32))
    return Samples(raw, torch.arange(n) % 3, {"logits": logits})


class Pool:
    """Samples numbered from 0.

    Args:
        samples: all with different `raw`.

    Examples:
        >>> pool = Pool(different_samples(9))
        >>> pool.numbers(pool.take(range(4, 7)))
        [4, 5, 6]
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.bytes_of = [row.numpy().tobytes() for row in samples.raw]
        self._number_of = {row: number for number, row in enumerate(self.bytes_of)}
        require(len(self._number_of) == len(samples), "`samples` gave two samples with the same `raw`")

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, numbers: range) -> Samples:
        """The samples of these numbers, copied."""
        return self.samples.select(np.asarray(numbers))

    def numbers(self, samples: Samples) -> list[int]:
        """The numbers of samples that were taken.

        Raises:
            AssertionError: a sample has another image, label or field than it had in the pool.
        """
        rows = [row.numpy().tobytes() for row in samples.raw.cpu()]
        require(self._number_of.keys() >= set(rows), "it gives a sample that was never offered")
        numbers = [self._number_of[row] for row in rows]
        for name, value in self.samples.fields().items():
            if name in samples.fields():
                right = torch.equal(samples.fields()[name].cpu(), value[numbers])
                require(right, f"it gives a sample with another '{name}' than it was offered with")
        return numbers


def overwrite(samples: Samples) -> None:
    """Write zeros over every field."""
    for value in samples.fields().values():
        value.zero_()


def stored_bytes(owner: object) -> Iterator[bytes]:
    """The bytes of every tensor and array that can be reached from an object, also those outside their views."""
    seen: set[int] = set()
    waiting = [owner]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, type | ModuleType | FunctionType):
            continue
        seen.add(id(part))
        match part:
            case Tensor():
                storage = torch.empty(0, dtype=torch.uint8, device=part.device).set_(part.untyped_storage())
                yield storage.cpu().numpy().tobytes()
            case np.ndarray():
                yield part.tobytes()
                waiting.append(part.base)
            case bytes():
                yield part
            case _:
                waiting.extend(gc.get_referents(part))
