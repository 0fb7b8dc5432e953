"""Labels of any kind, and the outputs of a network that stand for them."""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from synergy.errors import UsageError

PLAIN = (str, int, float, bool, type(None))
"""Kinds of labels that a checkpoint can hold; tuples of them as well."""
SAVABLE = "text, numbers, true and false, None, and tuples of them"


class Labels:
    """The labels known so far, in the order of the network's outputs.

    Args:
        fixed: all labels there will ever be, in the order of the outputs; None if new labels may come. Only here can
            None or NaN be named as labels: elsewhere they stand for a label that is missing.

    Raises:
        UsageError: a label is given twice, or is not hashable.

    Examples:
        >>> labels = Labels()
        >>> labels.outputs(["cat", "dog"], 2)
        ['cat', 'dog']
        >>> labels.learn(["cat", "dog"])
        tensor([0, 1])
        >>> labels.outputs(["dog", "dog", "cat"], 3)
        tensor([1, 1, 0])
    """

    def __init__(self, fixed: Iterable[Hashable] | None = None) -> None:
        self.fixed = fixed is not None
        self.known: list[Hashable] = []
        """The label of each output."""
        self._index: dict[Hashable, int] = {}
        self._told = False
        """Whether the user was told that a label cannot be saved."""
        if fixed is not None:
            self._name_all(as_labels(fixed, None))

    def __len__(self) -> int:
        return len(self.known)

    def outputs(self, given: Any, n: int) -> Tensor | list[Hashable]:
        """The output of each label, `int64 [n]` on the host; the labels as a list if some are new.

        Warns once of a label that `save` cannot write.

        Args:
            given, n: as in `as_labels`.

        Raises:
            UsageError: as in `as_labels`; a label is missing or not hashable, or the classes are fixed and a label is
                not among them.
        """
        labels = as_labels(given, n)
        new = self._new(labels)
        if not self._told and (new or self.fixed):
            self._tell_unsavable([*self.known, *new])
        return labels if new else self._outputs(labels)

    def find(self, labels: Sequence[Hashable]) -> Tensor:
        """The output of each label, `int64 [B]` on the host; -1 for an unknown one.

        Raises:
            UsageError: a label is missing or not hashable.
        """
        for label in self._unknown(labels):
            check_present(label)
        return self._outputs(labels)

    def learn(self, labels: Sequence[Hashable]) -> Tensor:
        """Give the next output to every unknown label; the output of each, `int64 [B]` on the host.

        Raises:
            UsageError: as in `outputs`.
        """
        for label in self._new(labels):
            if label not in self._index:
                self._add(label)
        return self._outputs(labels)

    def restore(self, labels: Sequence[Hashable]) -> None:
        """Know the labels that were saved, in the order of the outputs.

        Raises:
            ValueError: a label comes twice, or the classes are fixed and others.
        """
        expected = self.known if self.fixed else [*dict.fromkeys(labels)]
        if expected != [*labels]:
            raise ValueError("it names an output twice, or other classes")
        self.known, self._index = [], {}
        for label in labels:
            self._add(label)
        self._told = True

    def cut(self, n: int) -> None:
        """Forget all labels except the first `n`."""
        for label in self.known[n:]:
            del self._index[label]
        del self.known[n:]

    def _add(self, label: Hashable) -> None:
        self._index[label] = len(self.known)
        self.known.append(label)

    def _outputs(self, labels: Sequence[Hashable]) -> Tensor:
        return torch.tensor([self._index.get(label, -1) for label in labels])

    def _unknown(self, labels: Sequence[Hashable]) -> list[Hashable]:
        try:
            return [label for label in labels if label not in self._index]
        except TypeError as error:
            raise _not_hashable(labels) from error

    def _new(self, labels: Sequence[Hashable]) -> list[Hashable]:
        """The unknown labels, after a look whether they may come."""
        unknown = self._unknown(labels)
        for label in unknown:
            check_present(label)
            if self.fixed:
                allowed = reprlib.repr(self.known)[1:-1]
                raise UsageError(f"labels: given {reprlib.repr(label)}; allowed: {allowed} (the classes are fixed)")
        return unknown

    def _name_all(self, labels: list[Hashable]) -> None:
        for label in self._unknown(labels):
            if label in self._index:
                raise UsageError(f"classes: given {reprlib.repr(label)} twice; allowed: each class once")
            self._add(label)
        if not labels:
            raise UsageError("classes: given none; allowed: at least one")

    def _tell_unsavable(self, labels: Sequence[Hashable]) -> None:
        unsavable = [label for label in labels if not _is_savable(label)]
        self._told = bool(unsavable) or self.fixed
        if unsavable:
            warnings.warn(
                f"label {reprlib.repr(unsavable[0])}: a {type(unsavable[0]).__name__} cannot be saved to a file; give "
                f"{SAVABLE} if this learner is to be saved",
                stacklevel=2,
            )


@runtime_checkable
class _Scalar(Protocol):
    """A number of an array library: of numpy, torch, JAX, CuPy."""

    @property
    def dtype(self) -> Any: ...
    def item(self) -> Any: ...


@runtime_checkable
class _ArrowScalar(Protocol):
    """A value of pyarrow."""

    def as_py(self) -> Any: ...


@runtime_checkable
class _Table(Protocol):
    """A series of pandas has one dimension; a frame has two, and would give the names of its columns."""

    @property
    def ndim(self) -> int: ...


