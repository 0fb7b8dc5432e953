"""From samples as they are stored to what a network sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synergy.data.view import ImageView, scaled
from synergy.errors import UsageError
from synergy.randomness import generator
from synergy.types import ViewDraws

Transform = Callable[[Tensor], Tensor]
"""From stored samples `[B, ...]` to what the network sees, `[B, ...]`: one batched operation, the same at each call."""
Randomise = Callable[[Tensor, np.random.Generator], Tensor]
"""Stored samples `[B, ...]` and the learner's own generator -> other stored samples, such as shifted images."""


@dataclass(frozen=True)
class StreamView:
    """What a network sees of stored samples.

    Attributes:
        transform: a batched callable or an `ImageView`; None scales uint8 to [0, 1] and leaves other numbers as they
            are.
        augment: makes a random variant of stored samples, before `transform`, in training only.
        dtype: of the network.

    Examples:
        >>> view = StreamView(None, lambda raw, rng: raw.flip(1), torch.float32)
        >>> pixels = torch.tensor([[0, 255]], dtype=torch.uint8)
        >>> view.plain(pixels)
        tensor([[0., 1.]])
        >>> view(pixels, view.decide(1, np.random.Generator(np.random.PCG64(0))))
        tensor([[1., 0.]])
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


def try_view(view: StreamView, raw: Tensor, seed: int) -> Tensor:
    """What the network sees of a batch, after a look at the transform and the augment.

    Args:
        view: is tried.
        raw: stored samples `[B, ...]`; left as they are.
        seed: of the random numbers that the augment is given.

    Raises:
        UsageError: one of them cannot take the samples, makes no samples of them, or writes to them.
    """
    given = raw.clone()
    if isinstance(view.transform, ImageView) and raw.is_floating_point():
        raise UsageError(
            f"samples: given {raw.dtype} with an ImageView, which scales 0 to 255 to [0, 1]; allowed: uint8, or "
            "a transform of your own"
        )
    if view.augment is not None:
        augment = view.augment
        made = _tried("augment", lambda: augment(given, generator(seed, "learner/rehearsal")), given)
        if made.shape != raw.shape or made.dtype != raw.dtype:
            raise UsageError(
                f"augment: it made {list(made.shape)} of {made.dtype} from {list(raw.shape)} of {raw.dtype}; allowed: "
                "samples like those it is given"
            )
    inputs = view.plain(given) if view.transform is None else _tried("transform", lambda: view.plain(given), given)
    if not torch.equal(given, raw):
        name = "augment" if view.augment is not None else "transform"
        raise UsageError(
            f"{name}: it writes to the samples it is given, which are yours; allowed: a callable that makes others "
            "(x - 1 for x.sub_(1))"
        )
    return inputs.clone()


def _tried(name: str, call: Callable[[], object], given: Tensor) -> Tensor:
    """What a user's function makes of samples `[B, ...]`: a tensor of as many, or a UsageError."""
    try:
        made = call()
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"{name}: it cannot take samples of shape {list(given.shape)} and type {given.dtype} ({reason}); "
            "allowed: a callable for batches [B, ...]"
        ) from error
    if not isinstance(made, Tensor) or made.dim() < 1 or len(made) != len(given):
        what = f"a tensor of shape {list(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise UsageError(f"{name}: it made {what} of {len(given)} samples; allowed: a tensor of as many samples")
    return made
