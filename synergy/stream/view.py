"""From samples as a user gives them to samples as they are stored, and to what a network sees."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synergy.data.augment import Augment
from synergy.errors import UsageError

Transform = Callable[[Tensor], Tensor]
"""Stored samples `[B, ...]` -> what the network sees, `[B, ...]`: one batched operation, the same at each call."""
Randomise = Callable[[Tensor, np.random.Generator], Tensor]
"""Stored samples `[B, ...]` and the learner's own generator -> other stored samples, such as shifted images."""


@dataclass(frozen=True)
class StreamView:
    """What a network sees of stored samples.

    Attributes:
        transform: a batched callable or an `Augment`; None scales uint8 to [0, 1] and leaves all else as it is.
        augment: makes another sample of a sample, before `transform`, in training only.
        dtype: of the network.
    """

    transform: Transform | Augment | None
    augment: Randomise | None
    dtype: torch.dtype

    def __call__(self, raw: Tensor, rng: np.random.Generator) -> Tensor:
        """The view for training, `[B, ...]`; random samples are drawn from `rng`."""
        if self.augment is not None:
            raw = self.augment(raw, rng)
        return self.transform(raw, rng) if isinstance(self.transform, Augment) else self.plain(raw)

    @property
    def is_random(self) -> bool:
        """Whether the view for training differs from that for prediction."""
        return self.augment is not None or isinstance(self.transform, Augment)

    def plain(self, raw: Tensor) -> Tensor:
        """The view for prediction, `[B, ...]`."""
        if isinstance(self.transform, Augment):
            return self.transform.plain(raw)
        if self.transform is not None:
            return self.transform(raw)
        return raw.to(self.dtype).div_(255) if raw.dtype == torch.uint8 else raw


def as_samples(given: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A batch as it is stored: uint8 and other whole numbers as they are, all else in the network's precision.

    Args:
        given: tensor, array or nested lists, `[B, ...]`.
        dtype: of the network.
        device: of the network.

    Raises:
        UsageError: it is no batch of numbers, is empty, or holds NaN, infinity or what the precision cannot hold.
    """
    raw = given if isinstance(given, Tensor) else _tensor(given)
    if raw.requires_grad:
        raw = raw.detach()
    if raw.is_inference():  # nothing can learn from such a tensor itself
        raw = raw.clone()
    if raw.layout is not torch.strided or raw.is_nested or raw.is_meta:
        raise UsageError("samples: given a sparse, nested or meta tensor; allowed: a dense one (x.to_dense())")
    if not raw.dim() or not raw.shape[0]:
        raise UsageError(f"samples: given a tensor of shape {list(raw.shape)}; allowed: [B, ...] with B at least 1")
    if raw.is_floating_point() or raw.dtype == torch.bool:
        if raw.dtype != dtype:
            raw = raw.to(dtype)
        # A sum is NaN or infinite if any element is: one pass and no copy for the usual case.
        if raw.is_cpu and not math.isfinite(raw.sum().item()) and not raw.isfinite().all():
            row = int((~raw.isfinite()).flatten(1 if raw.dim() > 1 else 0).reshape(len(raw), -1).any(1).int().argmax())
            kind = str(dtype).removeprefix("torch.")
            raise UsageError(
                f"samples: number {row} of the batch holds NaN or infinity; allowed: finite {kind} numbers"
            )
        return raw if raw.device == device else raw.to(device)
    if raw.is_complex():
        raise UsageError(f"samples: given {raw.dtype}; allowed: real numbers")
    return raw.to(device)


def _tensor(given: Any) -> Tensor:
    if np.ma.is_masked(given):
        raise UsageError("samples: given an array with masked values; allowed: numbers everywhere (x.filled(0))")
    try:
        # Torch shares an array's memory, and warns of one that cannot be written to.
        array = np.asarray(given)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"samples: given {reprlib.repr(given)}; allowed: a tensor, or an array or lists of numbers "
            "(x.astype('float32') for other arrays)"
        ) from error
