"""Streaming linear discriminant analysis on frozen features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synergy.methods.base import Method, MethodConfig, Setting
from synergy.methods.steps import UNSEEN, frozen_features, head, one_hot, sum_dtype
from synergy.options import option
from synergy.types import Batch, Predictor, Step


@dataclass(frozen=True)
class SldaConfig(MethodConfig):
    """Options of streaming LDA."""

    lr: float = option(0.1, "without effect: nothing is trained by gradients", low=0)
    shrinkage: float = option(1e-4, "weight of the identity in the covariance", low=1e-12, high=1)


class SLDA(Method[SldaConfig]):
    """Class means and one covariance for all classes, from running sums; answer with the linear discriminant.

    Reference: Hayes & Kanan 2020, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", CVPR
    workshops.

    Update rule, with z the features of a sample (what the last linear layer of the network sees), n samples, n_k of
    class k:

    1. For each class: the sum of z and n_k; for all: the sum of z z^T.
    2. When an answer is asked for: mu_k, the mean of a class; Sigma = (sum z z^T - sum_k n_k mu_k mu_k^T) / n, the
       covariance within classes; Lambda = ((1 - shrinkage) Sigma + shrinkage I)^-1.
    3. The score of class k is z^T Lambda mu_k - mu_k^T Lambda mu_k / 2. A class without a sample scores -10000.

    Deviations: the published code updates Sigma one sample at a time, weighs a deviation by t/(t + 1) for the t-th
    sample of the stream, and takes the first sample of a class as a deviation from zero. Here Sigma is the covariance
    of the samples so far, exactly, in whatever order and batches they came. There is no base initialisation.

    Examples:
        >>> from synergy import testing
        >>> method = testing.trained("slda", "seq-digits")
        >>> method.second.shape, list(method.predictors())
        (torch.Size([100, 100]), ['discriminant'])
    """

    Config = SldaConfig
    trains_to_answer = True

    def __init__(self, config: SldaConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        weight = head(self.net).weight
        outputs = len(weight)
        width = weight.shape[1]
        self.sums = torch.zeros(outputs, width, dtype=sum_dtype(weight.device), device=weight.device)
        """Of the features of each class, `[n_classes, D]`."""
        self.counts = self.sums.new_zeros(outputs)
        self.second = self.sums.new_zeros(width, width)
        """The sum of z z^T, `[D, D]`."""

    def compute(self, batch: Batch, now: None) -> Step:
        # 1. Sums by class, and the sum of products.
        features = frozen_features(self.net, batch.inputs)
        classes = one_hot(batch.labels, len(self.counts), features)
        self.sums += classes.T @ features
        self.counts += classes.sum(0)
        self.second += features.T @ features
        return Step({})

    def grow(self, outputs: int, head: str) -> None:
        super().grow(outputs, head)
        self.sums = torch.cat([self.sums, self.sums.new_zeros(outputs, self.sums.shape[1])])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(outputs)])

    def predictors(self) -> dict[str, Predictor]:
        # 2. Means and covariance.
        means = self.sums / self.counts.clamp(min=1)[:, None]
        within = (self.second - (self.counts[:, None] * means).T @ means) / self.counts.sum().clamp(min=1)
        identity = torch.eye(len(within), dtype=within.dtype, device=within.device)
        shrunk = (1 - self.config.shrinkage) * within + self.config.shrinkage * identity
        weights = torch.linalg.solve(shrunk, means.T)
        return {"discriminant": Discriminant(self.net, weights, -(means.T * weights).sum(0) / 2, self.counts > 0)}


@dataclass(frozen=True)
class Discriminant:
    """A linear function of a sample's features for each class.

    Attributes:
        net: gives the features.
        weights: `[D, n_classes]`.
        bias: `[n_classes]`.
        seen: whether a class has a sample, `bool [n_classes]`.
    """

    net: nn.Module
    weights: Tensor
    bias: Tensor
    seen: Tensor

    def __call__(self, inputs: Tensor, /) -> Tensor:
        scores = frozen_features(self.net, inputs) @ self.weights + self.bias
        return scores.masked_fill(~self.seen, UNSEEN).to(inputs.dtype if inputs.is_floating_point() else torch.float32)
