"""SYNERgy: dual-memory replay joined with synaptic consolidation."""

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
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Losses, Predictor


@dataclass(frozen=True)
class SynergyConfig(ReplayConfig):
    """Options of SYNERgy."""

    reg_weight: float = option(0.2, "weight of the consistency with the semantic network on replay", low=0)
    penalty_weight: float = option(1.0, "weight of the Fisher-weighted distance to the semantic network", low=0)
    ema_update_freq: float = option(0.4, "probability per step of updating the semantic network", low=0, high=1)
    ema_alpha: float = option(0.999, "decay of the semantic network's average", low=0, high=1)
    fisher_update_freq: float = option(0.01, "probability per step of a Fisher pass over memory", low=0, high=1)
    fisher_alpha: float = option(0.999, "decay of the Fisher information's average", low=0, high=1)


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
    4. With probability ema_update_freq: phi <- a phi + (1 - a) theta, a = min(1 - 1/(t + 1), ema_alpha).
    5. With probability fisher_update_freq: F_new = mean over M (augmented) of p_n (grad log p_phi(y_n | x_n))^2, with
       p_n = p_phi(y_n | x_n); the first one is F, later F <- b F + (1 - b) F_new, b = min(1 - 1/(t + 1), fisher_alpha).
       For a convolution every weight of a filter has the mean of F over that filter.

    The semantic network answers. With BatchNorm, phi sees the replay batch in training mode, so that its running
    statistics follow memory, and f_theta(x_m) in the second term comes from a pass of its own.

    Deviations from the published code, all of them defects there: its early Fisher passes counted unfilled slots of the
    memory as blank images of class 0; those passes overwrote phi's running statistics; its stream depended on how much
    randomness training had consumed. Its Fisher went over memory one sample at a time; this one is exact as well, but
    batched. The average of filter means is kept in place of the filter means of the average, which is the same.
    """

    Config = SynergyConfig
    any_objective = True
    outputs_of = "working"

    def __init__(self, config: SynergyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.semantic = deepcopy(self.net)
        self.theta, self.phi = Flat(self.net), Flat(self.semantic, with_grads=False)
        self.optimizer = setting.optimizer(self.theta, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.fisher_augment_rng = setting.rng("fisher/augment")
        self.coins = setting.rng("coins")
        self.own_pass = has_batch_norm(self.net)
        self.fisher: Tensor | None = None
        self.steps = 0

    def observe(self, batch: Batch) -> Losses:
        self.steps += 1
        losses = self._losses(batch)
        self.theta.backward(losses["loss"])
        if self.fisher is not None:
            self._anchor(self.fisher, losses)
        self.optimizer.step()
        self.memory.offer(Samples(batch.raw, batch.labels))
        if coin(self.coins, self.config.ema_update_freq):
            average_(self.phi.values, self.theta.values, warm_decay(self.steps, self.config.ema_alpha))
        if coin(self.coins, self.config.fisher_update_freq) and len(self.memory):
            self._update_fisher()
        return {name: term.detach() for name, term in losses.items()}

    def _losses(self, batch: Batch) -> Losses:
        if not len(self.memory):
            logits = self.net(batch.inputs)
            self.setting.on_outputs(batch, logits)
            return {"loss": self.setting.objective.loss(logits, batch.labels)}
        replay = self.memory.draw(self.config.minibatch_size)
        inputs = self.setting.view(replay.raw, self.augment_rng)
        with torch.no_grad():
            target = self.semantic(inputs)
        # The replay pass comes first: the joint batch has the last word on running statistics.
        own = self.net(inputs) if self.own_pass else None
        logits = self.net(torch.cat([batch.inputs, inputs]))
        self.setting.on_outputs(batch, logits)
        replayed = logits[len(batch) :] if own is None else own
        ce = self.setting.objective.loss(logits, torch.cat([batch.labels, replay.labels]))
        consistency = F.mse_loss(replayed, target)
        return {"loss": ce + self.config.reg_weight * consistency, "ce": ce, "consistency": consistency}

    @torch.no_grad()
    def _anchor(self, fisher: Tensor, losses: Losses) -> None:
        """Add the penalty and its gradient, `2 * penalty_weight * F (theta - phi)`, which needs no backward pass."""
        drift = self.theta.values - self.phi.values
        pull = fisher * drift
        self.theta.grads.add_(pull, alpha=2 * self.config.penalty_weight)
        losses["penalty"] = pull @ drift
        losses["loss"] = losses["loss"] + self.config.penalty_weight * losses["penalty"]

    def _update_fisher(self) -> None:
        memory = self.memory.all()
        inputs = self.setting.view(memory.raw, self.fisher_augment_rng)
        new = fisher_diagonal(
            self.semantic,
            inputs,
            memory.labels,
            filter_means=True,
            log_likelihood=self.setting.objective.log_likelihood,
            memory_mb=self.setting.fisher_memory_mb,
        )
        vector = self.phi.gather(new, out=torch.empty_like(self.phi.values))
        if self.fisher is None:
            self.fisher = vector
        else:
            average_(self.fisher, vector, warm_decay(self.steps, self.config.fisher_alpha))

    def predictors(self) -> dict[str, Predictor]:
        return {"semantic": Answer(self.semantic), "working": Answer(self.net)}
