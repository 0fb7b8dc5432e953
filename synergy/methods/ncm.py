"""Nearest class mean: frozen features, a running mean for each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synergy.methods.base import Method, MethodConfig, Setting
from synergy.methods.steps import UNSEEN, frozen_features, head, one_hot, sum_dtype
from synergy.options import option
from synergy.types import Batch, Predictor, Step


@dataclass(frozen=True)
class NcmConfig(MethodConfig):
    """Options of the nearest class mean."""

    lr: float = option(0.1, "without effect: nothing is trained by gradients", low=0)


class NCM(Method[NcmConfig]):
    """Keep the mean of each class's features; answer with the class whose mean is nearest. The network stays as it is.

    Reference: Mensink, Verbeek, Perronnin & Csurka 2013, "Distance-Based Image Classification: Generalizing to New
    Classes at Near-Zero Cost", TPAMI; as a baseline on pre-trained features: Janson, Zhang, Aljundi & Elhoseiny 2022,
    "A Simple Baseline that Questions the Use of Pretrained-Models in Continual Learning".

    Update rule, with z the features of a sample (what the last linear layer of the network sees):

    1. For each class k: the sum of z and the number of its samples; mu_k is their quotient.
    2. The score of class k is -|z - mu_k|^2. A class without a sample scores -10000.

    Deviations: none from the rule with Euclidean distance. The stream is not augmented twice: features are those of the
    batch as it comes.

    Examples:
        >>> from synergy import testing
        >>> method = testing.trained("ncm", "seq-digits")
        >>> list(method.predictors()), int(method.counts.sum())
        (['nearest_mean'], 240)
    """

    Config = NcmConfig

    def __init__(self, config: NcmConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        weight = head(self.net).weight
        outputs = len(weight)
        self.sums = torch.zeros(outputs, weight.shape[1], dtype=sum_dtype(weight.device), device=weight.device)
        """Of the features of each class, `[n_classes, D]`."""
        self.counts = self.sums.new_zeros(outputs)

    def compute(self, batch: Batch, now: None) -> Step:
        # 1. Sums and counts by class.
        features = frozen_features(self.net, batch.inputs)
        classes = one_hot(batch.labels, len(self.counts), features)
        self.sums += classes.T @ features
        self.counts += classes.sum(0)
        return Step({})

    def grow(self, outputs: int, head: str) -> None:
        super().grow(outputs, head)
        self.sums = torch.cat([self.sums, self.sums.new_zeros(outputs, self.sums.shape[1])])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(outputs)])

    def predictors(self) -> dict[str, Predictor]:
        means = self.sums / self.counts.clamp(min=1)[:, None]
        return {"nearest_mean": NearestMean(self.net, means, self.counts > 0)}


@dataclass(frozen=True)
class NearestMean:
    """Minus the squared distance of a sample's features to the mean of each class.

    Attributes:
        net: gives the features.
        means: of each class, `[n_classes, D]`.
        seen: whether a class has a mean, `bool [n_classes]`.
    """

    net: nn.Module
    means: Tensor
    seen: Tensor

    def __call__(self, inputs: Tensor, /) -> Tensor:
        features = frozen_features(self.net, inputs)
        # |z - mu|^2 without |z|^2 would order classes alike; the whole keeps scores comparable between samples.
        squares = (features[:, None] - self.means).square().sum(2)
        return (
            (-squares).masked_fill(~self.seen, UNSEEN).to(inputs.dtype if inputs.is_floating_point() else torch.float32)
        )
