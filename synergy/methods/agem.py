"""Averaged gradient episodic memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from synergy.memory.base import Draw
from synergy.memory.task_wise import TaskWise, equal_share, pick
from synergy.methods.base import Answer, Budget, BudgetedMethod, ReplayConfig, Setting
from synergy.ops.projection import onto_half_space
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Predictor, Step, Task


@dataclass(frozen=True)
class AGemConfig(ReplayConfig):
    """Options of A-GEM."""

    buffer_size: int = option(500, "samples the memory holds, an equal share for each task of the stream", low=1)
    minibatch_size: int = option(32, "samples drawn from memory at each step for the reference gradient", low=1)


class AGem(BudgetedMethod[AGemConfig]):
    """Take from the stream's gradient what would raise the mean loss on the samples of past tasks.

    Reference: Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", ICLR.

    Update rule, with memory M:

    1. g is the gradient of CE(f(x), y).
    2. r is the gradient of CE(f(x_m), y_m) on an augmented draw from M. If g.r < 0: g <- g - (g.r / r.r) r.
    3. One SGD step along g.
    4. At the end of a task, `buffer_size // n_tasks` random samples of it enter M.

    Deviations: none from the paper. The published code computes the share of a task and then stores a whole batch.

    Examples:
        >>> from synergy import testing
        >>> len(testing.trained("agem", "seq-digits", buffer_size=50).memory)
        50
    """

    Config = AGemConfig

    def __init__(self, config: AGemConfig, setting: Setting, budget: Budget) -> None:
        super().__init__(config, setting, budget)
        self.share = equal_share(config.buffer_size, budget.n_tasks)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = TaskWise(config.buffer_size, setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.pick_rng = setting.rng("pick")

    def decide(self, n: int) -> Draw | None:
        return self.memory.decide(self.config.minibatch_size, self.setting.view, self.augment_rng)

    def compute(self, batch: Batch, now: Draw | None) -> Step:
        # 1. The gradient of the stream batch.
        loss = F.cross_entropy(self.net(batch.inputs), batch.labels)
        self.weights.backward(loss)
        # 2. Project it by the gradient of the draw.
        if now is not None:
            self._project(now)
        # 3. One SGD step along it.
        self.optimizer.step()
        return Step({"loss": loss.detach()})

    def _project(self, draw: Draw) -> None:
        gradient = self.weights.grads.clone()
        replay = self.memory.recall(draw, self.setting.view)
        self.weights.backward(F.cross_entropy(self.net(replay.inputs), replay.labels))
        self.weights.grads.copy_(onto_half_space(gradient, self.weights.grads))

    def end_task(self, task: Task) -> None:
        # 4. A share of memory for the task.
        self.memory.add(pick(task, self.share, self.pick_rng))

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
