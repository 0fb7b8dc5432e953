"""CLS-ER: replay with two averaged networks, one quick and one slow."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting, coin, has_batch_norm
from synergy.ops.averaging import average_, warm_decay
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Losses, Predictor


@dataclass(frozen=True)
class ClserConfig(ReplayConfig):
    """Options of CLS-ER."""

    reg_weight: float = option(0.1, "weight of the consistency with the averaged networks on replay", low=0)
    plastic_model_update_freq: float = option(0.9, "probability per step of updating the plastic one", low=0, high=1)
    plastic_model_alpha: float = option(0.999, "decay of the plastic network's average", low=0, high=1)
    stable_model_update_freq: float = option(0.7, "probability per step of updating the stable one", low=0, high=1)
    stable_model_alpha: float = option(0.999, "decay of the stable network's average", low=0, high=1)


class CLSER(Method[ClserConfig]):
    """Replay guided by a plastic and a stable average of the working network.

    Reference: Arani, Sarfraz & Zonooz 2022, "Learning Fast, Learning Slow: A General Continual Learning Method based on
    Complementary Learning System", ICLR.

    Update rule, step t from 1: the target z of a replayed sample is the logits of whichever average gives its true
    class the higher probability (ties: plastic). One SGD step on

        CE(f([x; x_m]), [y; y_m]) + reg_weight * mean((f(x_m) - z)^2).

    The raw x enters a reservoir. Then the plastic and the stable network, in this order and each with its own
    probability, take `phi <- a phi + (1 - a) theta` with `a = min(1 - 1/(t + 1), alpha)`. The stable network answers.

    Deviations: f(x_m) in the second term comes from its own forward pass only where BatchNorm makes it differ from that
    of the joint pass; elsewhere one pass serves both terms, with the same result.
    """

    Config = ClserConfig
    outputs_of = "working"

    def __init__(self, config: ClserConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.plastic, self.stable = deepcopy(self.net), deepcopy(self.net)
        self.weights = Flat(self.net)
        self.plastic_weights = Flat(self.plastic, with_grads=False)
        self.stable_weights = Flat(self.stable, with_grads=False)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.coins = setting.rng("coins")
        self.own_pass = has_batch_norm(self.net)
        self.steps = 0

    def observe(self, batch: Batch) -> Losses:
        self.steps += 1
        losses = self._losses(batch)
        self.weights.backward(losses["loss"])
        self.optimizer.step()
        self.memory.offer(Samples(batch.raw, batch.labels))
        config = self.config
        for weights, probability, alpha in (
            (self.plastic_weights, config.plastic_model_update_freq, config.plastic_model_alpha),
            (self.stable_weights, config.stable_model_update_freq, config.stable_model_alpha),
        ):
            if coin(self.coins, probability):
                average_(weights.values, self.weights.values, warm_decay(self.steps, alpha))
        return {name: term.detach() for name, term in losses.items()}

    def _losses(self, batch: Batch) -> Losses:
        if not len(self.memory):
            logits = self.net(batch.inputs)
            self.setting.on_outputs(batch, logits)
            return {"loss": F.cross_entropy(logits, batch.labels)}
        replay = self.memory.draw(self.config.minibatch_size)
        inputs = self.setting.view(replay.raw, self.augment_rng)
        target = self._target(inputs, replay.labels)
        # The replay pass comes first: the joint batch has the last word on running statistics.
        own = self.net(inputs) if self.own_pass else None
        logits = self.net(torch.cat([batch.inputs, inputs]))
        self.setting.on_outputs(batch, logits)
        replayed = logits[len(batch) :] if own is None else own
        ce = F.cross_entropy(logits, torch.cat([batch.labels, replay.labels]))
        consistency = F.mse_loss(replayed, target)
        return {"loss": ce + self.config.reg_weight * consistency, "ce": ce, "consistency": consistency}

    @torch.no_grad()
    def _target(self, inputs: Tensor, labels: Tensor) -> Tensor:
        plastic, stable = self.plastic(inputs), self.stable(inputs)
        true = labels[:, None]
        of_plastic, of_stable = plastic.softmax(1).gather(1, true), stable.softmax(1).gather(1, true)
        return torch.where(of_plastic >= of_stable, plastic, stable)

    def predictors(self) -> dict[str, Predictor]:
        return {"stable": Answer(self.stable), "plastic": Answer(self.plastic), "working": Answer(self.net)}
