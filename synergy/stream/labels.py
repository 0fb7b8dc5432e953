"""Labels of any kind, and the outputs of a network that stand for them."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from synergy.errors import UsageError


class Labels:
    """The labels seen so far, in the order of the network's outputs.

    Args:
        fixed: all labels there will ever be, in the order of the outputs; None if new ones may come.

    Raises:
        UsageError: a label is given twice, or cannot be a label.
    """

    def __init__(self, fixed: Iterable[Hashable] | None = None) -> None:
        self.fixed = fixed is not None
        self._index: dict[Hashable, int] = {}
        for label in as_labels(fixed, None) if fixed is not None else ():
            _check(label)
            if label in self._index:
                raise UsageError(f"classes: given {reprlib.repr(label)} twice; allowed: each class once")
            self._index[label] = len(self._index)
        if self.fixed and not self._index:
            raise UsageError("classes: given none; allowed: at least one")
        self.known: list[Hashable] = list(self._index)
        """The label of each output."""
        self._renumber()

    def __len__(self) -> int:
        return len(self.known)

    def outputs(self, given: Any, n: int) -> Tensor | list[Hashable]:
        """The output of each label, `int64 [n]` on the host; a list of the labels if some are yet to be learned.

        Args:
            given, n: as to `as_labels`.

        Raises:
            UsageError: as `as_labels`; something cannot be a label, or the classes are fixed and a label is none of
                them.
        """
        numbers = self._outputs_of_numbers
        if numbers is not None and type(given) is Tensor and given.is_cpu:
            try:
                if given.shape[0] == n:
                    return numbers.index_select(0, given)
            except (IndexError, RuntimeError):  # a number that is no label yet; no dense list of integers
                pass
        labels = as_labels(given, n)
        try:
            # By way of numpy: several times faster than `torch.tensor` of a list.
            return torch.from_numpy(np.fromiter(map(self._index.__getitem__, labels), np.int64, n))
        except (KeyError, TypeError):  # never seen, not hashable
            self._check_new(labels)
        return labels

    def find(self, labels: Sequence[Hashable]) -> Tensor:
        """The output of each label, `int64 [B]` on the host; -1 for one that was never seen.

        Raises:
            UsageError: something cannot be a label.
        """
        for label in labels:
            _check(label)
        return torch.tensor([self._index.get(label, -1) for label in labels])

    def learn(self, labels: Sequence[Hashable]) -> Tensor:
        """Give every label that was never seen the next output; that of each label, `int64 [B]` on the host.

        Raises:
            UsageError: something cannot be a label, or the classes are fixed and a label is none of them.
        """
        self._check_new(labels)
        for label in labels:
            if label not in self._index:
                self._index[label] = len(self.known)
                self.known.append(label)
        self._renumber()
        return self.find(labels)

    def cut(self, n: int) -> None:
        """Unlearn all labels but the first `n`."""
        for label in self.known[n:]:
            del self._index[label]
        del self.known[n:]
        self._renumber()

    def _renumber(self) -> None:
        """Where the labels are 0 to K - 1 in any order, as they mostly are, one look-up finds a whole batch."""
        outputs = [self._index.get(number) for number in range(len(self._index))]
        whole = bool(outputs) and None not in outputs
        self._outputs_of_numbers = torch.from_numpy(np.array(outputs, np.int64)) if whole else None

    def _check_new(self, labels: Sequence[Hashable]) -> None:
        for label in labels:
            _check(label)
            if self.fixed and label not in self._index:
                allowed = reprlib.repr(self.known)[1:-1]
                raise UsageError(f"labels: given {reprlib.repr(label)}; allowed: {allowed} (the classes are fixed)")


_ARRAYS, _SCALARS = (Tensor, np.ndarray), (Tensor, np.generic)


@runtime_checkable
class _Table(Protocol):
    """What pandas has: a series has one dimension, a frame (which would give the names of its columns) two."""

    @property
    def ndim(self) -> int: ...


def as_labels(given: Any, n: int | None) -> list[Hashable]:
    """A list of `n` labels (any number if None) from a tensor, array, list or series; numbers become Python's own.

    Raises:
        UsageError: there are more or fewer, or it is no list.
    """
    if isinstance(given, _ARRAYS):
        if type(given) is not Tensor and np.ma.is_masked(given):
            raise UsageError("labels: given an array with masked ones; allowed: a label for every sample")
        try:
            labels = given.tolist()
        except RuntimeError as error:
            raise UsageError(
                f"labels: given {reprlib.repr(given)}; allowed: a list, an array or a dense tensor, one label a sample"
            ) from error
        if not isinstance(labels, list):
            raise UsageError(f"labels: given the single value {labels}; allowed: a list, one label a sample")
    elif isinstance(given, str | bytes):
        raise UsageError(f"labels: given the single text {reprlib.repr(given)}; allowed: a list, one label a sample")
    elif isinstance(given, Mapping | Set) or (isinstance(given, _Table) and given.ndim > 1):
        raise UsageError(f"labels: given a {type(given).__name__}; allowed: a list, one label a sample")
    else:
        try:
            labels = [item.item() if isinstance(item, _SCALARS) else item for item in given]
        except (TypeError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"labels: given {reprlib.repr(given)}; allowed: a list of hashable labels, one a sample"
            ) from error
    if n is not None and len(labels) != n:
        raise UsageError(f"labels: given {len(labels)} for {n} samples; allowed: one a sample")
    return labels


def _check(label: Any) -> None:
    """Raises UsageError if something cannot be a label."""
    try:
        unequal = label != label or hash(label) is None
    except TypeError as error:
        raise UsageError(
            f"labels: given {reprlib.repr(label)}, which is not hashable; allowed: numbers, texts, tuples, None"
        ) from error
    if unequal:
        raise UsageError(f"labels: given {label!r}, which does not equal itself; allowed: labels that do")


PLAIN = (str, int, float, bool, type(None))


def saved(label: Hashable) -> Any:
    """A label as a checkpoint can hold it: plain values as they are, a tuple as a mapping.

    Raises:
        UsageError: it is of another kind.
    """
    if isinstance(label, np.generic):
        return saved(label.item())
    if type(label) in PLAIN:
        return label
    if type(label) is tuple:
        return {"tuple": [saved(item) for item in label]}
    raise UsageError(
        f"labels: {reprlib.repr(label)} is a {type(label).__name__}, which cannot be saved; allowed: text, numbers, "
        "true and false, None, and tuples of them"
    )


def restored(content: Any) -> Hashable:
    """A label from what `saved` made of it. Raises ValueError if it did not make that."""
    if type(content) in PLAIN:
        label: Hashable = content
        return label
    if isinstance(content, dict) and content.keys() == {"tuple"} and isinstance(content["tuple"], list):
        return tuple(restored(item) for item in content["tuple"])
    raise ValueError(f"no label: {reprlib.repr(content)}")


def saved_weights(weights: Mapping[Hashable, float]) -> list[Any]:
    """Weights of labels as a checkpoint can hold them. Raises UsageError as `saved`."""
    return [[saved(label), float(weight)] for label, weight in weights.items()]


def restored_weights(content: list[Any] | None) -> dict[Hashable, float] | None:
    """Weights of labels from what `saved_weights` made. Raises ValueError if it did not make that."""
    return None if content is None else {restored(label): weight for label, weight in content}
