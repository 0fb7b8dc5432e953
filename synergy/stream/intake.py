"""Samples as users give them, and the one form that all samples of a stream have."""

from __future__ import annotations

import reprlib
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synergy.errors import UsageError

_STRIDED = torch.strided


class Intake:
    """Takes in batches of a stream: uint8 and other whole numbers as they are, all else in the network's precision.

    Args:
        numbers: type of the network's parameters.
        device: of the network.
    """

    def __init__(self, numbers: torch.dtype, device: torch.device) -> None:
        self._shape: torch.Size | None = None
        self._usual: torch.Size | None = None
        """Of the latest batch in its place: the next one that has it need not be looked at dimension by dimension."""
        self._dtype = numbers
        self._numbers = numbers
        self._device = device
        self._on_host = device.type == "cpu"

    def fix(self, raw: Tensor) -> None:
        """From now on samples are like those of `raw` `[B, ...]`."""
        self._shape, self._dtype = raw.shape[1:], raw.dtype
        self._usual = None

    def form(self) -> tuple[torch.Size, torch.dtype]:
        """Shape and type of a sample as it is stored."""
        assert self._shape is not None, "there was a sample"
        return self._shape, self._dtype

    def __call__(self, given: Any) -> Tensor:
        """A batch `[B, ...]` as it is stored, from a tensor, an array or nested lists.

        Raises:
            UsageError: it is no batch of numbers, is empty, holds NaN, infinity or what the precision cannot hold, or
                its samples are not like those before.
        """
        raw = given if isinstance(given, Tensor) else _tensor(given)
        if (  # a batch like those before, dense and in its place: the usual one, for which nothing is to be done
            raw.dtype is self._dtype
            and raw.layout is _STRIDED
            and (raw.is_cpu if self._on_host else raw.device == self._device)
            and not (raw.requires_grad or raw.is_nested or raw.is_inference())
            and (raw.shape == self._usual or self._fits(raw.shape))
        ):
            if self._dtype is self._numbers:
                check_finite(raw)
            return raw
        raw = as_samples(raw, self._numbers, self._device)
        if self._shape is not None:
            self._check(raw, self._shape)
        return raw

    def _fits(self, shape: torch.Size) -> bool:
        """Whether this is the shape of a batch, with samples like those before."""
        fits = bool(shape) and shape[0] > 0 and shape[1:] == self._shape
        if fits:
            self._usual = shape
        return fits

    def _check(self, raw: Tensor, shape: torch.Size) -> None:
        if raw.shape[1:] != shape or raw.dtype != self._dtype:
            hint = "; add a dimension (x[None])" if raw.shape == shape else ""
            allowed = ", ".join(["B", *map(str, shape)])
            raise UsageError(
                f"samples: given shape {list(raw.shape)} of {raw.dtype}; allowed: [{allowed}] of {self._dtype}, as in "
                f"the first batch{hint}"
            )


_UNSTORABLE = (torch.uint16, torch.uint32, torch.uint64)
"""Torch has next to no operations on these."""


def as_samples(given: Any, dtype: torch.dtype, device: torch.device, name: str = "samples") -> Tensor:
    """A batch as it is stored: uint8 and other whole numbers as they are, all else in the network's precision.

    Args:
        given: tensor, array or nested lists, `[B, ...]`.
        dtype: of the network.
        device: of the network.
        name: what to call them in an error.

    Raises:
        UsageError: it is no batch of numbers, is empty, of a type that cannot be stored, or holds NaN, infinity or what
            the precision cannot hold.
    """
    raw = given if isinstance(given, Tensor) else _tensor(given, name)
    if raw.requires_grad:
        raw = raw.detach()
    if raw.is_inference():  # nothing can learn from such a tensor itself
        raw = raw.clone()
    if raw.layout is not torch.strided or raw.is_nested or raw.is_meta:
        raise UsageError(f"{name}: given a sparse, nested or meta tensor; allowed: a dense one (x.to_dense())")
    if not raw.dim() or not raw.shape[0]:
        raise UsageError(f"{name}: given a tensor of shape {list(raw.shape)}; allowed: [B, ...] with B at least 1")
    if raw.is_complex():
        raise UsageError(f"{name}: given {raw.dtype}; allowed: real numbers")
    if raw.dtype in _UNSTORABLE:
        raise UsageError(f"{name}: given {raw.dtype}; allowed: uint8, int32, int64 or floats (x.astype('int32'))")
    if raw.is_floating_point() or raw.dtype == torch.bool:
        raw = raw.to(dtype)
        check_finite(raw, name)
    return raw.to(device)


def check_finite(raw: Tensor, name: str = "samples") -> None:
    """Raises UsageError if something in a batch `[B, ...]` is NaN or infinite. On a device that must be waited for
    nobody looks.
    """
    # A sum is NaN or infinite if any element is: one pass and no copy for the usual case.
    if raw.is_cpu and not isfinite(raw.sum().item()) and not raw.isfinite().all():
        row = int((~raw.isfinite()).reshape(len(raw), -1).any(1).int().argmax())
        kind = str(raw.dtype).removeprefix("torch.")
        raise UsageError(f"{name}: number {row} of the batch holds NaN or infinity; allowed: finite {kind} numbers")


def _tensor(given: Any, name: str = "samples") -> Tensor:
    if np.ma.is_masked(given):
        raise UsageError(f"{name}: given an array with masked values; allowed: numbers everywhere (x.filled(0))")
    try:
        # Torch shares an array's memory, and warns of one that cannot be written to.
        array = np.asarray(given)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{name}: given {reprlib.repr(given)}; allowed: a tensor, or an array or lists of numbers "
            "(x.astype('float32') for other arrays)"
        ) from error
