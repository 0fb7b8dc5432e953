"""Synaptic intelligence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.methods.base import Answer, Method, MethodConfig, Setting
from synergy.ops.vectors import Flat, PerParameter
from synergy.options import option
from synergy.types import Batch, Predictor, Step, Task


@dataclass(frozen=True)
class SiConfig(MethodConfig):
    """Options of SI."""

    c: float = option(1.0, "weight of the importance-weighted distance to the last task's weights", low=0)
    xi: float = option(1.0, "added to a weight's squared move before its importance is divided by it", low=1e-12)


class SI(Method[SiConfig]):
    """An anchor at the weights of the last task, strong on those that have lowered the loss.

    Reference: Zenke, Poole & Ganguli 2017, "Continual Learning Through Synaptic Intelligence", ICML.

    Update rule; g is the gradient of CE(f(x), y):

    1. One SGD step along clip(g + 2 c Omega (theta - theta*), -1, 1), elementwise: the gradient of
       CE + c * sum_i Omega_i (theta_i - theta*_i)^2.
    2. omega <- omega - g * change, with `change` the step of the weights.
    3. At the end of a task: Omega <- Omega + max(omega, 0) / ((theta - theta*)^2 + xi), theta* <- theta, omega <- 0.

    Deviations: the clip by value comes from the published code. It bounds the step alone: omega takes g before the clip
    and the change after it. So the sum of omega is, for small steps, by how much the loss fell, as in the paper. The
    published code accumulates lr times the square of the clipped gradient of both terms: there the pull of the penalty
    counts as importance, and omega is never negative.

    Examples:
        >>> from synergy import testing
        >>> bool((testing.trained("si", "seq-digits").importance.values > 0).any())
        True
    """

    Config = SiConfig
    plain_sgd_only = True
    needs_boundaries = True

    def __init__(self, config: SiConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.path = PerParameter(self.weights, torch.zeros_like(self.weights.values))
        self.importance = PerParameter(self.weights, torch.zeros_like(self.weights.values))
        self.anchor = PerParameter(self.weights, self.weights.values.clone())

    def compute(self, batch: Batch, now: None) -> Step:
        # 1. One SGD step along the clipped gradient of both terms.
        ce = F.cross_entropy(self.net(batch.inputs), batch.labels)
        self.weights.backward(ce)
        gradient = self.weights.grads.clone()
        penalty = self._pull()
        self.weights.grads.clamp_(-1, 1)
        # 2. The path follows. The step of plain SGD is -lr * grads; a difference of weights would lose digits.
        self.path.values.addcmul_(gradient, self.weights.grads, value=self.config.lr)
        self.optimizer.step()
        ce = ce.detach()
        return Step({"loss": ce + self.config.c * penalty, "ce": ce, "penalty": penalty})

    @torch.no_grad()
    def _pull(self) -> Tensor:
        """The penalty; its gradient, `2 c Omega (theta - theta*)`, is added without a backward pass."""
        drift = self.weights.values - self.anchor.values
        pull = self.importance.values * drift
        self.weights.grads.add_(pull, alpha=2 * self.config.c)
        return torch.dot(pull, drift)

    @torch.no_grad()
    def end_task(self, task: Task) -> None:
        # 3. Importance and anchor follow; the path starts anew.
        moved = (self.weights.values - self.anchor.values).square_()
        self.importance.values.add_(self.path.values.clamp(min=0).div_(moved.add_(self.config.xi)))
        self.anchor.values.copy_(self.weights.values)
        self.path.values.zero_()

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
