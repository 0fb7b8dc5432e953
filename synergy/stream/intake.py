"""Samples as users give them, and the one form that all samples of a stream have."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from synergy.errors import UsageError
from synergy.nets.named import Packing

UNSTORABLE = (torch.uint16, torch.uint32, torch.uint64)
"""Types for which torch has hardly any operations."""


@dataclass(frozen=True)
class Form:
    """What every sample of a stream is like.

    Attributes:
        shape: of one sample.
        dtype: of its numbers, as they are stored.
        names: of the columns, in the order of the network's inputs, if the first batch was a data frame.
        packing: of samples that are several named tensors; None for one tensor.
    """

    shape: torch.Size
    dtype: torch.dtype
    names: tuple[Hashable, ...] | None = None
    packing: Packing | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of one sample."""
        return self.shape.numel() * self.dtype.itemsize


class Intake:
    """Takes batches of a stream in any form, and gives them in the form of the first one.

    uint8 and other whole numbers stay as they are; all other numbers get the network's precision.

    Args:
        numbers: type of the network's parameters.
        device: of the network.

    Examples:
        >>> intake = Intake(torch.float32, torch.device("cpu"))
        >>> first = intake([[0.5, 1.5], [2.5, 3.5]])
        >>> intake.fix(first)
        >>> intake([[1, 2]])
        tensor([[1., 2.]])
        >>> intake([[1, 2, 3]])
        Traceback (most recent call last):
        synergy.errors.UsageError: samples: given shape [1, 3]; allowed: [B, 2], as in the first batch
    """

    def __init__(self, numbers: torch.dtype, device: torch.device) -> None:
        self._numbers = numbers
        self._device = device
        self._form: Form | None = None

    def fix(self, raw: Tensor, packing: Packing | None = None) -> None:
        """From now on samples are like those of `raw` `[B, ...]`, which is packed so."""
        self._form = Form(raw.shape[1:], raw.dtype, packing=packing)

    def packing(self, given: Any) -> Packing | None:
        """How a batch of named tensors is packed; None for a batch in one piece."""
        return Packing.of(self._named(given)) if isinstance(given, Mapping) else None

    def _named(self, given: Mapping[str, Any]) -> dict[str, Tensor]:
        return {str(name): as_samples(value, self._numbers, self._device, f"'{name}'") for name, value in given.items()}

    def _packed(self, given: Mapping[str, Any]) -> Tensor:
        form, named = self._form, self._named(given)
        if form is not None and form.packing is None:
            raise UsageError("samples: given a mapping; allowed: one tensor, as in the first batch")
        packing = Packing.of(named) if form is None or form.packing is None else form.packing
        return packing.pack(named)

    def fix_names(self, names: Sequence[Hashable] | None) -> None:
        """From now on the columns of data frames have these names, in this order; None for any names."""
        self._form = replace(self.form(), names=None if names is None else tuple(names))

    def form(self) -> Form:
        """What a sample is like, after `fix`."""
        assert self._form is not None, "no batch has come yet"
        return self._form

    def __call__(self, given: Any) -> Tensor:
        """A batch `[B, ...]` as it is stored.

        Args:
            given: a tensor, an array, nested lists or a data frame, whose columns are matched by name; or a mapping of
                names to tensors.

        Raises:
            UsageError: as in `as_samples`; or the samples differ from those of the first batch in their shape, their
                columns, or a type that cannot be converted.
        """
        form = self._form
        if form is not None and form.names is not None:
            given = _in_order(given, form.names)
        if isinstance(given, Mapping):
            raw = self._packed(given)
        elif form is not None and form.packing is not None:
            names = ", ".join(column.name for column in form.packing.columns)
            raise UsageError(
                f"samples: given a {type(given).__name__}; allowed: a mapping of {names}, as in the first batch"
            )
        else:
            raw = as_samples(given, self._numbers, self._device)
        return raw if form is None else _formed(raw, form)


def _formed(raw: Tensor, form: Form) -> Tensor:
    if raw.shape[1:] != form.shape:
        hint = "; add a dimension (x[None])" if raw.shape == form.shape else ""
        allowed = ", ".join(["B", *map(str, form.shape)])
        raise UsageError(f"samples: given shape {list(raw.shape)}; allowed: [{allowed}], as in the first batch{hint}")
    if raw.dtype == form.dtype:
        return raw
    given, stored = (str(dtype).removeprefix("torch.") for dtype in (raw.dtype, form.dtype))
    if raw.is_floating_point():
        raise UsageError(
            f"samples: given {given}; allowed: {stored}, as in the first batch (whole numbers; a first batch of floats "
            "allows both)"
        )
    if raw.dtype == torch.uint8 and form.dtype.is_floating_point:
        raise UsageError(
            f"samples: given uint8; allowed: {stored}, as in the first batch (x / 255 for pixels, x.astype('float32') "
            "for other numbers)"
        )
    converted = raw.to(form.dtype)
    if not form.dtype.is_floating_point and not torch.equal(converted.to(raw.dtype), raw):
        raise UsageError(f"samples: given numbers that {stored}, the type of the first batch, cannot hold; allowed: it")
    return converted


