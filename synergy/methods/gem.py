"""Gradient episodic memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.task_wise import TaskWise, equal_share, pick
from synergy.methods.base import Answer, Budget, BudgetedMethod, MethodConfig, Setting
from synergy.ops.projection import onto_cone
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Predictor, Step, Task

RIDGE = 1e-3
"""Added to the diagonal of the quadratic program, so that equal gradients of two tasks do no harm."""


@dataclass(frozen=True)
class GemConfig(MethodConfig):
    """Options of GEM."""

    buffer_size: int = option(500, "samples the memory holds, an equal share for each task of the stream", low=1)
    gamma: float = option(0.5, "margin: the least weight of every past task's gradient in a projected one", low=0)


class Gem(BudgetedMethod[GemConfig]):
    """Bend the stream's gradient so that a step along it raises the loss of no past task.

    Reference: Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning", NeurIPS.

    Update rule, with memory M:

    1. Row k of G is the gradient of CE on all samples of past task k in M, augmented.
    2. g is the gradient of CE(f(x), y).
    3. If any element of G g is negative: g <- g + v G, where v minimises
       1/2 v^T (G G^T + 0.001 I) v + (G g)^T v subject to v >= gamma.
    4. One SGD step along g.
    5. At the end of a task, `buffer_size // n_tasks` random samples of it enter M.

    Deviations: the samples of a task are drawn when it ends, as in the published code; the paper keeps the last ones.
    The program is solved as non-negative least squares. If the solver does not converge, or a gradient is not finite, g
    stays as it is.

    Steps wait for the device: the quadratic program is solved on the host.

    Examples:
        >>> from synergy import testing
        >>> testing.trained("gem", "seq-digits", buffer_size=50).memory.sizes
        [10, 10, 10, 10, 10]
    """

    Config = GemConfig
    waits = "its quadratic program is solved on the host"

    def __init__(self, config: GemConfig, setting: Setting, budget: Budget) -> None:
        super().__init__(config, setting, budget)
        self.share = equal_share(config.buffer_size, budget.n_tasks)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = TaskWise(config.buffer_size, setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.pick_rng = setting.rng("pick")

    def decide(self, n: int) -> tuple[Draw, ...]:
        slots = [self.memory.slots_of(task) for task in range(len(self.memory.sizes))]
        return tuple(Draw(each, self.setting.view.decide(len(each), self.augment_rng)) for each in slots)

    def compute(self, batch: Batch, now: tuple[Draw, ...]) -> Step:
        # 1. The gradient of each past task.
        past = [self._gradient_of(draw) for draw in now]
        # 2. The gradient of the stream batch.
        loss = F.cross_entropy(self.net(batch.inputs), batch.labels)
        self.weights.backward(loss)
        # 3. Bend it.
        if past:
            gradient = onto_cone(self.weights.grads, torch.stack(past), margin=self.config.gamma, ridge=RIDGE)
            self.weights.grads.copy_(gradient)
        # 4. One SGD step along it.
        self.optimizer.step()
        return Step({"loss": loss.detach()})

    def _gradient_of(self, draw: Draw) -> Tensor:
        replay = self.memory.recall(draw, self.setting.view)
        self.weights.backward(F.cross_entropy(self.net(replay.inputs), replay.labels))
        return self.weights.grads.clone()

    def end_task(self, task: Task) -> None:
        # 5. A share of memory for the task.
        self.memory.add(pick(task, self.share, self.pick_rng))

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
