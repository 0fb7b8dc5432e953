"""A classifier in two parts, for methods that look at features."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from synergy.errors import UsageError


class Backbone(nn.Module, ABC):
    """Features, then a linear classifier. Methods that work on features or on single outputs need such a network.

    Examples:
        >>> import torch
        >>> from synergy.nets.mlp import linear
        >>> class Small(Backbone):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.classifier = linear(4, 2, torch.Generator().manual_seed(0))
        ...
        ...     def features(self, inputs):
        ...         return inputs.flatten(1)
        >>> Small()(torch.zeros(3, 2, 2)).shape
        torch.Size([3, 2])
    """

    classifier: nn.Linear

    @abstractmethod
    def features(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> inputs of the classifier, `[B, features]`."""

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> logits `[B, n_classes]`, in the precision of the parameters also under autocast."""
        logits: Tensor = self.classifier(self.features(inputs))
        return logits.to(self.classifier.weight.dtype)


def need_backbone(net: nn.Module, method: str) -> Backbone:
    """`net`, which must be a `Backbone`. Raises UsageError that names the method for any other network."""
    if not isinstance(net, Backbone):
        raise UsageError(
            f"network: given {type(net).__name__}; allowed for {method}: a Backbone, which has `features` and a "
            "linear `classifier`; derive yours from synergy.nets.backbone.Backbone"
        )
    return net
