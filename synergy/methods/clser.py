"""CLS-ER: replay with two averaged networks, one quick and one slow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting, has_batch_norm
from synergy.methods.steps import average_weight, short_average
from synergy.ops.averaging import average_
from synergy.ops.vectors import Flat, twin
from synergy.options import option
from synergy.types import Batch, Losses, Predictor, Step


@dataclass(frozen=True)
class ClserConfig(ReplayConfig):
    """Options of CLS-ER."""

    reg_weight: float = option(0.1, "weight of the consistency with the averaged networks on replay", low=0)
    plastic_model_update_freq: float = option(0.9, "probability per step of updating the plastic one", low=0, high=1)
    plastic_model_alpha: float = option(0.999, "decay of the plastic network's average", low=0, high=1)
    stable_model_update_freq: float = option(0.7, "probability per step of updating the stable one", low=0, high=1)
    stable_model_alpha: float = option(0.999, "decay of the stable network's average", low=0, high=1)
    ema_warmup: float = option(
        30.0,
        "c of the warm-up: at step t an average looks back over at most t/c steps; 1 as published",
        low=1,
        formerly=1.0,
    )


@dataclass(frozen=True)
class ClserStep:
    """The decisions of a step.

    Attributes:
        replay: the draw from memory; None while memory is empty.
        places: where the stream batch goes in memory, `int64 [B]`.
        plastic, stable: weight of the working network in each average; None if that one stays.
    """

    replay: Draw | None
    places: Tensor
    plastic: Tensor | None
    stable: Tensor | None


class CLSER(Method[ClserConfig]):
    """Replay guided by a plastic and a stable average of the working network.

    Reference: Arani, Sarfraz & Zonooz 2022, "Learning Fast, Learning Slow: A General Continual Learning Method based on
    Complementary Learning System", ICLR.

    Update rule, step t from 1, with memory M:

    1. Draw (x_m, y_m) from M, augmented; nothing while M is empty.
    2. The target z of a replayed sample is the logits of the average that gives its true class the higher probability
       (ties: plastic).
    3. One SGD step on CE(f([x; x_m]), [y; y_m]) + reg_weight * mean((f(x_m) - z)^2).
    4. The raw x is offered to M, a reservoir.
    5. The plastic and then the stable network, each with its own probability: phi <- a phi + (1 - a) theta,
       a = min(1 - c/(t + c), alpha), c = ema_warmup.

    The stable network answers.

    Deviations: the published rule is c = 1, and every preset has it; by default c is larger here, so that the averages
    follow a short stream. With BatchNorm, f(x_m) in the second term comes from a pass of its own. Without it one pass
    serves both terms, with the same result.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("clser", "seq-digits", buffer_size=50).predictors())
        ['stable', 'plastic', 'working']
    """

    Config = ClserConfig
    outputs_of = "working"

    def __init__(self, config: ClserConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.plastic, self.stable = twin(self.net), twin(self.net)
        self.weights = Flat(self.net)
        self.plastic_weights = Flat(self.plastic, with_grads=False)
        self.stable_weights = Flat(self.stable, with_grads=False)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.coins = setting.rng("coins")
        self.own_pass = has_batch_norm(self.net)
        self.steps = 0

    def decide(self, n: int) -> ClserStep:
        self.steps += 1
        config, rng, t, c = self.config, self.coins, self.steps, self.config.ema_warmup
        replay = self.memory.decide(config.minibatch_size, self.setting.view, self.augment_rng)
        plastic = average_weight(rng, config.plastic_model_update_freq, t, config.plastic_model_alpha, c)
        stable = average_weight(rng, config.stable_model_update_freq, t, config.stable_model_alpha, c)
        return ClserStep(replay, self.memory.place(n), plastic, stable)

    def compute(self, batch: Batch, now: ClserStep) -> Step:
        # 1. to 3. Recall the draw; the loss on stream and replay; one SGD step.
        losses, logits = self._losses(batch, now.replay)
        self.weights.backward(losses["loss"])
        self.optimizer.step()
        # 4. The raw stream batch enters memory.
        self.memory.put(now.places, Samples(batch.raw, batch.labels))
        # 5. The averaged networks follow, the plastic one first.
        if now.plastic is not None:
            average_(self.plastic_weights.values, self.weights.values, now.plastic)
        if now.stable is not None:
            average_(self.stable_weights.values, self.weights.values, now.stable)
        return Step({name: term.detach() for name, term in losses.items()}, logits.detach())

    def _losses(self, batch: Batch, draw: Draw | None) -> tuple[Losses, Tensor]:
        """The terms of the loss, and the logits of the joint pass."""
        if draw is None:
            logits = self.net(batch.inputs)
            return {"loss": F.cross_entropy(logits, batch.labels)}, logits
        replay = self.memory.recall(draw, self.setting.view)
        target = self._target(replay.inputs, replay.labels)
        # The replay pass comes first: the joint batch has the last word on running statistics.
        own = self.net(replay.inputs) if self.own_pass else None
        logits = self.net(torch.cat([batch.inputs, replay.inputs]))
        replayed = logits[len(batch) :] if own is None else own
        ce = F.cross_entropy(logits, torch.cat([batch.labels, replay.labels]))
        consistency = F.mse_loss(replayed, target)
        return {"loss": ce + self.config.reg_weight * consistency, "ce": ce, "consistency": consistency}, logits

    @torch.no_grad()
    def _target(self, inputs: Tensor, labels: Tensor) -> Tensor:
        plastic, stable = self.plastic(inputs), self.stable(inputs)
        true = labels[:, None]
        of_plastic, of_stable = plastic.softmax(1).gather(1, true), stable.softmax(1).gather(1, true)
        return torch.where(of_plastic >= of_stable, plastic, stable)

    def counted_steps(self) -> int:
        return self.steps

    def remarks(self) -> list[str]:
        config, probability = self.config, self.config.stable_model_update_freq
        return short_average("stable", self.steps, probability, config.stable_model_alpha, config.ema_warmup)

    def predictors(self) -> dict[str, Predictor]:
        return {"stable": Answer(self.stable), "plastic": Answer(self.plastic), "working": Answer(self.net)}
