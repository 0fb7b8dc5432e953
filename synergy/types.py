"""What travels between the floors: a batch, a split of data, a task, the losses of a step, a predictor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

ProtocolName: TypeAlias = Literal["class-IL", "task-IL", "domain-IL", "general"]
"""How an accuracy was taken: with all outputs (class-IL, domain-IL, general), or with the task's only (task-IL)."""

Losses: TypeAlias = dict[str, Tensor]
"""The named terms of one step's loss, detached scalars on the device; `"loss"` is their weighted sum."""


class Predictor(Protocol):
    """Maps a batch of inputs to class scores: float `[B, ...]` -> float `[B, n_classes]`, without gradient."""

    def __call__(self, inputs: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Batch:
    """One step of a stream, on the device of the network.

    Attributes:
        raw: samples as they are stored, `uint8 [B, C, H, W]` for images.
        inputs: the float view the network sees, augmented, `[B, ...]`.
        labels: `int64 [B]`.
    """

    raw: Tensor
    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]


@dataclass(frozen=True)
class Split:
    """Samples with labels: raw `uint8 [N, C, H, W]`, labels `int64 [N]`, and the classes that can occur."""

    raw: Tensor
    labels: Tensor
    classes: tuple[int, ...]

    def __len__(self) -> int:
        return self.labels.shape[0]

    def select(self, indices: Tensor, classes: tuple[int, ...] | None = None) -> Split:
        """The samples at `indices` (`int64 [M]`), copied."""
        return Split(self.raw[indices], self.labels[indices], self.classes if classes is None else classes)

    def to(self, device: torch.device) -> Split:
        return Split(self.raw.to(device), self.labels.to(device), self.classes)


class Task:
    """A stretch of a stream. Its data are built when first asked for, and read-only by agreement.

    Args:
        index: position in the stream, from 0.
        classes: labels that occur in it.
        build: makes the training data.
        order: the batches of an epoch, each an `int64 [B]` tensor of indices into the training data. It depends on
            the scenario's seed and the epoch only, so that a stream can be entered at any batch.
    """

    def __init__(
        self,
        index: int,
        classes: tuple[int, ...],
        build: Callable[[], Split],
        order: Callable[[int], Sequence[Tensor]],
    ) -> None:
        self.index = index
        self.classes = classes
        self._build = build
        self._order = order

    @cached_property
    def train(self) -> Split:
        return self._build()

    def order(self, epoch: int) -> Sequence[Tensor]:
        """The index tensors of all batches of `epoch` (from 0)."""
        return self._order(epoch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Raw samples and labels of each batch of `epoch`, from batch `start` on."""
        train = self.train
        for indices in self.order(epoch)[start:]:
            yield train.raw[indices], train.labels[indices]
