"""What travels between the floors: a batch, a split of data, a task, the losses of a step, a predictor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

ProtocolName: TypeAlias = Literal["class-IL", "task-IL", "domain-IL", "general"]
"""How an accuracy was taken: with all outputs (class-IL, domain-IL, general), or with the task's only (task-IL)."""

Losses: TypeAlias = dict[str, Tensor]
"""The named terms of one step's loss, detached scalars on the device; `"loss"` is their weighted sum."""


class Predictor(Protocol):
    """Maps a batch of inputs to class scores: float `[B, ...]` -> float `[B, n_classes]`, without gradient."""

    def __call__(self, inputs: Tensor, /) -> Tensor: ...


ViewDraws: TypeAlias = Tensor | np.random.Generator | None
"""The random part of a view: a tensor with a row for each sample; None where nothing is random; a generator where the
view is a function that draws when it is called."""


class View(Protocol):
    """Makes what a network sees, float `[B, ...]`, from stored samples `[B, ...]`, in one batched operation."""

    def decide(self, n: int, rng: np.random.Generator, /) -> ViewDraws:
        """Draw the random part for `n` samples, on the host."""

    def __call__(self, raw: Tensor, draws: ViewDraws, /) -> Tensor:
        """The view for training, with these draws; without any it is the plain view."""

    def plain(self, raw: Tensor, /) -> Tensor:
        """The view for evaluation, always the same."""


@dataclass(frozen=True)
class Step:
    """What a step of a method gives back.

    Attributes:
        losses: the named terms of its loss; empty if it took none.
        outputs: of the network that `Method.outputs_of` names, as they were before the step: detached, `[N, ...]`, the
            first rows those for the stream batch. None if the step did not compute them.
    """

    losses: Losses
    outputs: Tensor | None = None


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
    """Samples with labels: raw `uint8 [N, C, H, W]`, labels `int64 [N]`, and the classes that can occur.

    Examples:
        >>> import torch
        >>> split = Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0]), (0, 1))
        >>> split.select(torch.tensor([1])).labels
        tensor([1])
    """

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
        samples: what it is made of, before `transform`; `samples.classes` are the labels that occur.
        order: the batches of an epoch (from 0), each an `int64 [B]` tensor of indices into the samples, on their
            device. It depends on the scenario's seed and the epoch only, so that a stream can be entered at any batch.
        transform: turns raw samples `[B, C, H, W]` at indices `[B]` into those of this task (permutes or rotates them).
        earlier: the tasks before this one. Only the joint upper bound uses them.

    Examples:
        >>> import torch
        >>> samples = Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), (0, 1))
        >>> task = Task(0, samples, lambda epoch: torch.arange(4).split(2))
        >>> [labels.tolist() for _, labels in task.batches(0)]
        [[0, 1], [0, 1]]
    """

    def __init__(
        self,
        index: int,
        samples: Split,
        order: Callable[[int], Sequence[Tensor]],
        transform: Callable[[Tensor, Tensor], Tensor] | None = None,
        earlier: Callable[[], Sequence[Task]] = tuple,
    ) -> None:
        self.index = index
        self.classes = samples.classes
        self.order = order
        self.earlier = earlier
        self._samples = samples
        self._transform = transform

    def __len__(self) -> int:
        """Training samples."""
        return len(self._samples)

    @property
    def labels(self) -> Tensor:
        """`int64 [N]`."""
        return self._samples.labels

    @property
    def changes_samples(self) -> bool:
        """Whether samples are transformed, such as turned, before they are shown."""
        return self._transform is not None

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Raw samples and labels at `indices` (`int64 [B]`, on the samples' device)."""
        raw = self._samples.raw.index_select(0, indices)
        labels = self._samples.labels.index_select(0, indices)
        return (raw if self._transform is None else self._transform(raw, indices)), labels

    def train(self) -> Split:
        """All training data of the task, made anew at each call."""
        everything = torch.arange(len(self), device=self.labels.device)
        return Split(*self.take(everything), self.classes)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Raw samples and labels of each batch of `epoch`, from batch `start` on."""
        return map(self.take, self.order(epoch)[start:])
