"""Gradient episodic memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.task_wise import TaskWise, equal_share, pick
from synergy.methods.base import Answer, Method, MethodConfig, Setting
from synergy.ops.projection import onto_cone
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Losses, Predictor, Task

RIDGE = 1e-3
"""Added to the diagonal of the quadratic program, so that equal gradients of two tasks do no harm."""


@dataclass(frozen=True)
class GemConfig(MethodConfig):
    """Options of GEM."""

    buffer_size: int = option(500, "samples the memory holds", low=1)
    gamma: float = option(0.5, "margin: the least weight of every past task's gradient in a projected one", low=0)


class Gem(Method[GemConfig]):
    """Bend the stream's gradient so that a step along it raises the loss of no past task.

    Reference: Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning", NeurIPS.

    Update rule: g is the gradient of CE(f(x), y), row k of G that of CE on all samples in memory of past task k,
    augmented. If any element of G g is negative then g <- g + v G, where v minimises
    1/2 v^T (G G^T + 0.001 I) v + (G g)^T v subject to v >= gamma. One SGD step along g. At the end of a task
    `buffer_size // n_tasks` random samples of it enter memory.

    Deviations: from the paper, the samples of a task are drawn when it ends, as in the published code, where the paper
    keeps its last ones. The program is solved as non-negative least squares; should the solver not converge or a
    gradient not be finite, g stays as it is.
    """

    Config = GemConfig
    needs_boundaries = True

    def __init__(self, config: GemConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.share = equal_share(config.buffer_size, setting.n_tasks)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = TaskWise(config.buffer_size, setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.pick_rng = setting.rng("pick")

    def observe(self, batch: Batch) -> Losses:
        past = [self._gradient_of(task) for task in range(len(self.memory.sizes))]
        loss = F.cross_entropy(self.net(batch.inputs), batch.labels)
        self.weights.backward(loss)
        if past:
            gradient = onto_cone(self.weights.grads, torch.stack(past), margin=self.config.gamma, ridge=RIDGE)
            self.weights.grads.copy_(gradient)
        self.optimizer.step()
        return {"loss": loss.detach()}

    def _gradient_of(self, task: int) -> Tensor:
        samples = self.memory.of(task)
        logits = self.net(self.setting.view(samples.raw, self.augment_rng))
        self.weights.backward(F.cross_entropy(logits, samples.labels))
        return self.weights.grads.clone()

    def end_task(self, task: Task) -> None:
        self.memory.add(pick(task, self.share, self.pick_rng))

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
