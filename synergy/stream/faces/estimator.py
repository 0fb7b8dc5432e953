"""The learner as a scikit-learn estimator: fit, partial_fit, predict."""

from __future__ import annotations

import reprlib
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import nn

from synergy.errors import UsageError
from synergy.methods.base import Method
from synergy.randomness import generator
from synergy.stream.faces.tables import NetworkFactory, TableModel, probabilities
from synergy.stream.labels import as_labels, check_present
from synergy.stream.learner import Learner

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # scikit-learn before 1.6, where it was a method

    def validate_data(estimator: Any, **arguments: Any) -> Any:
        """Check and convert data. The estimator keeps the number and the names of the features."""
        return estimator._validate_data(**arguments)


Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class SynergyClassifier(ClassifierMixin, TableModel, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no annotations
    """A classifier of tables that keeps learning without forgetting, for scikit-learn's pipelines and searches.

    `fit` starts anew and makes several passes over shuffled minibatches. `partial_fit` goes on, also after `fit`: one
    pass over the rows in their order, as a stream. New classes may come at any time, unless the first call named all of
    them. Scale the features: it learns by plain gradient steps.

    Args:
        method: a name (`synergy list` shows them) or a class; one that needs no task boundaries.
        net: a network from `float32 [B, n_features]` to logits `[B, n_classes]`, which is copied; or a function
            `(n_features, n_classes) -> nn.Module` (its initial weights follow from `random_state`); or None for layers
            of `hidden` units. A network for images begins with `nn.Unflatten`.
        hidden: units of each hidden layer of the default network; an empty tuple makes a linear model.
        buffer_size: samples in memory, for a method that has one.
        lr: learning rate.
        epochs: passes of `fit` over its data.
        batch_size: most samples of a step. The batches of a pass differ by at most one sample.
        clip_norm: bound on the norm of a step's gradient; None for no bound.
        random_state: seed of everything random, a whole number; None for a new one at each fit. A
            `numpy.random.RandomState` draws the number.
        device: "auto", "cpu", "cuda" or "mps"; None for the device of the network.
        options: further options of the method and of the `Learner`, such as `{"ema_alpha": 0.999}`. That is SYNERgy's
            own default, for streams of many thousand steps; tables start from 0.95.

    Attributes:
        classes_: labels known so far, sorted, `[n_classes]`; the columns of `predict_proba`.
        n_features_in_: columns of a table.
        feature_names_in_: names of the columns of a data frame, if they are text.
        learner_: the `Learner`: `learner_.memory.summary()`, `learner_.save(path)`.

    Examples:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> x, y = load_iris(return_X_y=True)
        >>> model = make_pipeline(StandardScaler(), SynergyClassifier(random_state=0, epochs=20))
        >>> model.fit(x, y).score(x, y) > 0.9
        True
    """

    def __init__(
        self,
        method: str | type[Method[Any]] = "synergy",
        *,
        net: nn.Module | NetworkFactory | None = None,
        hidden: Sequence[int] = (100, 100),
        buffer_size: int = 500,
        lr: float = 0.1,
        epochs: int = 50,
        batch_size: int = 32,
        clip_norm: float | None = 1.0,
        random_state: int | np.random.RandomState | None = 0,
        device: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(method, net, hidden, buffer_size, lr=lr, clip_norm=clip_norm, device=device, options=options)
        self.epochs = epochs
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's names
        """Forget everything and learn a table. A fit that fails leaves the estimator as it was.

        Args:
            X: numbers `[n, n_features]`.
            y: a label for each row `[n]`.

        Raises:
            UsageError, ValueError: a parameter is not allowed, or the data cannot be learned from.
            TrainingError: the loss is not finite any more, or memory ran out.
        """
        epochs = _whole("epochs", self.epochs)
        size = _whole("batch_size", self.batch_size)
        with ExitStack() as undo:
            undo.callback(self._take_back, dict(vars(self)))
            samples = self._samples(X, reset=True)
            labels = self._labels(samples, y)
            classes, seed = np.unique(labels), self._seed()
            learner = self.new_learner(self.n_features_in_, len(classes), seed)
            rng = generator(seed, "estimator/order")
            for _ in range(epochs):
                _learn(learner, samples, labels, rng.permutation(len(samples)), size)
            self._take(learner, classes, fixed=False)
            undo.pop_all()
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:  # noqa: N803
        """Go on learning: one pass over the rows of a table, in their order.

        A first call that fails leaves the estimator as it was. A later call that fails has learned the batches before.
        `batch_size` may change between two calls; a change of any other parameter needs `fit`.

        Args:
            X: numbers `[n, n_features]`.
            y: a label for each row `[n]`.
            classes: all labels there will ever be `[n_classes]`, in the first call; None if new ones may come.

        Raises:
            UsageError, ValueError: as `fit`; also a label outside `classes`, other `classes`, or a changed parameter.
            TrainingError: as `fit`.
        """
        size = _whole("batch_size", self.batch_size)
        named = None if classes is None else np.unique(column_or_1d(classes))
        if "learner_" in vars(self):
            self._go_on(X, y, named, size)
            return self
        with ExitStack() as undo:
            undo.callback(self._take_back, dict(vars(self)))
            self._begin(X, y, named, size)
            undo.pop_all()
        return self

    def _begin(self, X: Any, y: Any, named: Array | None, size: int) -> None:  # noqa: N803
        samples = self._samples(X, reset=True)
        labels = self._labels(samples, y)
        classes = np.unique(labels) if named is None else _checked(labels, named)
        fixed = None if named is None else named.tolist()
        learner = self.new_learner(self.n_features_in_, len(classes), self._seed(), fixed)
        _learn(learner, samples, labels, np.arange(len(samples)), size)
        self._take(learner, classes, fixed=named is not None)

    def _take(self, learner: Learner, classes: Array, *, fixed: bool) -> None:
        """Use this learner from now on."""
        self.learner_, self.classes_, self._fixed = learner, classes, fixed
        self._begun_with = {name: vars(self)[name] for name in self.get_params(deep=False)}

    def _check_unchanged(self) -> None:
        """Raises UsageError if a parameter has changed since learning began."""
        for name, then in self._begun_with.items():
            now = vars(self)[name]
            if name not in OF_EACH_CALL and now is not then and now != then:
                raise UsageError(
                    f"{name}: given {reprlib.repr(now)}, but learning began with {reprlib.repr(then)}; allowed: that, "
                    "or fit, which begins anew"
                )

    def _go_on(self, X: Any, y: Any, named: Array | None, size: int) -> None:  # noqa: N803
        self._check_unchanged()
        samples = self._samples(X, reset=False)
        labels = self._labels(samples, y)
        known = self.classes_
        if named is not None and not np.array_equal(named, known):
            raise UsageError(f"classes: given {_short(named)}; allowed: {_short(known)}, as now known, or none")
        classes = _checked(labels, known) if self._fixed else _joined(labels, known)
        try:
            _learn(self.learner_, samples, labels, np.arange(len(samples)), size)
        finally:  # also after an interruption
            self.classes_ = _learned(classes, self.learner_)

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Probabilities `float64 [n, n_classes]` in the order of `classes_`; each row sums to 1.

        Raises:
            NotFittedError: nothing was learned yet.
            ValueError: the table has other columns than the one that was learned.
            TrainingError: learning diverged: the answers are not finite.
        """
        check_is_fitted(self, "learner_")
        found = probabilities(self.learner_, self._samples(X, reset=False))
        position = {label: column for column, label in enumerate(self.learner_.classes)}
        return found[:, [position[label] for label in self.classes_.tolist()]]

    def predict(self, X: Any) -> Array:  # noqa: N803
        """The most likely label of each row `[n]`. Raises as `predict_proba`."""
        best = self.predict_proba(X).argmax(1)
        labels: Array = self.classes_[best]
        return labels

    def _take_back(self, before: dict[str, Any]) -> None:
        """Restore all attributes after a call that failed."""
        self.__dict__.clear()
        self.__dict__.update(before)

    def _seed(self) -> int:
        if self.random_state is None:
            return secrets.randbits(32)
        if isinstance(self.random_state, np.random.RandomState):
            return int(self.random_state.randint(2**31))
        return _whole("random_state", self.random_state, low=0)

    def _samples(self, given: Any, *, reset: bool) -> Array:
        samples: Array = validate_data(self, X=given, dtype=np.float32, reset=reset)
        return samples

    def _labels(self, samples: Array, given: Any) -> Array:
        """Labels `[n]`, checked as scikit-learn does."""
        if given is None:
            raise UsageError("y: this SynergyClassifier requires y to be passed, but the target y is None")
        labels: Array = column_or_1d(given, warn=True)
        for label in as_labels(labels, None):
            check_present(label)
        check_classification_targets(labels)
        if len(labels) != len(samples):
            raise UsageError(f"y: given {len(labels)} labels for {len(samples)} rows; allowed: one a row")
        return labels


def _learn(learner: Learner, samples: Array, labels: Array, order: Array, size: int) -> None:
    """One pass over rows, in batches of nearly equal size: BatchNorm cannot use a batch of one."""
    for rows in np.array_split(order, -(-len(order) // size)):
        learner.observe(samples[rows], labels[rows])


_TEXT = "OSU"
"""Kinds of numpy arrays without numbers."""
OF_EACH_CALL = ("epochs", "batch_size")
"""Parameters of a call. All others belong to the learner."""


def _whole(name: str, value: Any, low: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise UsageError(f"{name}: given {reprlib.repr(value)}; allowed: whole numbers from {low} on")
    return int(value)


def _checked(labels: Array, classes: Array) -> Array:
    """`classes`. Raises UsageError for a label outside them."""
    if len(new := np.setdiff1d(labels, classes)):
        raise UsageError(f"y: given {_short(new)}; allowed: {_short(classes)}, the classes of the first call")
    return classes


def _joined(labels: Array, known: Array) -> Array:
    """All labels, sorted. Raises UsageError where numpy would change labels: numbers beside text become text."""
    if (labels.dtype.kind in _TEXT) != (known.dtype.kind in _TEXT):
        raise UsageError(f"y: given {_short(labels)} beside {_short(known)}; allowed: text or numbers, not both")
    joined: Array = np.union1d(known, labels)
    if lost := {*known.tolist(), *labels.tolist()} - {*joined.tolist()}:
        raise UsageError(
            f"y: given {labels.dtype} labels beside {known.dtype} ones, and no type holds them all: {min(lost)} "
            "would change; allowed: labels of one type"
        )
    return joined


def _learned(labels: Array, learner: Learner) -> Array:
    """The labels that the learner knows."""
    known = {*learner.classes}
    learned: Array = labels[np.array([label in known for label in labels.tolist()], dtype=bool)]
    return learned


def _short(labels: Array) -> str:
    return reprlib.repr(labels.tolist())
