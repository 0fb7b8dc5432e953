"""The learner as a model of river: one sample at a time, features by name. The only file that imports river."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Hashable, Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import nn

from synergy.errors import UsageError
from synergy.methods.base import Method
from synergy.stream.faces.tables import NetworkFactory, TableModel, probabilities
from synergy.stream.labels import Labels, as_labels
from synergy.stream.learner import Learner

try:
    from river import base
except ImportError as error:
    raise UsageError(
        "synergy.stream.faces.river needs river; install it with: pip install 'synergy-cl[river]'"
    ) from error

if TYPE_CHECKING:
    import pandas as pd

Features = Mapping[Any, Any]
"""Value of each feature, by name."""
Rows: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
"""`[B, n_features]`."""


class RiverClassifier(TableModel, base.MiniBatchClassifier):
    """A classifier that keeps learning without forgetting, for river's pipelines and evaluations.

    A sample is a mapping from names of features to numbers. The network has a fixed number of inputs, so the names are
    fixed too: `features`, or those of the first sample. A missing feature counts as 0, which is the mean after a
    `StandardScaler`. Any other feature is ignored. Where features appear over time, name all of them, or put a
    `feature_extraction` with fixed names in front. Text must become numbers first (`OneHotEncoder`).

    New classes may come at any time. Before the first sample `predict_one` gives None and `predict_proba_one` an empty
    mapping, as river's own models do. `learn_many` takes one step on all rows of a data frame; `learn_one` for each row
    takes as many steps as there are rows.

    Args:
        method: a name (`synergy list` shows them) or a class; one that needs no task boundaries.
        net: a network from `float32 [B, n_features]` to logits `[B, n_classes]`, which is copied; or a function
            `(n_features, n_classes) -> nn.Module` (its initial weights follow from `seed`); or None for layers of
            `hidden` units.
        hidden: units of each hidden layer of the default network; an empty tuple makes a linear model.
        features: names of all features, in the order of the network's inputs: a list, or the columns of a data frame.
        buffer_size: samples in memory, for a method that has one.
        lr: learning rate.
        clip_norm: bound on the norm of a step's gradient; None for no bound.
        seed: seed of everything random.
        device: "auto", "cpu", "cuda" or "mps"; None for the device of the network.
        options: further options of the method and of the `Learner`, such as `{"reg_weight": 0.1}`.

    Attributes:
        learner: the `Learner`, from the first sample on: `learner.save(path)`.

    Examples:
        >>> from river import preprocessing
        >>> model = preprocessing.StandardScaler() | RiverClassifier("er")
        >>> for degrees in [-5, 30, -2, 25, 28, -4, 31, -3]:
        ...     model.learn_one({"degrees": degrees}, "hot" if degrees > 0 else "cold")
        >>> model.predict_one({"degrees": 29}), model.predict_one({"degrees": -6})
        ('hot', 'cold')
    """

    def __init__(
        self,
        method: str | type[Method[Any]] = "synergy",
        *,
        net: nn.Module | NetworkFactory | None = None,
        hidden: tuple[int, ...] = (100, 100),
        features: Collection[Hashable] | None = None,
        buffer_size: int = 500,
        lr: float = 0.1,
        clip_norm: float | None = 1.0,
        seed: int = 0,
        device: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(method, net, hidden, buffer_size, lr=lr, clip_norm=clip_norm, device=device, options=options)
        self.features = features
        self.seed = seed
        self.learner: Learner | None = None
        self._names: list[Hashable] = _named(features)

    @property
    def _multiclass(self) -> bool:
        return True

    def _unit_test_skips(self) -> set[str]:
        """`learn_many` takes one step on the mean over its rows, as river's own gradient descent does."""
        return {"check_learn_many_matches_learn_one"}

    def learn_one(self, x: Features, y: Any) -> None:
        """Learn from one sample.

        Args:
            x: its features.
            y: its label.

        Raises:
            UsageError: a feature is no finite number, or a parameter of the model is not allowed.
            TrainingError: the loss is no longer finite, or memory ran out.
        """
        _check_named(x)
        names = self._names or _sorted(x)
        self._learn(names, _row(x, names), [y])

    def predict_proba_one(self, x: Features, **kwargs: Any) -> dict[Any, float]:
        """Probability of each class known so far; empty before the first sample.

        Raises:
            UsageError: a feature is no finite number.
            TrainingError: learning diverged: the answers are not finite.
        """
        _check_named(x)
        if self.learner is None:
            return {}
        (found,) = probabilities(self.learner, _row(x, self._names)).tolist()
        return dict(zip(self.learner.classes, found, strict=True))

    def learn_many(self, X: pd.DataFrame, y: pd.Series[Any]) -> None:  # noqa: N803 - river's names
        """Take one step on all rows of a data frame.

        Args:
            X: a row for each sample, a column for each feature.
            y: a label for each row.

        Raises:
            UsageError, TrainingError: as `learn_one`; or two columns have one name.
        """
        names = self._names or _sorted(X.columns)
        if len(X):
            self._learn(names, _rows(X, names), as_labels(y, len(X)))

    def predict_proba_many(self, X: pd.DataFrame) -> pd.DataFrame:  # noqa: N803
        """Probabilities: a row for each of `X`, a column for each class known so far; none before the first sample.

        Raises:
            UsageError, TrainingError: as `predict_proba_one`; or two columns have one name.
        """
        import pandas as pd  # river needs it for data frames alone

        if self.learner is None or not len(X):
            return pd.DataFrame(index=X.index)
        found = probabilities(self.learner, _rows(X, self._names))
        columns = pd.Index(self.learner.classes, tupleize_cols=False)
        return pd.DataFrame(found, index=X.index, columns=columns)

    def predict_many(self, X: pd.DataFrame) -> pd.Series[Any]:  # noqa: N803
        """The most likely class of each row of `X`, None before the first sample. Raises as `predict_proba_many`."""
        import pandas as pd

        if self.learner is None or not len(X):
            return pd.Series([None] * len(X), index=X.index, dtype=object)
        best = probabilities(self.learner, _rows(X, self._names)).argmax(1)
        return pd.Series([self.learner.classes[output] for output in best], index=X.index)

    def _learn(self, names: list[Hashable], rows: Rows, labels: list[Any]) -> None:
        """One step. The names of the first sample are kept once it is learned."""
        learner = self.learner or self.new_learner(len(names), _count(labels), self.seed)
        learner.observe(rows, labels)
        self.learner, self._names = learner, names


