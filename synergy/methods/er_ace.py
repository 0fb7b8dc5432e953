"""Experience replay with an asymmetric cross-entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.types import Batch, Losses, Predictor


class ErAce(Method[ReplayConfig]):
    """Replay in which new classes compete among themselves only, and with old ones only in memory.

    Reference: Caccia et al. 2022, "New Insights on Reducing Abrupt Representation Change in Online Continual Learning",
    ICLR.

    Update rule: one SGD step on

        CE over the classes in y (f(x), y) + CE(f(x_m), y_m);

    then the raw x enters a reservoir. x and x_m go through the network in one pass, as in ER.

    Deviations from the published code: there classes that have not been seen yet stay in the first term; by the paper's
    rule only those present in the batch are in it. There the first task is plain fine-tuning, for which a method must
    know where a task ends; here the rule holds from the first step on. There stream and memory have passes of their
    own; here they share one, which with BatchNorm is not the same. From the paper: the second term is over all outputs,
    also those of classes that have not been seen.
    """

    Config = ReplayConfig
    outputs_of = "working"

    def __init__(self, config: ReplayConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")

    def observe(self, batch: Batch) -> Losses:
        losses = self._losses(batch)
        self.weights.backward(losses["loss"])
        self.optimizer.step()
        self.memory.offer(Samples(batch.raw, batch.labels))
        return {name: term.detach() for name, term in losses.items()}

    def _losses(self, batch: Batch) -> Losses:
        if not len(self.memory):
            logits = self.net(batch.inputs)
            self.setting.on_outputs(batch, logits)
            return {"loss": present_cross_entropy(logits, batch.labels)}
        replay = self.memory.draw(self.config.minibatch_size)
        logits = self.net(torch.cat([batch.inputs, self.setting.view(replay.raw, self.augment_rng)]))
        self.setting.on_outputs(batch, logits)
        ce = present_cross_entropy(logits[: len(batch)], batch.labels)
        replay_ce = F.cross_entropy(logits[len(batch) :], replay.labels)
        return {"loss": ce + replay_ce, "ce": ce, "replay_ce": replay_ce}

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}


def present_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of `[B, K]` and `int64 [B]` among the classes that occur in `labels`."""
    absent = torch.ones(logits.shape[1], dtype=torch.bool, device=labels.device).index_fill_(0, labels, False)
    return F.cross_entropy(logits.masked_fill(absent, -torch.inf), labels)
