"""A classifier in two parts, for methods that look at features."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Features, then a linear classifier. Only methods that work on features or on single outputs need to know."""

    classifier: nn.Linear

    @abstractmethod
    def features(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> what the classifier sees, `[B, features]`."""

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> logits `[B, n_classes]`."""
        logits: Tensor = self.classifier(self.features(inputs))
        return logits
