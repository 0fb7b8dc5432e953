"""RanPAC: ridge regression on a random projection of frozen features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synergy.methods.base import Method, MethodConfig, Setting
from synergy.methods.steps import UNSEEN, frozen_features, head, one_hot, sum_dtype
from synergy.options import option
from synergy.randomness import torch_generator
from synergy.types import Batch, Predictor, Step


@dataclass(frozen=True)
class RanpacConfig(MethodConfig):
    """Options of RanPAC."""

    lr: float = option(0.1, "without effect: nothing is trained by gradients", low=0)
    projection: int = option(1000, "random features; their square times 8 is the memory in bytes", low=1)
    ridge: float = option(1.0, "weight of the squared norm in the regression", low=1e-12)


class RanPAC(Method[RanpacConfig]):
    """Project frozen features at random, with a ReLU; answer by ridge regression to the classes, from running sums.

    Reference: McDonnell, Gong, Parvaneh, Abbasnejad & van den Hengel 2023, "RanPAC: Random Projections and Pre-trained
    Models for Continual Learning", NeurIPS, eqs. 4 to 6.

    Update rule, with z the features of a sample (what the last linear layer of the network sees), y its one-hot class:

    1. h = relu(W^T z), W drawn once from a standard normal distribution, `projection` columns.
    2. G <- G + h h^T, C <- C + h y^T.
    3. The scores are h^T (G + ridge I)^-1 C. A class without a sample scores -10000.

    Deviations: `ridge` is an option; the paper chooses it anew for each task by a part of the task's data that it holds
    out. The adaptation of the backbone in the first task is left out. The paper projects to 10,000.

    Examples:
        >>> from synergy import testing
        >>> method = testing.trained("ranpac", "seq-digits", projection=50)
        >>> method.gram.shape, list(method.predictors())
        (torch.Size([50, 50]), ['regression'])
    """

    Config = RanpacConfig
    trains_to_answer = True

    def __init__(self, config: RanpacConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        weight = head(self.net).weight
        outputs = len(weight)
        generator = torch_generator(setting.seed, "method/projection")
        drawn = torch.randn(weight.shape[1], config.projection, generator=generator)
        self.projection = drawn.to(weight.device, sum_dtype(weight.device))
        """W, `[D, projection]`."""
        self.gram = self.projection.new_zeros(config.projection, config.projection)
        """G, `[projection, projection]`."""
        self.targets = self.projection.new_zeros(config.projection, outputs)
        """C, `[projection, n_classes]`."""
        self.counts = self.projection.new_zeros(outputs)

    def compute(self, batch: Batch, now: None) -> Step:
        # 1. Random features.
        hidden = (frozen_features(self.net, batch.inputs) @ self.projection).relu()
        # 2. The sums of the regression.
        classes = one_hot(batch.labels, len(self.counts), hidden)
        self.gram += hidden.T @ hidden
        self.targets += hidden.T @ classes
        self.counts += classes.sum(0)
        return Step({})

    def grow(self, outputs: int, head: str) -> None:
        super().grow(outputs, head)
        self.targets = torch.cat([self.targets, self.targets.new_zeros(len(self.targets), outputs)], 1)
        self.counts = torch.cat([self.counts, self.counts.new_zeros(outputs)])

    def predictors(self) -> dict[str, Predictor]:
        # 3. The regression.
        identity = torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        weights = torch.linalg.solve(self.gram + self.config.ridge * identity, self.targets)
        return {"regression": Regression(self.net, self.projection, weights, self.counts > 0)}


@dataclass(frozen=True)
class Regression:
    """A linear function of a sample's random features for each class.

    Attributes:
        net: gives the features.
        projection: `[D, projection]`.
        weights: `[projection, n_classes]`.
        seen: whether a class has a sample, `bool [n_classes]`.
    """

    net: nn.Module
    projection: Tensor
    weights: Tensor
    seen: Tensor

    def __call__(self, inputs: Tensor, /) -> Tensor:
        scores = (frozen_features(self.net, inputs) @ self.projection).relu() @ self.weights
        return scores.masked_fill(~self.seen, UNSEEN).to(inputs.dtype if inputs.is_floating_point() else torch.float32)
