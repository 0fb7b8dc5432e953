"""Experience replay with distillation from the network of the previous step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting, has_batch_norm
from synergy.methods.steps import ReplayStep
from synergy.ops.vectors import Flat, twin
from synergy.options import option
from synergy.types import Batch, Losses, Predictor, Step


@dataclass(frozen=True)
class KderConfig(ReplayConfig):
    """Options of KD-ER."""

    reg_weight: float = option(0.1, "weight of the consistency with the previous step's network on replay", low=0)


class KDER(Method[KderConfig]):
    """Replay, held near the answers that the network gave one step before.

    Reference: Arani, Sarfraz & Zonooz 2022, "Learning Fast, Learning Slow: A General Continual Learning Method based on
    Complementary Learning System", ICLR; a baseline in its published code.

    Update rule, with memory M; f_prev is the network as it was before the last update:

    1. Draw (x_m, y_m) from M, augmented; nothing while M is empty.
    2. One SGD step on CE(f([x; x_m]), [y; y_m]) + reg_weight * mean((f(x_m) - f_prev(x_m))^2).
    3. f_prev takes the parameters that f had before this step.
    4. The raw x is offered to M, a reservoir.

    Deviations: with BatchNorm, f(x_m) in the second term comes from a pass of its own. Without it one pass serves both
    terms, with the same result. f_prev takes parameters alone: the running statistics of a BatchNorm play no part in
    training mode.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("kder", "seq-digits", buffer_size=50).predictors())
        ['working']
    """

    Config = KderConfig
    any_objective = True
    outputs_of = "working"

    def __init__(self, config: KderConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.previous = twin(self.net)
        self.weights, self.previous_weights = Flat(self.net), Flat(self.previous, with_grads=False)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.own_pass = has_batch_norm(self.net)

    def decide(self, n: int) -> ReplayStep:
        replay = self.memory.decide(self.config.minibatch_size, self.setting.view, self.augment_rng)
        return ReplayStep(replay, self.memory.place(n))

    def compute(self, batch: Batch, now: ReplayStep) -> Step:
        # 1. and 2. Recall the draw; the loss on stream and replay.
        losses, logits = self._losses(batch, now.replay)
        self.weights.backward(losses["loss"])
        # 3. The previous network takes the parameters from before the step.
        self.previous_weights.values.copy_(self.weights.values)
        self.optimizer.step()
        # 4. The raw stream batch enters memory.
        self.memory.put(now.places, Samples(batch.raw, batch.labels))
        return Step({name: term.detach() for name, term in losses.items()}, logits.detach())

    def _losses(self, batch: Batch, draw: Draw | None) -> tuple[Losses, Tensor]:
        """The terms of the loss, and the logits of the joint pass."""
        if draw is None:
            logits = self.net(batch.inputs)
            return {"loss": self.setting.objective.loss(logits, batch.labels)}, logits
        replay = self.memory.recall(draw, self.setting.view)
        with torch.no_grad():
            target = self.previous(replay.inputs)
        logits = self.net(torch.cat([batch.inputs, replay.inputs]))
        replayed = self.net(replay.inputs) if self.own_pass else logits[len(batch) :]
        ce = self.setting.objective.loss(logits, torch.cat([batch.labels, replay.labels]))
        consistency = F.mse_loss(replayed, target)
        return {"loss": ce + self.config.reg_weight * consistency, "ce": ce, "consistency": consistency}, logits

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
