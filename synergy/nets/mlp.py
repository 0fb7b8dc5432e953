"""The multi-layer perceptron of the MNIST benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.nets.backbone import Backbone


class MLP(Backbone):
    """Two hidden layers with ReLU; Xavier uniform weights, zero biases.

    Args:
        input_size: pixels of an image (all channels).
        n_classes: outputs.
        hidden: units of each hidden layer.
        generator: draws the initial weights, on the CPU.
    """

    def __init__(self, input_size: int, n_classes: int, hidden: int = 100, *, generator: torch.Generator) -> None:
        super().__init__()
        self.fc1 = linear(input_size, hidden, generator)
        self.fc2 = linear(hidden, hidden, generator)
        self.classifier = linear(hidden, n_classes, generator)

    def features(self, inputs: Tensor) -> Tensor:
        """`[B, C, H, W]` or `[B, input_size]` -> what the classifier sees, `[B, hidden]`.

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
    # Made without values first: the layer's own initialisation would draw from the global generator.
    layer = nn.Linear(inputs, outputs, bias, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
