"""Meta-experience replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Losses, Predictor


@dataclass(frozen=True)
class MerConfig(ReplayConfig):
    """Options of MER."""

    beta: float = option(1.0, "part of the way that is kept of every step", low=0, high=1)
    gamma: float = option(1.0, "part of the way that is kept of all steps on a sample", low=0, high=1)
    batch_num: int = option(1, "SGD steps on every sample, each with a fresh draw", low=1)


class MER(Method[MerConfig]):
    """Take steps on replay and the current sample, then go only part of the way (Reptile), so that gradients align.

    Reference: Riemer et al. 2019, "Learning to Learn without Forgetting by Maximizing Transfer and Minimizing
    Interference", ICLR.

    Update rule for one sample (x, y), weights theta_A at first: `batch_num` times

        draw (x_m, y_m); from theta_W one SGD step on CE(f([x_m; x]), [y_m; y]) leads to theta;
        theta <- theta_W + beta (theta - theta_W);

    at the end theta <- theta_A + gamma (theta - theta_A), and the raw x enters a reservoir.

    Deviations: in the paper's main algorithm each sample of a draw has a step of its own, the current one last; here,
    as in the published code of the baselines, one step takes the whole draw.
    """

    Config = MerConfig
    only_batch_size: ClassVar[int | None] = 1
    any_objective = True
    outputs_of = "working"

    def __init__(self, config: MerConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")

    def observe(self, batch: Batch) -> Losses:
        assert len(batch) == 1, f"MER learns from one sample at a time, given {len(batch)}"
        began = self.weights.values.clone()
        losses = [self._step(batch, number) for number in range(self.config.batch_num)]
        self._go_back_towards(began, self.config.gamma)
        self.memory.offer(Samples(batch.raw, batch.labels))
        return losses[-1]

    def _step(self, batch: Batch, number: int) -> Losses:
        inputs, labels = batch.inputs, batch.labels
        if len(self.memory):
            replay = self.memory.draw(self.config.minibatch_size)
            inputs = torch.cat([self.setting.view(replay.raw, self.augment_rng), inputs])
            labels = torch.cat([replay.labels, labels])
        began = self.weights.values.clone()
        outputs = self.net(inputs)
        if number == 0:
            self.setting.on_outputs(batch, outputs[-1:])
        loss = self.setting.objective.loss(outputs, labels)
        self.weights.backward(loss)
        self.optimizer.step()
        self._go_back_towards(began, self.config.beta)
        return {"loss": loss.detach()}

    def _go_back_towards(self, began: Tensor, kept: float) -> None:
        """theta <- began + kept (theta - began)."""
        self.weights.values.lerp_(began, 1 - kept)

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
