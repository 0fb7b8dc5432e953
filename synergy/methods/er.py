"""Experience replay."""

from __future__ import annotations

import torch

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.types import Batch, Losses, Predictor


class ER(Method[ReplayConfig]):
    """Learn from the stream batch and a draw from memory in one pass.

    Reference: Rolnick et al. 2019, "Experience Replay for Continual Learning"; Chaudhry et al. 2019, "On Tiny Episodic
    Memories in Continual Learning".

    Update rule: one SGD step on CE(f([x; x_m]), [y; y_m]); then the raw x enters a reservoir.

    Deviations: none.
    """

    Config = ReplayConfig
    any_objective = True
    outputs_of = "working"

    def __init__(self, config: ReplayConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")

    def observe(self, batch: Batch) -> Losses:
        inputs, labels = batch.inputs, batch.labels
        if len(self.memory):
            replay = self.memory.draw(self.config.minibatch_size)
            inputs = torch.cat([inputs, self.setting.view(replay.raw, self.augment_rng)])
            labels = torch.cat([labels, replay.labels])
        outputs = self.net(inputs)
        self.setting.on_outputs(batch, outputs)
        loss = self.setting.objective.loss(outputs, labels)
        self.weights.backward(loss)
        self.optimizer.step()
        self.memory.offer(Samples(batch.raw, batch.labels))
        return {"loss": loss.detach()}

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
