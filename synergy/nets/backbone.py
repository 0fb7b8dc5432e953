"""A classifier in two parts, for methods that look at features."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from synergy.errors import UsageError


class Backbone(nn.Module, ABC):
    """Features, then a linear classifier. Only methods that work on features or on single outputs need to know."""

    classifier: nn.Linear

    @abstractmethod
    def features(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> what the classifier sees, `[B, features]`."""

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> logits `[B, n_classes]`, in the precision of the parameters also under autocast."""
        logits: Tensor = self.classifier(self.features(inputs))
        return logits.to(self.classifier.weight.dtype)


def need_backbone(net: nn.Module, method: str) -> Backbone:
    """`net`, if it is a `Backbone`; otherwise raises UsageError in the name of the method that needs one."""
    if not isinstance(net, Backbone):
        raise UsageError(
            f"network: given {type(net).__name__}; allowed for {method}: a Backbone, which has `features` and a "
            "linear `classifier`; derive yours from synergy.nets.backbone.Backbone"
        )
    return net
