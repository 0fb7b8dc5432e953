"""Experience replay with distillation from the network of the previous step."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting, has_batch_norm
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Losses, Predictor


@dataclass(frozen=True)
class KderConfig(ReplayConfig):
    """Options of KD-ER."""

    reg_weight: float = option(0.1, "weight of the consistency with the previous step's network on replay", low=0)


class KDER(Method[KderConfig]):
    """Replay, held near the answers that the network gave one step before.

    Reference: Arani, Sarfraz & Zonooz 2022, "Learning Fast, Learning Slow: A General Continual Learning Method based on
    Complementary Learning System", ICLR; a baseline in its published code.

    Update rule: f_prev is the network as it was before the last update. One SGD step on

        CE(f([x; x_m]), [y; y_m]) + reg_weight * mean((f(x_m) - f_prev(x_m))^2);

    then f_prev takes the parameters that f had before this step, and the raw x enters a reservoir.

    Deviations: f(x_m) in the second term comes from its own forward pass only where BatchNorm makes it differ from that
    of the joint pass; elsewhere one pass serves both terms, with the same result. Only parameters are handed to f_prev:
    the running statistics of a BatchNorm play no part in training mode.
    """

    Config = KderConfig
    any_objective = True
    outputs_of = "working"

    def __init__(self, config: KderConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.previous = deepcopy(self.net)
        self.weights, self.previous_weights = Flat(self.net), Flat(self.previous, with_grads=False)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.own_pass = has_batch_norm(self.net)

    def observe(self, batch: Batch) -> Losses:
        losses = self._losses(batch)
        self.weights.backward(losses["loss"])
        self.previous_weights.values.copy_(self.weights.values)
        self.optimizer.step()
        self.memory.offer(Samples(batch.raw, batch.labels))
        return {name: term.detach() for name, term in losses.items()}

    def _losses(self, batch: Batch) -> Losses:
        if not len(self.memory):
            logits = self.net(batch.inputs)
            self.setting.on_outputs(batch, logits)
            return {"loss": self.setting.objective.loss(logits, batch.labels)}
        replay = self.memory.draw(self.config.minibatch_size)
        inputs = self.setting.view(replay.raw, self.augment_rng)
        with torch.no_grad():
            target = self.previous(inputs)
        logits = self.net(torch.cat([batch.inputs, inputs]))
        self.setting.on_outputs(batch, logits)
        replayed = self.net(inputs) if self.own_pass else logits[len(batch) :]
        ce = self.setting.objective.loss(logits, torch.cat([batch.labels, replay.labels]))
        consistency = F.mse_loss(replayed, target)
        return {"loss": ce + self.config.reg_weight * consistency, "ce": ce, "consistency": consistency}

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