@runtime_checkable
class _Frame(Protocol):
    """A data frame of pandas or polars."""

    @property
    def columns(self) -> Any: ...
    def __getitem__(self, names: list[Any], /) -> Any: ...


@runtime_checkable
class _ArrowTable(Protocol):
    """A table of pyarrow."""

    @property
    def column_names(self) -> list[str]: ...
    def select(self, names: list[Any], /) -> Any: ...


def column_names(given: Any) -> list[Hashable] | None:
    """The names of a data frame's columns; None for anything else."""
    if isinstance(given, _ArrowTable):
        return list(given.column_names)
    return list(given.columns) if isinstance(given, _Frame) else None


def _in_order(given: Any, names: Sequence[Hashable]) -> Any:
    """A data frame with its columns in this order; anything else as it is.

    Raises:
        UsageError: the frame has other columns, or two of one name.
    """
    found = column_names(given)
    if found is None or found == [*names]:
        return given
    for name in found:
        if name not in names or found.count(name) > 1:
            what = "twice" if name in names else "which is not in the first batch"
            raise UsageError(f"samples: given the column {name!r}, {what}; allowed: {reprlib.repr([*names])}")
    if missing := [name for name in names if name not in found]:
        raise UsageError(f"samples: given no column {missing[0]!r}; allowed: {reprlib.repr([*names])}")
    return given.select([*names]) if isinstance(given, _ArrowTable) else given[[*names]]


def as_samples(given: Any, dtype: torch.dtype, device: torch.device, name: str = "samples") -> Tensor:
    """A batch as it is stored: whole numbers as they are, all other numbers in the network's precision.

    Args:
        given: tensor, array, nested lists or data frame, `[B, ...]`.
        dtype: of the network.
        device: of the network.
        name: what to call them in an error.

    Raises:
        UsageError: it is not a batch of numbers, is empty, has a type that cannot be stored, or holds NaN, infinity or
            what the precision cannot hold.
    """
    raw = given if isinstance(given, Tensor) else _tensor(given, name)
    if raw.requires_grad:
        raw = raw.detach()
    if raw.is_inference():  # autograd refuses such a tensor
        raw = raw.clone()
    if raw.layout is not torch.strided or raw.is_nested or raw.is_meta:
        raise UsageError(f"{name}: given a sparse, nested or meta tensor; allowed: a dense one (x.to_dense())")
    if not raw.dim() or not raw.shape[0]:
        raise UsageError(f"{name}: given a tensor of shape {list(raw.shape)}; allowed: [B, ...] with B at least 1")
    if raw.is_complex():
        raise UsageError(f"{name}: given {raw.dtype}; allowed: real numbers")
    if raw.dtype in UNSTORABLE:
        raise UsageError(f"{name}: given {raw.dtype}; allowed: uint8, int32, int64 or floats (x.astype('int32'))")
    if raw.is_floating_point() or raw.dtype == torch.bool:
        raw = raw.to(dtype)
        check_finite(raw, name)
    return raw.to(device)


def check_finite(raw: Tensor, name: str = "samples") -> None:
    """Raises UsageError if a batch `[B, ...]` on the host holds NaN or infinity. Elsewhere the look would wait."""
    # A sum is NaN or infinite if any element is: one pass and no copy for the usual case.
    if raw.is_cpu and not isfinite(raw.sum().item()) and not raw.isfinite().all():
        row = int((~raw.isfinite()).reshape(len(raw), -1).any(1).int().argmax())
        kind = str(raw.dtype).removeprefix("torch.")
        raise UsageError(f"{name}: number {row} of the batch holds NaN or infinity; allowed: finite {kind} numbers")


def _tensor(given: Any, name: str) -> Tensor:
    if np.ma.is_masked(given):
        raise UsageError(f"{name}: given an array with masked values; allowed: numbers everywhere (x.filled(0))")
    try:
        # Torch shares an array's memory, and warns of an array that is read-only.
        array = np.asarray(given)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
    except (TypeError, ValueError, RuntimeError) as error:
        shown = " ".join(reprlib.repr(given).split())
        raise UsageError(
            f"{name}: given {shown}; allowed: a tensor, or an array or lists of numbers (x.astype('float32') for other "
            "arrays)"
        ) from error
