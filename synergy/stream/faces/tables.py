"""A learner for tables: a network if none is given, and options that suit few and small samples."""

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
"""Options of methods that differ here. The published average of SYNERgy's answer spans thousands of steps, and a small
table has hundreds: digits two classes at a time, five passes, are 87 % right with 0.95 and 51 % with 0.999."""

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


def table_learner(
    method: str | type[Method[Any]],
    net: nn.Module,
    *,
    classes: Iterable[Hashable] | None = None,
    buffer_size: int,
    lr: float,
    clip_norm: float | None,
    seed: int,
    device: str | None,
    options: Mapping[str, Any] | None,
) -> Learner:
    """A learner with options for tables, over which `options` prevail.

    Args:
        method: as of `Learner`, like `net`, `classes`, `device` and `options`.
        net: `[B, features]` -> logits.
        classes: all there will ever be; None if new ones may come.
        buffer_size: samples kept in memory, by a method that has one.
        lr: learning rate.
        clip_norm: bound on the norm of a step's gradient.
        seed: of everything random but the network.
        device: where to compute.
        options: of the method and of the learner.

    Raises:
        UsageError: as `Learner`.
    """
    name, kind = choose_method(method)
    further = _checked(options)
    size = further.get("buffer_size", buffer_size)
    own: dict[str, Any] = {"clip_norm": clip_norm, "seed": seed, "prequential": "off"}
    if "optimizer" not in further:
        own["lr"] = lr
    if "buffer_size" in kind.Config.names() and "buffer_bytes" not in further:
        own["buffer_size"] = size
        if issubclass(kind.Config, ReplayConfig) and isinstance(size, int | float):
            # A small memory gives no more at a time; else the method warns of that, and names a flag of the command.
            own["minibatch_size"] = min(kind.Config.minibatch_size, size)
    return Learner(
        net, method, classes=classes, device=device, **(own | dict(SMALL_TABLES.get(name, {})) | dict(further))
    )


def _checked(options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Further options, if they are some and none of them is an argument already, or of no use for classes."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise UsageError(f"options: given {reprlib.repr(options)}; allowed: a mapping from names to values")
    if strange := [name for name in options if not isinstance(name, str)]:
        raise UsageError(f"options: given the name {reprlib.repr(strange[0])}; allowed: names that are texts")
    if taken := sorted(_NO_OPTIONS & options.keys()):
        raise UsageError(f"options: given {taken[0]!r}; allowed: options of the method and of a learner of classes")
    return options


_NO_OPTIONS = frozenset({"net", "method", "config", "classes", "device", "loss"})


def network(
    given: nn.Module | NetworkFactory | None, hidden: Sequence[int], n_features: int, n_classes: int, seed: int
) -> nn.Module:
    """The network a user gave, made for a table of so many features and classes; a `Dense` one if none was given.

    Args:
        given: a network as it is, something that makes one, or None.
        hidden: units of each hidden layer, where none is given.
        n_features: of the table.
        n_classes: known so far.
        seed: of the initial weights, also of those that `given` draws from torch's global generator, which is put back.

    Raises:
        UsageError: it is something else, or `hidden` is not a sequence of layer sizes.
    """
    if given is None:
        if isinstance(hidden, str) or not isinstance(hidden, Sequence) or not all(map(_is_size, hidden)):
            raise UsageError(f"hidden: given {reprlib.repr(hidden)}; allowed: units of each layer, such as (100, 100)")
        sizes = [int(units) for units in hidden]
        return Dense(n_features, n_classes, sizes, generator=torch_generator(seed, "network"))
    if isinstance(given, nn.Module):
        return given
    if not callable(given):
        raise UsageError(f"net: given {reprlib.repr(given)}; allowed: an nn.Module, or what makes one: {_MAKES}")
    with torch.random.fork_rng(devices=[]):
        # Layers draw their weights from the global generator and know no other.
        torch.default_generator.set_state(torch_generator(seed, "network").get_state())
        try:
            made = given(n_features, n_classes)
        except TypeError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"net: it makes no network of two numbers ({reason}); allowed: {_MAKES}") from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"net: it made a {type(made).__name__}; allowed: an nn.Module, from {_MAKES}")
    return made


_MAKES = "(n_features, n_classes) -> nn.Module"


def _is_size(units: object) -> bool:
    return isinstance(units, int | np.integer) and not isinstance(units, bool) and bool(units > 0)


def probabilities(learner: Learner, rows: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probabilities `[B, classes]` of the classes known so far; in float32 their sum would not be close enough to 1.

    Args:
        learner: of classes.
        rows: `[B, features]`.

    Raises:
        UsageError: as `Learner.scores`, or the samples are so large that the network's answers are not finite.
        TrainingError: as `Learner.scores`.
    """
    found: np.ndarray[Any, np.dtype[np.float64]] = learner.scores(rows).double().softmax(1).cpu().numpy()
    if np.isnan(found).any():
        raise UsageError("samples: the network's answers to them are NaN; allowed: smaller numbers (scale them)")
    return found
