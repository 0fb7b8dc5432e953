"""Gradient-based sample selection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from synergy.memory.gradient_selected import GradientSelected
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.per_sample import greatest_cosines
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Losses, Predictor

FIRST_SCORE = 0.1
"""Of the first samples, which have nothing to be compared with."""


@dataclass(frozen=True)
class GssConfig(ReplayConfig):
    """Options of GSS."""

    gss_minibatch_size: int = option(10, "stored samples whose gradients new ones are compared with", low=1)
    batch_num: int = option(1, "SGD steps on every stream batch, each with a fresh draw", low=1)


class GSS(Method[GssConfig]):
    """Replay from a memory whose samples pull the weights in many directions.

    Reference: Aljundi, Lin, Goujaud & Bengio 2019, "Gradient based sample selection for online continual learning",
    NeurIPS; the greedy variant.

    Update rule: `batch_num` times one SGD step on CE(f([x; x_m]), [y; y_m]), each with a fresh draw. Then a sample's
    score is c = 1 + the greatest cosine similarity of its gradient to those of `gss_minibatch_size` random stored
    samples; the batch's score is that of its mean gradient; 0.1 where memory is empty. While there is room the raw x
    enter with their scores. Afterwards, if the batch's score is below 1, each of its samples draws a stored one i with
    probability proportional to its score s_i, and replaces it with probability s_i / (s_i + c).

    Gradients are those of samples that are not augmented, with the weights after the last step. BatchNorm normalises
    each sample by its own statistics, as in the Fisher information.

    Deviations from the published code: while there is room it stores every sample of a batch with the batch's score;
    here each has its own, as later. Its BatchNorm uses the running statistics for gradients. Its draws for replay take
    turns through memory within a stream batch; here each is independent.

    Who stays in memory is decided on the host: one transfer per step brings it the scores.
    """

    Config = GssConfig
    outputs_of = "working"

    def __init__(self, config: GssConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = GradientSelected(config.buffer_size, setting.rng("selection"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.comparison_rng = setting.rng("comparison")

    def observe(self, batch: Batch) -> Losses:
        losses = [self._step(batch, number) for number in range(self.config.batch_num)]
        scores = self._scores(batch)
        self.memory.offer(Samples(batch.raw, batch.labels), scores[:-1], scores[-1])
        return losses[-1]

    def _step(self, batch: Batch, number: int) -> Losses:
        inputs, labels = batch.inputs, batch.labels
        if len(self.memory):
            replay = self.memory.draw(self.config.minibatch_size)
            inputs = torch.cat([inputs, self.setting.view(replay.raw, self.augment_rng)])
            labels = torch.cat([labels, replay.labels])
        logits = self.net(inputs)
        if number == 0:
            self.setting.on_outputs(batch, logits)
        loss = F.cross_entropy(logits, labels)
        self.weights.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach()}

    def _scores(self, batch: Batch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Of each sample, then of the batch, `[B + 1]`."""
        if not len(self.memory):
            return np.full(len(batch) + 1, FIRST_SCORE)
        stored = self.memory.draw(self.config.gss_minibatch_size, self.comparison_rng)
        plain = self.setting.view.plain
        single, mean = greatest_cosines(
            self.net,
            (plain(batch.raw), batch.labels),
            (plain(stored.raw), stored.labels),
            memory_mb=self.setting.fisher_memory_mb,
        )
        return 1 + torch.cat([single, mean[None]]).double().cpu().numpy()

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
