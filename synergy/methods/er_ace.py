"""Experience replay with an asymmetric cross-entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.methods.steps import ReplayStep
from synergy.ops.vectors import Flat
from synergy.types import Batch, Losses, Predictor, Step


class ErAce(Method[ReplayConfig]):
    """Replay in which new classes compete among themselves only, and with old ones only in memory.

    Reference: Caccia et al. 2022, "New Insights on Reducing Abrupt Representation Change in Online Continual Learning",
    ICLR.

    Update rule, with memory M:

    1. Draw (x_m, y_m) from M, augmented; nothing while M is empty.
    2. One SGD step on CE(f(x), y) over the classes that occur in y, plus CE(f(x_m), y_m) over all classes. x and x_m go
       through the network in one pass, as in ER.
    3. The raw x is offered to M, a reservoir.

    Deviations from the published code: there, classes that have not been seen yet stay in the first term; by the
    paper's rule it has only the classes of the batch. There, the highest class is never masked. There, the first task
    is plain fine-tuning, so that the method must know where a task ends; here the rule holds from the first step on.
    There, stream and memory have passes of their own; here they share one, which differs with BatchNorm. Deviation from
    the paper: the second term is over all outputs, also those of classes that have not been seen.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("er_ace", "seq-digits", buffer_size=50).predictors())
        ['working']
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

    def decide(self, n: int) -> ReplayStep:
        replay = self.memory.decide(self.config.minibatch_size, self.setting.view, self.augment_rng)
        return ReplayStep(replay, self.memory.place(n))

    def compute(self, batch: Batch, now: ReplayStep) -> Step:
        # 1. and 2. Recall the draw; the loss on stream and replay.
        losses, logits = self._losses(batch, now.replay)
        self.weights.backward(losses["loss"])
        self.optimizer.step()
        # 3. The raw stream batch enters memory.
        self.memory.put(now.places, Samples(batch.raw, batch.labels))
        return Step({name: term.detach() for name, term in losses.items()}, logits.detach())

    def _losses(self, batch: Batch, draw: Draw | None) -> tuple[Losses, Tensor]:
        """The terms of the loss, and the logits of the joint pass."""
        if draw is None:
            logits = self.net(batch.inputs)
            return {"loss": present_cross_entropy(logits, batch.labels)}, logits
        replay = self.memory.recall(draw, self.setting.view)
        logits = self.net(torch.cat([batch.inputs, replay.inputs]))
        ce = present_cross_entropy(logits[: len(batch)], batch.labels)
        replay_ce = F.cross_entropy(logits[len(batch) :], replay.labels)
        return {"loss": ce + replay_ce, "ce": ce, "replay_ce": replay_ce}, logits

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}


def present_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of `[B, K]` and `int64 [B]` among the classes that occur in `labels`."""
    absent = torch.ones(logits.shape[1], dtype=torch.bool, device=labels.device).index_fill_(0, labels, False)
    return F.cross_entropy(logits.masked_fill(absent, -torch.inf), labels)
