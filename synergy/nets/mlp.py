"""The multi-layer perceptron of the MNIST benchmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.nets.backbone import Backbone
from synergy.nets.base import NetConfig, Network
from synergy.options import option

FULL_HIDDEN = 100


@dataclass(frozen=True)
class MLPConfig(NetConfig):
    """Options of the MLP."""

    hidden: int = option(FULL_HIDDEN, "units of each hidden layer; fewer than 100 make a partial run", low=1)

    @property
    def reduced(self) -> bool:
        return self.hidden < FULL_HIDDEN


class MLP(Backbone, Network[MLPConfig]):
    """Two hidden layers with ReLU; Xavier uniform weights, zero biases.

    Args:
        input_size: values of a sample, such as pixels times channels.
        n_classes: outputs.
        hidden: units of each hidden layer.
        generator: draws the initial weights, on the CPU.

    Examples:
        >>> net = MLP(64, 10, generator=torch.Generator().manual_seed(0))
        >>> net(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    Config = MLPConfig

    @classmethod
    def build(cls, config: MLPConfig, shape: tuple[int, ...], n_classes: int, generator: torch.Generator) -> Self:
        return cls(math.prod(shape), n_classes, config.hidden, generator=generator)

    def __init__(
        self, input_size: int, n_classes: int, hidden: int = FULL_HIDDEN, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.fc1 = linear(input_size, hidden, generator)
        self.fc2 = linear(hidden, hidden, generator)
        self.classifier = linear(hidden, n_classes, generator)

    def features(self, inputs: Tensor) -> Tensor:
        """`[B, C, H, W]` or `[B, input_size]` -> inputs of the classifier, `[B, hidden]`.

        Raises:
            UsageError: the images have another number of pixels.
        """
        inputs = inputs.flatten(1)
        if inputs.shape[1] != self.fc1.in_features:
            raise UsageError(
                f"inputs: given {inputs.shape[1]} values each; allowed for this MLP: {self.fc1.in_features} "
                "(resize them, or build the network for images of this size)"
            )
        hidden = torch.relu(self.fc1(inputs))
        return torch.relu(self.fc2(hidden))


def linear(inputs: int, outputs: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """A linear layer with Xavier uniform weights and zero biases, on the CPU."""
    # On meta the layer has no values: its own initialisation would draw from the global generator.
    layer = nn.Linear(inputs, outputs, bias, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
