"""Averaged gradient episodic memory."""

from __future__ import annotations

import torch.nn.functional as F

from synergy.memory.task_wise import TaskWise, equal_share, pick
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.projection import onto_half_space
from synergy.ops.vectors import Flat
from synergy.types import Batch, Losses, Predictor, Task


class AGem(Method[ReplayConfig]):
    """Take from the stream's gradient what would raise the mean loss on the samples of past tasks.

    Reference: Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", ICLR.

    Update rule: g is the gradient of CE(f(x), y), r that of CE(f(x_m), y_m) on an augmented draw from all past tasks.
    If g.r < 0 then g <- g - (g.r / r.r) r. One SGD step along g. At the end of a task `buffer_size // n_tasks` random
    samples of it enter memory.

    Deviations: none from the paper. The published code works out the share of a task and then stores a whole batch.
    """

    Config = ReplayConfig
    needs_boundaries = True

    def __init__(self, config: ReplayConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.share = equal_share(config.buffer_size, setting.n_tasks)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = TaskWise(config.buffer_size, setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.pick_rng = setting.rng("pick")

    def observe(self, batch: Batch) -> Losses:
        loss = F.cross_entropy(self.net(batch.inputs), batch.labels)
        self.weights.backward(loss)
        if len(self.memory):
            self._project()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def _project(self) -> None:
        gradient = self.weights.grads.clone()
        replay = self.memory.draw(self.config.minibatch_size)
        replayed = self.net(self.setting.view(replay.raw, self.augment_rng))
        self.weights.backward(F.cross_entropy(replayed, replay.labels))
        self.weights.grads.copy_(onto_half_space(gradient, self.weights.grads))

    def end_task(self, task: Task) -> None:
        self.memory.add(pick(task, self.share, self.pick_rng))

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
