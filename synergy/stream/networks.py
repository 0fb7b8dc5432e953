"""Networks for tables: what learns when its user gives no network."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.nets.backbone import Backbone
from synergy.nets.mlp import linear
from synergy.randomness import torch_generator

NetworkFactory = Callable[[int, int], nn.Module]
"""Number of features and of classes -> a network from `[B, features]` to logits `[B, classes]`."""


class Dense(Backbone):
    """Any number of hidden layers with ReLU; Xavier uniform weights, zero biases.

    Args:
        n_features: values of a sample.
        n_classes: outputs.
        hidden: units of each hidden layer; none makes a linear model.
        generator: draws the initial weights, on the CPU.
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
        UsageError: it is none of these, or `hidden` is no sequence of layer sizes.
    """
    if given is None:
        if isinstance(hidden, str) or not isinstance(hidden, Sequence) or not all(map(_is_size, hidden)):
            raise UsageError(f"hidden: given {reprlib.repr(hidden)}; allowed: units of each layer, such as (100, 100)")
        return Dense(n_features, n_classes, hidden, generator=torch_generator(seed, "network"))
    if isinstance(given, nn.Module):
        return given
    if not callable(given):
        raise UsageError(f"net: given {reprlib.repr(given)}; allowed: an nn.Module, or what makes one: {_MAKES}")
    with torch.random.fork_rng(devices=[]):
        # Layers draw their weights from the global generator and know no other.
        torch.default_generator.set_state(torch_generator(seed, "network").get_state())
        made = given(n_features, n_classes)
    if not isinstance(made, nn.Module):
        raise UsageError(f"net: it made a {type(made).__name__}; allowed: an nn.Module, from {_MAKES}")
    return made


_MAKES = "(n_features, n_classes) -> nn.Module"


def _is_size(units: object) -> bool:
    return isinstance(units, int) and not isinstance(units, bool) and units > 0
