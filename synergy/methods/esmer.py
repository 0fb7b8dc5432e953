"""ESMER: replay that is less sensitive to large errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.memory.base import Draw
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting, has_batch_norm
from synergy.methods.steps import average_weight, short_average
from synergy.ops.averaging import average_, new_weight, warm_decay
from synergy.ops.vectors import Flat, twin
from synergy.options import option
from synergy.types import Batch, Losses, Predictor, Step


@dataclass(frozen=True)
class EsmerConfig(ReplayConfig):
    """Options of ESMER."""

    reg_weight: float = option(0.1, "weight of the consistency with the averaged network on replay", low=0)
    ema_model_update_freq: float = option(0.7, "probability per step of updating the averaged one", low=0, high=1)
    ema_model_alpha: float = option(0.999, "decay of the averaged network", low=0, high=1)
    ema_warmup: float = option(
        30.0,
        "c of the warm-up: at step t an average looks back over at most t/c steps; 1 as published",
        low=1,
        formerly=1.0,
    )
    loss_margin: float = option(1.0, "a loss above this many running means is large", low=0)
    loss_alpha: float = option(0.99, "decay of the running mean of losses", low=0, high=1)
    std_margin: float = option(1.0, "losses this many standard deviations above a batch's mean are outliers", low=0)


@dataclass(frozen=True)
class EsmerStep:
    """The decisions of a step.

    Attributes:
        replay: the draw from memory; None while memory is empty.
        is_first: whether no loss can be large yet.
        average: weight of the working network in the averaged one; None if that stays.
        mean_loss: weight of the batch in the running mean of losses.
    """

    replay: Draw | None
    is_first: bool
    average: Tensor | None
    mean_loss: Tensor


class ESMER(Method[EsmerConfig]):
    """Samples that surprise the averaged network teach less, and do not enter memory until they surprise no more.

    Reference: Sarfraz, Arani & Zonooz 2023, "Error Sensitivity Modulation based Experience Replay: Mitigating Abrupt
    Representation Drift in Continual Learning", ICLR.

    Update rule, step t from 1, working network theta, averaged network phi (at first a copy of theta), memory M,
    running mean of losses mu: a stream sample has the loss l = CE(f_phi(x), y), and it is large if l > loss_margin mu;
    in the first step none is.

    1. One SGD step on mean(w CE(f_theta(x), y)) + CE(f_theta(x_m), y_m)
       + reg_weight mean((f_theta(x_m) - f_phi(x_m))^2), with w = mu / l where l is large and 1 elsewhere.
    2. The raw x whose l is not large are offered to M, a reservoir.
    3. With probability ema_model_update_freq: phi <- a phi + (1 - a) theta, a = min(1 - c/(t + c), ema_model_alpha),
       c = ema_warmup.
    4. mu <- b mu + (1 - b) m, b = min(1 - 1/t, loss_alpha), m the mean of the batch's l that lie at most std_margin
       standard deviations above their mean.

    The averaged network answers. With BatchNorm both networks see stream and replay in passes of their own, in training
    mode; without it one pass serves both, with the same result.

    Deviations: the published rule is c = 1, and every preset has it; by default c is larger here, so that phi follows a
    short stream. Deviations from the published code: its `task_warmup` is left out (epochs at the start of a task in
    which nothing enters memory and mu stands still), since it needs to know where tasks begin. Its mu starts at 0, so
    that at first almost all losses are large; here mu starts at the first m. It offers nothing if all samples to be
    offered are of class 0, which is a slip.

    Steps wait for the device: which samples are offered depends on their losses, and the reservoir counts on the host.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("esmer", "seq-digits", buffer_size=50).predictors())
        ['averaged', 'working']
    """

    Config = EsmerConfig
    waits = "the losses of a batch decide which samples are offered to memory"
    outputs_of = "averaged"

    def __init__(self, config: EsmerConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.averaged = twin(self.net)
        self.weights, self.averaged_weights = Flat(self.net), Flat(self.averaged, with_grads=False)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.coins = setting.rng("coins")
        self.own_pass = has_batch_norm(self.net)
        self.mean_loss = self.weights.values.new_zeros(())
        self.steps = 0

    def decide(self, n: int) -> EsmerStep:
        self.steps += 1
        config, t = self.config, self.steps
        return EsmerStep(
            replay=self.memory.decide(config.minibatch_size, self.setting.view, self.augment_rng),
            is_first=t == 1,
            average=average_weight(
                self.coins, config.ema_model_update_freq, t, config.ema_model_alpha, config.ema_warmup
            ),
            mean_loss=new_weight(warm_decay(t - 1, config.loss_alpha)),
        )

    def compute(self, batch: Batch, now: EsmerStep) -> Step:
        # 1. One SGD step on the three terms.
        losses, expected, surprise = self._losses(batch, now)
        self.weights.backward(losses["loss"])
        self.optimizer.step()
        # 2. The samples whose loss is not large enter memory.
        self._offer(batch, surprise, now.is_first)
        # 3. The averaged network follows.
        if now.average is not None:
            average_(self.averaged_weights.values, self.weights.values, now.average)
        # 4. The running mean of losses follows.
        average_(self.mean_loss, usual_mean(surprise, self.config.std_margin), now.mean_loss)
        return Step({name: term.detach() for name, term in losses.items()}, expected)

    def _losses(self, batch: Batch, now: EsmerStep) -> tuple[Losses, Tensor, Tensor]:
        """The terms of the loss; the averaged network's logits `[B, K]` and losses `[B]` of the stream batch."""
        inputs = [batch.inputs]
        if now.replay is not None:
            replay = self.memory.recall(now.replay, self.setting.view)
            inputs.append(replay.inputs)
        with torch.no_grad():
            expected = self._logits(self.averaged, inputs)
            surprise = F.cross_entropy(expected[0], batch.labels, reduction="none")
        logits = self._logits(self.net, inputs)
        each = F.cross_entropy(logits[0], batch.labels, reduction="none")
        weights = torch.ones_like(surprise) if now.is_first else self._weights(surprise)
        stream = (weights * each).mean()
        if now.replay is None:
            return {"loss": stream}, expected[0], surprise
        ce = F.cross_entropy(logits[1], replay.labels)
        consistency = F.mse_loss(logits[1], expected[1])
        loss = stream + ce + self.config.reg_weight * consistency
        losses = {"loss": loss, "stream": stream, "replay": ce, "consistency": consistency}
        return losses, expected[0], surprise

    def _logits(self, net: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
        if self.own_pass:
            return [net(part) for part in inputs]
        logits: Tensor = net(torch.cat(inputs))
        return list(logits.split([len(part) for part in inputs]))

    def _large(self, surprise: Tensor) -> Tensor:
        return surprise > self.config.loss_margin * self.mean_loss

    def _weights(self, surprise: Tensor) -> Tensor:
        return torch.where(self._large(surprise), self.mean_loss / surprise, 1.0)

    def _offer(self, batch: Batch, surprise: Tensor, is_first: bool) -> None:
        samples = Samples(batch.raw, batch.labels)
        if not is_first:
            samples = samples.select((~self._large(surprise)).cpu().numpy().nonzero()[0])
        if len(samples):
            self.memory.offer(samples)

    def counted_steps(self) -> int:
        return self.steps

    def remarks(self) -> list[str]:
        config, probability = self.config, self.config.ema_model_update_freq
        return short_average("averaged", self.steps, probability, config.ema_model_alpha, config.ema_warmup)

    def predictors(self) -> dict[str, Predictor]:
        return {"averaged": Answer(self.averaged), "working": Answer(self.net)}


def usual_mean(losses: Tensor, std_margin: float) -> Tensor:
    """Mean of `[B]` without those more than `std_margin` standard deviations above the mean of all."""
    spread = losses.std(correction=min(1, len(losses) - 1))
    # The smallest is never an outlier, not even by rounding where all are equal.
    usual = losses <= torch.maximum(losses.mean() + std_margin * spread, losses.min())
    return (losses * usual).sum() / usual.sum()
