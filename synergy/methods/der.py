"""Dark experience replay."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Losses, Predictor


@dataclass(frozen=True)
class DerConfig(ReplayConfig):
    """Options of DER."""

    alpha: float = option(0.5, "weight of the squared distance to the stored logits on replay", low=0)


class DER(Method[DerConfig]):
    """Replay past samples with the logits the network gave them, and ask for these instead of the labels.

    Reference: Buzzega et al. 2020, "Dark Experience for General Continual Learning: a Strong, Simple Baseline",
    NeurIPS.

    Update rule: one SGD step on

        CE(f(x), y) + alpha * mean((f(x_m) - z_m)^2);

    then the raw x enters a reservoir with z = f(x), the logits of the pass that was trained on. x and x_m go through
    the network in passes of their own.

    Deviations: none.
    """

    Config = DerConfig
    any_objective = True
    outputs_of = "working"
    stored_outputs = ("logits",)

    def __init__(self, config: DerConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")

    def observe(self, batch: Batch) -> Losses:
        logits = self.net(batch.inputs)
        self.setting.on_outputs(batch, logits)
        ce = self.setting.objective.loss(logits, batch.labels)
        losses = {"loss": ce}
        if len(self.memory):
            replay = self.memory.draw(self.config.minibatch_size)
            replayed = self.net(self.setting.view(replay.raw, self.augment_rng))
            distance = F.mse_loss(replayed, replay.extras["logits"])
            losses = {"loss": ce + self.config.alpha * distance, "ce": ce, "logits": distance}
        self.weights.backward(losses["loss"])
        self.optimizer.step()
        self.memory.offer(Samples(batch.raw, batch.labels, {"logits": logits.detach()}))
        return {name: term.detach() for name, term in losses.items()}

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
