"""SYNERgy: dual-memory replay joined with synaptic consolidation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting, has_batch_norm
from synergy.methods.steps import average_weight, coin, short_average
from synergy.ops.averaging import average_, new_weight, warm_decay
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.vectors import Flat, PerParameter, twin
from synergy.options import option
from synergy.types import Batch, Losses, Predictor, Step, ViewDraws


@dataclass(frozen=True)
class SynergyConfig(ReplayConfig):
    """Options of SYNERgy."""

    reg_weight: float = option(0.2, "weight of the consistency with the semantic network on replay", low=0)
    penalty_weight: float = option(1.0, "weight of the Fisher-weighted distance to the semantic network", low=0)
    ema_update_freq: float = option(0.4, "probability per step of updating the semantic network", low=0, high=1)
    ema_alpha: float = option(0.999, "decay of the semantic network's average", low=0, high=1)
    ema_warmup: float = option(
        30.0,
        "c of the warm-up: at step t an average looks back over at most t/c steps; 1 as published",
        low=1,
        formerly=1.0,
    )
    fisher_update_freq: float = option(0.01, "probability per step of a Fisher pass over memory", low=0, high=1)
    fisher_alpha: float = option(0.999, "decay of the Fisher information's average", low=0, high=1)


@dataclass(frozen=True)
class FisherPass:
    """A decided Fisher pass.

    Attributes:
        n: samples in memory.
        view: the random part of their view.
        weight: of the new estimate in the average.
    """

    n: int
    view: ViewDraws
    weight: Tensor


@dataclass(frozen=True)
class SynergyStep:
    """The decisions of a step.

    Attributes:
        replay: the draw from memory; None while memory is empty.
        places: where the stream batch goes in memory, `int64 [B]`.
        is_anchored: whether there is a Fisher estimate yet.
        average: weight of the working network in the semantic one; None if that stays.
        fisher: the Fisher pass; None without one.
    """

    replay: Draw | None
    places: Tensor
    is_anchored: bool
    average: Tensor | None
    fisher: FisherPass | None


class Synergy(Method[SynergyConfig]):
    """An episodic memory, a semantic memory (an averaged network), and an anchor to it on the weights that matter.

    Reference: Sarfraz, Arani & Zonooz 2022, "SYNERgy between SYNaptic consolidation and Experience Replay for general
    continual learning", CoLLAs.

    Update rule, step t from 1, working network theta, semantic network phi (at first a copy of theta), memory M:

    1. Draw (x_m, y_m) from M, augmented; nothing while M is empty.
    2. One SGD step on CE(f_theta([x; x_m]), [y; y_m])
       + reg_weight * mean((f_theta(x_m) - f_phi(x_m))^2)
       + penalty_weight * sum_i F_i (theta_i - phi_i)^2, zero until there is an F.
    3. The raw x is offered to M, a reservoir.
    4. With probability ema_update_freq: phi <- a phi + (1 - a) theta, a = min(1 - c/(t + c), ema_alpha), c =
       ema_warmup.
    5. With probability fisher_update_freq: F_new = mean over M (augmented) of p_n (grad log p_phi(y_n | x_n))^2, with
       p_n = p_phi(y_n | x_n); the first one is F, later F <- b F + (1 - b) F_new, b = min(1 - 1/(t + 1), fisher_alpha).
       For a convolution every weight of a filter has the mean of F over that filter.

    The semantic network answers. With BatchNorm, phi sees the replay batch in training mode, so that its running
    statistics follow memory, and f_theta(x_m) in the second term comes from a pass of its own.

    Deviations: the published rule is c = 1, and every preset has it. Its phi is a mean over the whole of a short run,
    the random start included; by default c is larger here, so that phi follows the stream. Further deviations from the
    published code, all of them defects there: its early Fisher passes counted unfilled slots of the memory as blank
    images of class 0; those passes overwrote phi's running statistics; its stream depended on how much randomness
    training had consumed. Its Fisher takes one sample at a time; this one is batched and just as exact. The average of
    filter means is kept, not the filter means of the average; both are the same.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("synergy", "seq-digits", buffer_size=50).predictors())
        ['semantic', 'working']
    """

    Config = SynergyConfig
    any_objective = True
    outputs_of = "working"

    def __init__(self, config: SynergyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.semantic = twin(self.net)
        self.theta, self.phi = Flat(self.net), Flat(self.semantic, with_grads=False)
        self.optimizer = setting.optimizer(self.theta, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.fisher_augment_rng = setting.rng("fisher/augment")
        self.coins = setting.rng("coins")
        self.own_pass = has_batch_norm(self.net)
        self.fisher = PerParameter(self.phi)
        self.steps = 0

    def decide(self, n: int) -> SynergyStep:
        self.steps += 1
        config, t = self.config, self.steps
        replay = self.memory.decide(config.minibatch_size, self.setting.view, self.augment_rng)
        places = self.memory.place(n)
        is_anchored = self.fisher.is_set
        average = average_weight(self.coins, config.ema_update_freq, t, config.ema_alpha, config.ema_warmup)
        fisher = self._decide_fisher() if coin(self.coins, config.fisher_update_freq) and len(self.memory) else None
        return SynergyStep(replay, places, is_anchored, average, fisher)

    def _decide_fisher(self) -> FisherPass:
        n = len(self.memory)
        view = self.setting.view.decide(n, self.fisher_augment_rng)
        decay = warm_decay(self.steps, self.config.fisher_alpha) if self.fisher.is_set else 0.0
        self.fisher.is_set = True
        return FisherPass(n, view, new_weight(decay))

    def compute(self, batch: Batch, now: SynergyStep) -> Step:
        # 1. and 2. Recall the draw; one SGD step on the three terms.
        losses, logits = self._losses(batch, now.replay)
        self.theta.backward(losses["loss"])
        if now.is_anchored:
            self._anchor(losses)
        self.optimizer.step()
        # 3. The raw stream batch enters memory.
        self.memory.put(now.places, Samples(batch.raw, batch.labels))
        # 4. The semantic network follows.
        if now.average is not None:
            average_(self.phi.values, self.theta.values, now.average)
        # 5. The importance of its parameters follows.
        if now.fisher is not None:
            self._update_fisher(now.fisher)
        return Step({name: term.detach() for name, term in losses.items()}, logits.detach())

    def _losses(self, batch: Batch, draw: Draw | None) -> tuple[Losses, Tensor]:
        """The terms of the loss that need a backward pass, and the logits of the joint pass."""
        if draw is None:
            logits = self.net(batch.inputs)
            return {"loss": self.setting.objective.loss(logits, batch.labels)}, logits
        replay = self.memory.recall(draw, self.setting.view)
        with torch.no_grad():
            target = self.semantic(replay.inputs)
        # The replay pass comes first: the joint batch has the last word on running statistics.
        own = self.net(replay.inputs) if self.own_pass else None
        logits = self.net(torch.cat([batch.inputs, replay.inputs]))
        replayed = logits[len(batch) :] if own is None else own
        ce = self.setting.objective.loss(logits, torch.cat([batch.labels, replay.labels]))
        consistency = F.mse_loss(replayed, target)
        return {"loss": ce + self.config.reg_weight * consistency, "ce": ce, "consistency": consistency}, logits

    @torch.no_grad()
    def _anchor(self, losses: Losses) -> None:
        """Add the penalty and its gradient, `2 * penalty_weight * F (theta - phi)`, which needs no backward pass."""
        drift = self.theta.values - self.phi.values
        pull = self.fisher.values * drift
        self.theta.grads.add_(pull, alpha=2 * self.config.penalty_weight)
        losses["penalty"] = pull @ drift
        losses["loss"] = losses["loss"] + self.config.penalty_weight * losses["penalty"]

    def _update_fisher(self, now: FisherPass) -> None:
        stored = self.memory.store.first(now.n)
        new = fisher_diagonal(
            self.semantic,
            self.setting.view(stored.raw, now.view),
            stored.labels,
            filter_means=True,
            log_likelihood=self.setting.objective.log_likelihood,
            memory_mb=self.setting.fisher_memory_mb,
        )
        vector = self.phi.gather(new, out=torch.empty_like(self.phi.values))
        average_(self.fisher.values, vector, now.weight)

    def counted_steps(self) -> int:
        return self.steps

    def remarks(self) -> list[str]:
        config = self.config
        return short_average("semantic", self.steps, config.ema_update_freq, config.ema_alpha, config.ema_warmup)

    def predictors(self) -> dict[str, Predictor]:
        return {"semantic": Answer(self.semantic), "working": Answer(self.net)}
