"""A learner for tables: a default network, and options that suit few and small samples."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.methods.base import Method, ReplayConfig
from synergy.nets.backbone import Backbone
from synergy.nets.mlp import linear
from synergy.randomness import torch_generator
from synergy.stream.learner import Learner
from synergy.stream.options import choose_method

SMALL_TABLES: Mapping[str, Mapping[str, Any]] = {"synergy": {"ema_alpha": 0.95}}
"""Options with other defaults here. SYNERgy's published average spans thousands of steps; a small table has hundreds.
Digits, two classes at a time, in five passes: 87 % right with 0.95, 51 % with 0.999."""

NetworkFactory = Callable[[int, int], nn.Module]
"""Number of features and of classes -> a network from `[B, features]` to logits `[B, classes]`."""


class Dense(Backbone):
    """Any number of hidden layers with ReLU; Xavier uniform weights, zero biases.

    Args:
        n_features: values of a sample.
        n_classes: outputs.
        hidden: units of each hidden layer; none makes a linear model.
        generator: draws the initial weights, on the CPU.

    Examples:
        >>> net = Dense(4, 2, (8,), generator=torch.Generator().manual_seed(0))
        >>> net(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self, n_features: int, n_classes: int, hidden: Sequence[int] = (100, 100), *, generator: torch.Generator
    ) -> None:
        super().__init__()
        sizes = [n_features, *hidden]
        self.layers = nn.ModuleList(linear(inputs, outputs, generator) for inputs, outputs in pairwise(sizes))
        self.classifier = linear(sizes[-1], n_classes, generator)

    def features(self, inputs: Tensor) -> Tensor:
        """`[B, n_features]` -> what the classifier sees, `[B, hidden[-1]]`."""
        for layer in self.layers:
            inputs = torch.relu(layer(inputs))
        return inputs


class TableModel:
    """The parameters that every face for tables has, and the learner that they make.

    Args:
        method: a name or a class, as of `Learner`.
        net: a network, what makes one, or None for layers of `hidden` units.
        hidden: units of each hidden layer.
        buffer_size: samples in memory, for a method that has one.
        lr: learning rate.
        clip_norm: bound on the norm of a step's gradient; None for no bound.
        device: where to compute.
        options: more options of the method and of the `Learner`. They win over the others.

    Examples:
        >>> model = TableModel("er", None, (8,), 100, lr=0.1, clip_norm=1.0, device=None, options={"minibatch_size": 4})
        >>> learner = model.new_learner(n_features=3, n_classes=2, seed=0)
        >>> _ = learner.observe(torch.zeros(5, 3), ["a"] * 5)
        >>> learner.memory.summary()["capacity"]
        100
    """

    def __init__(
        self,
        method: str | type[Method[Any]],
        net: nn.Module | NetworkFactory | None,
        hidden: Sequence[int],
        buffer_size: int,
        *,
        lr: float,
        clip_norm: float | None,
        device: str | None,
        options: Mapping[str, Any] | None,
    ) -> None:
        self.method = method
        self.net = net
        self.hidden = hidden
        self.buffer_size = buffer_size
        self.lr = lr
        self.clip_norm = clip_norm
        self.device = device
        self.options = options

    def new_learner(
        self, n_features: int, n_classes: int, seed: int, classes: Iterable[Hashable] | None = None
    ) -> Learner:
        """A learner for tables of `n_features` columns.

        Args:
            n_features: columns of the table.
            n_classes: outputs of a network that is made here.
            seed: of everything random, the initial weights too.
            classes: all labels there will ever be; None if new ones may come.

        Raises:
            UsageError: as `Learner`, and for a network, an option or layer sizes that are not allowed.
        """
        net = network(self.net, self.hidden, n_features, n_classes, seed)
        name, kind = choose_method(self.method)
        further = _checked(self.options)
        size = further.get("buffer_size", self.buffer_size)
        own: dict[str, Any] = {"clip_norm": self.clip_norm, "seed": seed, "prequential": "off"}
        if "optimizer" not in further:
            own["lr"] = self.lr
        if "buffer_size" in kind.Config.names() and "buffer_bytes" not in further:
            own["buffer_size"] = size
            if issubclass(kind.Config, ReplayConfig) and isinstance(size, int | float):
                # A draw as large as a small memory. A larger one makes the method warn, in words of the command line.
                own["minibatch_size"] = min(kind.Config.minibatch_size, size)
        options = own | dict(SMALL_TABLES.get(name, {})) | dict(further)
        return Learner(net, self.method, classes=classes, device=self.device, **options)


def _checked(options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The further options. Raises UsageError for one that is an argument of its own, or has no use for classes."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise UsageError(f"options: given {reprlib.repr(options)}; allowed: a mapping from names to values")
    if strange := [name for name in options if not isinstance(name, str)]:
        raise UsageError(f"options: given the name {reprlib.repr(strange[0])}; allowed: names as text")
    if taken := sorted(_NO_OPTIONS & options.keys()):
        raise UsageError(f"options: given {taken[0]!r}; allowed: options of the method and of a learner of classes")
    return options


_NO_OPTIONS = frozenset({"net", "method", "config", "classes", "device", "loss"})


def network(
    given: nn.Module | NetworkFactory | None, hidden: Sequence[int], n_features: int, n_classes: int, seed: int
) -> nn.Module:
    """The network for a table: the given one, or a `Dense` one.

    Args:
        given: a network, a function that makes one, or None.
        hidden: units of each hidden layer of a `Dense` one.
        n_features: columns of the table.
        n_classes: classes known so far.
        seed: of the initial weights. A function `given` draws from torch's global generator: it is seeded for that, and
            then put back.

    Raises:
        UsageError: `given` is something else, or `hidden` is no sequence of layer sizes.
    """
    if given is None:
        if isinstance(hidden, str) or not isinstance(hidden, Sequence) or not all(map(_is_size, hidden)):
            raise UsageError(f"hidden: given {reprlib.repr(hidden)}; allowed: units of each layer, such as (100, 100)")
        sizes = [int(units) for units in hidden]
        return Dense(n_features, n_classes, sizes, generator=torch_generator(seed, "network"))
    if isinstance(given, nn.Module):
        return given
    if not callable(given):
        raise UsageError(f"net: given {reprlib.repr(given)}; allowed: an nn.Module, or a function {_MAKES}")
    with torch.random.fork_rng(devices=[]):
        # Layers draw their weights from the global generator and know no other.
        torch.default_generator.set_state(torch_generator(seed, "network").get_state())
        try:
            made = given(n_features, n_classes)
        except TypeError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"net: the function fails for two numbers ({reason}); allowed: {_MAKES}") from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"net: the function gave a {type(made).__name__}; allowed: {_MAKES}")
    return made


_MAKES = "(n_features, n_classes) -> nn.Module"


def _is_size(units: object) -> bool:
    return isinstance(units, int | np.integer) and not isinstance(units, bool) and bool(units > 0)


def probabilities(learner: Learner, rows: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probabilities `[B, classes]` of the classes known so far, in float64: the sums of float32 miss 1 by too much.

    Args:
        learner: of classes.
        rows: `[B, features]`.

    Raises:
        UsageError: as `Learner.scores`, or the samples are too large for finite answers.
        TrainingError: as `Learner.scores`.
    """
    found: np.ndarray[Any, np.dtype[np.float64]] = learner.scores(rows).double().softmax(1).cpu().numpy()
    if np.isnan(found).any():
        raise UsageError("samples: the network answers NaN; allowed: smaller numbers (scale them)")
    return found
