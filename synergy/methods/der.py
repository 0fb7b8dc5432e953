"""Dark experience replay."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.methods.steps import ReplayStep
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Predictor, Step


@dataclass(frozen=True)
class DerConfig(ReplayConfig):
    """Options of DER."""

    alpha: float = option(0.5, "weight of the squared distance to the stored logits on replay", low=0)


class DER(Method[DerConfig]):
    """Replay past samples with the logits the network gave them, and ask for these instead of the labels.

    Reference: Buzzega et al. 2020, "Dark Experience for General Continual Learning: a Strong, Simple Baseline",
    NeurIPS.

    Update rule, with memory M:

    1. CE(f(x), y) on the stream batch.
    2. alpha * mean((f(x_m) - z_m)^2) on an augmented draw (x_m, z_m) from M, in a pass of its own.
    3. One SGD step on the sum.
    4. The raw x is offered to M, a reservoir, with z = f(x), the logits of step 1.

    Deviations: none.

    Examples:
        >>> from synergy import testing
        >>> testing.trained("der", "seq-digits", buffer_size=50).memory.all().extras["logits"].shape
        torch.Size([50, 10])
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

    def decide(self, n: int) -> ReplayStep:
        replay = self.memory.decide(self.config.minibatch_size, self.setting.view, self.augment_rng)
        return ReplayStep(replay, self.memory.place(n))

    def compute(self, batch: Batch, now: ReplayStep) -> Step:
        # 1. Cross-entropy on the stream batch.
        logits = self.net(batch.inputs)
        ce = self.setting.objective.loss(logits, batch.labels)
        losses = {"loss": ce}
        # 2. Distance to the stored logits on the draw.
        if now.replay is not None:
            replay = self.memory.recall(now.replay, self.setting.view)
            distance = F.mse_loss(self.net(replay.inputs), replay.extras["logits"])
            losses = {"loss": ce + self.config.alpha * distance, "ce": ce, "logits": distance}
        # 3. One SGD step on both.
        self.weights.backward(losses["loss"])
        self.optimizer.step()
        # 4. The raw stream batch enters memory with its logits.
        self.memory.put(now.places, Samples(batch.raw, batch.labels, {"logits": logits.detach()}))
        return Step({name: term.detach() for name, term in losses.items()}, logits.detach())

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