def as_labels(given: Any, n: int | None) -> list[Hashable]:
    """A list of `n` labels (any number if None) from a tensor, array, list or series.

    Numbers of other libraries become Python's own; every NaN becomes `math.nan`.

    Raises:
        UsageError: there are more or fewer, or it is not a list of labels.
    """
    if isinstance(given, Tensor | np.ndarray):
        items = _listed(given)
    elif isinstance(given, str | bytes):
        raise UsageError(f"labels: given the single text {reprlib.repr(given)}; allowed: a list, one label a sample")
    elif isinstance(given, Mapping | Set) or (isinstance(given, _Table) and given.ndim > 1):
        raise UsageError(f"labels: given a {type(given).__name__}; allowed: a list, one label a sample")
    else:
        items = given
    try:
        labels = [_python_value(item) for item in items]
    except UsageError:
        raise
    except (TypeError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"labels: given {reprlib.repr(given)}; allowed: a list of hashable labels, one a sample"
        ) from error
    if n is not None and len(labels) != n:
        raise UsageError(f"labels: given {len(labels)} for {n} samples; allowed: one a sample")
    return labels


def _listed(given: Tensor | np.ndarray[Any, Any]) -> Any:
    dense = isinstance(given, np.ndarray) or not (given.is_nested or given.is_meta or given.layout != torch.strided)
    if not dense:
        raise UsageError(
            f"labels: given {reprlib.repr(given)}; allowed: a list, an array or a dense tensor, one label a sample"
        )
    if np.ma.is_masked(given):
        raise UsageError("labels: given an array with masked labels; allowed: a label for every sample")
    if given.ndim == 0:
        raise UsageError(f"labels: given the single value {given.tolist()}; allowed: a list, one label a sample")
    if given.ndim > 1:
        raise UsageError(f"labels: given shape {list(given.shape)}; allowed: [B], one label a sample{_remedy(given)}")
    if isinstance(given, np.ndarray) and given.dtype.kind in "mM":
        raise UsageError(f"labels: given {given.dtype}; allowed: numbers, texts, tuples (y.astype(str))")
    return given.tolist()


def _remedy(matrix: Tensor | np.ndarray[Any, Any]) -> str:
    """The way from a matrix to labels."""
    if matrix.ndim != 2:
        return ""
    if matrix.shape[1] == 1:
        return " (y[:, 0])"
    one_hot = bool(((matrix == 0) | (matrix == 1)).all()) and all(row.count(1) == 1 for row in matrix.tolist())
    return " (y.argmax(1) for one-hot labels)" if one_hot else ""


def _python_value(item: Any) -> Hashable:
    """A label as Python's own value, if another library wrapped it."""
    if isinstance(item, float) and item != item:
        return math.nan  # every NaN is the same label
    if type(item) in PLAIN:
        label: Hashable = item
        return label
    if type(item) is tuple:
        return tuple(_python_value(part) for part in item)
    if isinstance(item, np.datetime64 | np.timedelta64) and not np.isnat(item):
        raise UsageError(f"labels: given {item!r}; allowed: numbers, texts, tuples (str(label))")
    if isinstance(item, _ArrowScalar):
        return _python_value(item.as_py())
    return _python_value(item.item()) if isinstance(item, _Scalar) else item


def _not_hashable(labels: Sequence[Any]) -> UsageError:
    """The error for labels with one that cannot be looked up."""
    wrong = next(label for label in labels if not _is_hashable(label))
    of_plain = isinstance(wrong, list) and {type(part) for part in wrong} <= {*PLAIN}
    hint = _remedy(np.array([wrong], dtype=object)) if of_plain else ""
    return UsageError(
        f"labels: given {reprlib.repr(wrong)}, which is not hashable; allowed: numbers, texts, tuples{hint}"
    )


def _is_hashable(label: Any) -> bool:
    try:
        hash(label)
    except TypeError:
        return False
    return True


def check_present(label: Hashable) -> None:
    """Raises UsageError if a label stands for none: None, NaN, pandas' NA and NaT, or a tuple with such a part."""
    if _is_missing(label):
        raise UsageError(
            f"labels: given {reprlib.repr(label)}, which stands for a missing label; allowed: a label for every sample "
            "(leave such samples out, or name it in classes=[...])"
        )


def _is_missing(label: Any) -> bool:
    if isinstance(label, tuple):
        return any(map(_is_missing, label))
    try:
        return label is None or bool(label != label)
    except TypeError:  # NA of pandas is neither equal to itself nor unequal
        return True


def _is_savable(label: Hashable) -> bool:
    return type(label) in PLAIN or (type(label) is tuple and all(map(_is_savable, label)))


def saved(label: Hashable) -> Any:
    """A label as a checkpoint can hold it: a plain value as it is, a tuple as a mapping.

    Raises:
        UsageError: it is of another kind.
    """
    label = _python_value(label)
    if type(label) in PLAIN:
        return label
    if type(label) is tuple:
        return {"tuple": [saved(item) for item in label]}
    raise UsageError(
        f"labels: {reprlib.repr(label)} is a {type(label).__name__}, which cannot be saved; allowed: {SAVABLE}"
    )


def restored(content: Any) -> Hashable:
    """A label from what `saved` made of it. Raises ValueError for anything else."""
    if type(content) in PLAIN:
        return _python_value(content)
    if isinstance(content, dict) and content.keys() == {"tuple"} and isinstance(content["tuple"], list):
        return tuple(restored(item) for item in content["tuple"])
    raise ValueError(f"not a label: {reprlib.repr(content)}")


def saved_weights(weights: Mapping[Hashable, float]) -> list[Any]:
    """Weights of labels as a checkpoint can hold them. Raises UsageError as `saved`."""
    return [[saved(label), float(weight)] for label, weight in weights.items()]


def restored_weights(content: list[Any] | None) -> dict[Hashable, float] | None:
    """Weights of labels from what `saved_weights` made. Raises ValueError for anything else."""
    return None if content is None else {restored(label): weight for label, weight in content}
