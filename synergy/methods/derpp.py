"""Dark experience replay with labels as well."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Predictor, Step


@dataclass(frozen=True)
class DerppConfig(ReplayConfig):
    """Options of DER++."""

    minibatch_size: int = option(32, "samples of each of the two draws from memory at each step", low=1)
    alpha: float = option(0.5, "weight of the squared distance to the stored logits on replay", low=0)
    beta: float = option(1.0, "weight of the cross-entropy on a second draw from memory", low=0)


@dataclass(frozen=True)
class DerppStep:
    """The decisions of a step: two draws from memory (None while it is empty), and the places of the stream batch."""

    first: Draw | None
    second: Draw | None
    places: Tensor


class DERpp(Method[DerppConfig]):
    """Replay past samples with the logits the network gave them, and others with their labels.

    Reference: Buzzega et al. 2020, "Dark Experience for General Continual Learning: a Strong, Simple Baseline",
    NeurIPS.

    Update rule, with memory M; every term has a pass of its own:

    1. CE(f(x), y) on the stream batch.
    2. alpha * mean((f(x_m) - z_m)^2) on an augmented draw (x_m, z_m) from M.
    3. beta * CE(f(x'_m), y'_m) on a second, independent draw.
    4. One SGD step on the sum.
    5. The raw x is offered to M, a reservoir, with y and z = f(x), the logits of step 1.

    Deviations: none.

    Examples:
        >>> from synergy import testing
        >>> testing.trained("derpp", "seq-digits", buffer_size=50).memory.all().extras["logits"].shape
        torch.Size([50, 10])
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

    def decide(self, n: int) -> DerppStep:
        first, second = (
            self.memory.decide(self.config.minibatch_size, self.setting.view, self.augment_rng) for _ in range(2)
        )
        return DerppStep(first, second, self.memory.place(n))

    def compute(self, batch: Batch, now: DerppStep) -> Step:
        # 1. Cross-entropy on the stream batch.
        logits = self.net(batch.inputs)
        ce = self.setting.objective.loss(logits, batch.labels)
        losses = {"loss": ce}
        if now.first is not None and now.second is not None:
            # 2. Distance to the stored logits on the first draw.
            first = self.memory.recall(now.first, self.setting.view)
            distance = F.mse_loss(self.net(first.inputs), first.extras["logits"])
            # 3. Cross-entropy on the second draw.
            second = self.memory.recall(now.second, self.setting.view)
            replay_ce = self.setting.objective.loss(self.net(second.inputs), second.labels)
            total = ce + self.config.alpha * distance + self.config.beta * replay_ce
            losses = {"loss": total, "ce": ce, "logits": distance, "replay_ce": replay_ce}
        # 4. One SGD step on the sum.
        self.weights.backward(losses["loss"])
        self.optimizer.step()
        # 5. The raw stream batch enters memory with its logits.
        self.memory.put(now.places, Samples(batch.raw, batch.labels, {"logits": logits.detach()}))
        return Step({name: term.detach() for name, term in losses.items()}, logits.detach())

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
