"""From samples as they are stored to what a network sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synergy.data.view import ImageView, scaled
from synergy.types import ViewDraws

Transform = Callable[[Tensor], Tensor]
"""Stored samples `[B, ...]` -> what the network sees, `[B, ...]`: one batched operation, the same at each call."""
Randomise = Callable[[Tensor, np.random.Generator], Tensor]
"""Stored samples `[B, ...]` and the learner's own generator -> other stored samples, such as shifted images."""


@dataclass(frozen=True)
class StreamView:
    """What a network sees of stored samples.

    Attributes:
        transform: a batched callable or an `ImageView`; None scales uint8 to [0, 1] and leaves all else as it is.
        augment: makes another sample of a sample, before `transform`, in training only.
        dtype: of the network.
    """

    transform: Transform | ImageView | None
    augment: Randomise | None
    dtype: torch.dtype

    def decide(self, n: int, rng: np.random.Generator) -> ViewDraws:
        """The random part for `n` samples; with an `augment`, the generator that it will draw from."""
        if self.augment is not None:
            return rng
        return self.transform.decide(n, rng) if isinstance(self.transform, ImageView) else None

    def __call__(self, raw: Tensor, draws: ViewDraws) -> Tensor:
        """The view for training, `[B, ...]`, with draws from `decide`."""
        if self.augment is not None and isinstance(draws, np.random.Generator):
            raw = self.augment(raw, draws)
            draws = self.transform.decide(len(raw), draws) if isinstance(self.transform, ImageView) else None
        return self.transform(raw, draws) if isinstance(self.transform, ImageView) else self.plain(raw)

    @property
    def is_random(self) -> bool:
        """Whether the view for training differs from that for prediction."""
        return self.augment is not None or isinstance(self.transform, ImageView)

    def plain(self, raw: Tensor) -> Tensor:
        """The view for prediction, `[B, ...]`."""
        if isinstance(self.transform, ImageView):
            return self.transform.plain(raw)
        if self.transform is not None:
            return self.transform(raw)
        return scaled(raw, self.dtype) if raw.dtype is torch.uint8 else raw
