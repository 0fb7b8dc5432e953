"""Online elastic weight consolidation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.methods.base import Answer, Method, MethodConfig, Setting
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.vectors import Flat, PerParameter
from synergy.options import option
from synergy.types import Batch, Predictor, Step, Task

CHUNK = 2000
"""Samples of a task whose float view is made at once."""


@dataclass(frozen=True)
class EwcConfig(MethodConfig):
    """Options of online EWC."""

    e_lambda: float = option(0.7, "weight of the Fisher-weighted distance to the last task's weights", low=0)
    gamma: float = option(1.0, "what is left of the Fisher information of earlier tasks at a task end", low=0, high=1)


class EwcOn(Method[EwcConfig]):
    """An anchor at the weights of the last task, strong where past tasks were sensitive.

    Reference: Schwarz et al. 2018, "Progress & Compress: A scalable framework for continual learning", ICML, section 4;
    Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", PNAS.

    Update rule:

    1. One SGD step on CE(f(x), y) + e_lambda * sum_i F_i (theta_i - theta*_i)^2. F is zero in the first task.
    2. At the end of a task: F <- gamma F + F_task and theta* <- theta, where F_task is the mean over the task's
       training set of p_n (grad log p(y_n | x_n))^2 with p_n = p(y_n | x_n).

    Deviations from the paper: the weights p_n come from the published code; the labels are those of the data, not drawn
    from the network's answers; the penalty has no factor 1/2, so that e_lambda is half of the paper's. Deviations from
    that code: F_task sees samples without augmentation, changes no running statistics, and is divided by the number of
    samples, not by that number rounded up to full batches. It takes one sample at a time; this one is batched and just
    as exact.

    Examples:
        >>> from synergy import testing
        >>> bool((testing.trained("ewc_on", "seq-digits").fisher.values > 0).any())
        True
    """

    Config = EwcConfig
    needs_boundaries = True

    def __init__(self, config: EwcConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.fisher = PerParameter(self.weights, torch.zeros_like(self.weights.values))
        self.anchor = PerParameter(self.weights, self.weights.values.clone())

    def compute(self, batch: Batch, now: None) -> Step:
        # 1. One SGD step on both terms.
        ce = F.cross_entropy(self.net(batch.inputs), batch.labels)
        self.weights.backward(ce)
        penalty = self._pull()
        self.optimizer.step()
        ce = ce.detach()
        return Step({"loss": ce + self.config.e_lambda * penalty, "ce": ce, "penalty": penalty})

    @torch.no_grad()
    def _pull(self) -> Tensor:
        """The penalty; its gradient, `2 e_lambda F (theta - theta*)`, is added without a backward pass."""
        drift = self.weights.values - self.anchor.values
        pull = self.fisher.values * drift
        self.weights.grads.add_(pull, alpha=2 * self.config.e_lambda)
        return torch.dot(pull, drift)

    def end_task(self, task: Task) -> None:
        # 2. Importance and anchor follow.
        self.fisher.values.mul_(self.config.gamma).add_(self._fisher_of(task))
        self.anchor.values.copy_(self.weights.values)

    def _fisher_of(self, task: Task) -> Tensor:
        total, part = torch.zeros_like(self.anchor.values), torch.empty_like(self.anchor.values)
        for chosen in torch.arange(len(task), device=task.labels.device).split(CHUNK):
            raw, labels = task.take(chosen)
            inputs = self.setting.view.plain(raw)
            fisher = fisher_diagonal(self.net, inputs, labels, memory_mb=self.setting.fisher_memory_mb)
            total.add_(self.weights.gather(fisher, out=part), alpha=len(chosen) / len(task))
        return total

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
