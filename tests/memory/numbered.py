"""Samples that carry their own number, which shows a test which of them are in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from synergy.memory.store import Samples


def numbered(start: int, n: int) -> Samples:
    """Samples `start` to `start + n - 1`, in the image and in the label."""
    numbers = torch.arange(start, start + n)
    return Samples(numbers[:, None], numbers)


def labelled(start: int, labels: Sequence[int]) -> Samples:
    """Samples `start`, `start + 1`, … with these labels; the image carries the number."""
    numbers = torch.arange(start, start + len(labels))
    return Samples(numbers[:, None], torch.tensor(labels, dtype=torch.int64))


def numbers_of(samples: Samples) -> list[int]:
    """The numbers of samples."""
    numbers: list[int] = samples.raw[:, 0].tolist()
    return numbers
