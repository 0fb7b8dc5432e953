"""A linear classifier: what is learned on frozen features."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from synergy.errors import UsageError
from synergy.nets.backbone import Backbone
from synergy.nets.base import NetConfig, Network
from synergy.nets.mlp import linear


class Linear(Backbone, Network[NetConfig]):
    """One linear layer over all values of a sample; Xavier uniform weights, zero biases. Its features are the sample.

    Args:
        input_size: values of a sample.
        n_classes: outputs.
        generator: draws the initial weights, on the CPU.

    Examples:
        >>> net = Linear(768, 10, generator=torch.Generator().manual_seed(0))
        >>> net(torch.zeros(2, 768)).shape
        torch.Size([2, 10])
    """

    @classmethod
    def build(cls, config: NetConfig, shape: tuple[int, ...], n_classes: int, generator: torch.Generator) -> Self:
        return cls(math.prod(shape), n_classes, generator=generator)

    def __init__(self, input_size: int, n_classes: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.classifier = linear(input_size, n_classes, generator)

    def features(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> `[B, input_size]`.

        Raises:
            UsageError: the samples have another number of values.
        """
        flat = inputs.flatten(1)
        if flat.shape[1] != self.classifier.in_features:
            raise UsageError(
                f"inputs: given {flat.shape[1]} values each; allowed for this network: {self.classifier.in_features}"
            )
        return flat
