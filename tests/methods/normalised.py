"""A network with BatchNorm, to see that a look at it in passing leaves its statistics and its mode alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synergy.nets.backbone import Backbone
from tests.methods import small


class Normalised(Backbone):
    """BatchNorm over pixels, then the classifier; every parameter is 1/2."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)
        self.classifier = nn.Linear(16, small.CLASSES)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.5)

    def features(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.norm(inputs.flatten(1))
        return out


def build(name: str) -> Normalised:
    return Normalised().double()


def statistics(net: nn.Module) -> Tensor:
    """The running means, copied."""
    assert isinstance(net, Normalised) and net.norm.running_mean is not None
    return net.norm.running_mean.clone()
