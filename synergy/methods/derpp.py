"""Dark experience replay with labels as well."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Losses, Predictor


@dataclass(frozen=True)
class DerppConfig(ReplayConfig):
    """Options of DER++."""

    alpha: float = option(0.5, "weight of the squared distance to the stored logits on replay", low=0)
    beta: float = option(1.0, "weight of the cross-entropy on a second draw from memory", low=0)


class DERpp(Method[DerppConfig]):
    """Replay past samples with the logits the network gave them, and others with their labels.

    Reference: Buzzega et al. 2020, "Dark Experience for General Continual Learning: a Strong, Simple Baseline",
    NeurIPS.

    Update rule: (x_m, z_m) and (x'_m, y'_m) are two independent draws. One SGD step on

        CE(f(x), y) + alpha * mean((f(x_m) - z_m)^2) + beta * CE(f(x'_m), y'_m);

    then the raw x enters a reservoir with y and z = f(x), the logits of the pass that was trained on. x, x_m and x'_m
    go through the network in passes of their own.

    Deviations: none.
    """

    Config = DerppConfig
    any_objective = True
    outputs_of = "working"
    stored_outputs = ("logits",)

    def __init__(self, config: DerppConfig, setting: Setting) -> None:
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
            replayed, first = self._replay()
            distance = F.mse_loss(replayed, first.extras["logits"])
            replayed, second = self._replay()
            replay_ce = self.setting.objective.loss(replayed, second.labels)
            total = ce + self.config.alpha * distance + self.config.beta * replay_ce
            losses = {"loss": total, "ce": ce, "logits": distance, "replay_ce": replay_ce}
        self.weights.backward(losses["loss"])
        self.optimizer.step()
        self.memory.offer(Samples(batch.raw, batch.labels, {"logits": logits.detach()}))
        return {name: term.detach() for name, term in losses.items()}

    def _replay(self) -> tuple[Tensor, Samples]:
        """The network's logits of a fresh draw, and the draw."""
        replay = self.memory.draw(self.config.minibatch_size)
        return self.net(self.setting.view(replay.raw, self.augment_rng)), replay

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