def _named(features: Collection[Hashable] | None) -> list[Hashable]:
    """The names as a list. Raises UsageError for a set, whose order differs from process to process, or equal names."""
    if features is None:
        return []
    given = " ".join(reprlib.repr(features).split())
    complaint = UsageError(f"features: given {given}; allowed: a list of different names")
    if not isinstance(features, Collection) or isinstance(features, str | bytes | Set | Mapping):
        raise complaint
    try:
        names = list(features.tolist() if isinstance(features, np.ndarray) else features)
        different = set(names)
    except TypeError as error:  # an array of one number, or names that are not hashable
        raise complaint from error
    if not names or len(different) < len(names):
        raise complaint
    return names


def _count(labels: list[Any]) -> int:
    """Number of different labels. Raises UsageError if something cannot be a label."""
    different = Labels()
    different.learn(as_labels(labels, None))
    return len(different)


def _sorted(features: Iterable[Hashable]) -> list[Hashable]:
    """By type and text of the name, so that the order within a mapping does not matter."""
    names = sorted(features, key=lambda name: (type(name).__name__, str(name)))
    if not names:
        raise UsageError("features: the first sample has none; allowed: at least one, or features=[...]")
    return names


def _row(x: Features, names: list[Hashable]) -> Rows:
    chosen = {name: x.get(name, 0.0) for name in names}
    try:
        with np.errstate(over="ignore"):  # the learner refuses infinity
            return np.array([list(chosen.values())], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise _no_number(chosen) from error
    except OverflowError as error:
        raise _too_large(chosen) from error


def _rows(frame: pd.DataFrame, names: list[Hashable]) -> Rows:
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise UsageError(f"features: given two columns {reprlib.repr(twice)}; allowed: columns of different names")
    chosen = frame.reindex(columns=names, fill_value=0.0)
    try:
        with np.errstate(over="ignore"):
            rows: Rows = chosen.to_numpy(np.float32)
    except (TypeError, ValueError, OverflowError):
        # Row by row, so that the error shows the row without numbers.
        rows = np.concatenate([_row(row, names) for row in chosen.to_dict("records")])
    return rows


def _check_named(x: object) -> None:
    """Raises UsageError if the sample is no mapping."""
    if not isinstance(x, Mapping):
        raise UsageError(f"features: given {reprlib.repr(x)}; allowed: a mapping, {{name: number}}")


def _no_number(x: Features) -> UsageError:
    wrong = {name: value for name, value in x.items() if not isinstance(value, int | float | np.number | np.bool_)}
    given = reprlib.repr(wrong or dict(x))
    return UsageError(f"features: given {given}; allowed: numbers (river's OneHotEncoder makes them from text)")


def _too_large(x: Features) -> UsageError:
    largest = float(np.finfo(np.float32).max)
    wrong = {name: value for name, value in x.items() if isinstance(value, int) and abs(value) > largest}
    return UsageError(
        f"features: given {reprlib.repr(wrong or dict(x))}; allowed: finite float32 numbers, up to {largest:.1e}"
    )
