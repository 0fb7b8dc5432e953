"""Gradient-based sample selection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from synergy.memory.base import Draw
from synergy.memory.gradient_selected import GradientSelected
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.per_sample import greatest_cosines
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Predictor, Step

FIRST_SCORE = 0.1
"""The score of the first samples: there are no others to compare them with."""


@dataclass(frozen=True)
class GssConfig(ReplayConfig):
    """Options of GSS."""

    gss_minibatch_size: int = option(10, "stored samples whose gradients new ones are compared with", low=1)
    batch_num: int = option(1, "SGD steps on every stream batch, each with a fresh draw", low=1, high=1000)


@dataclass(frozen=True)
class GssStep:
    """The decisions of a step: a draw for each SGD step, and one to compare gradients with.

    A draw is None while memory is empty.
    """

    replay: tuple[Draw | None, ...]
    compared: Draw | None


class GSS(Method[GssConfig]):
    """Replay from a memory whose samples pull the weights in many directions.

    Reference: Aljundi, Lin, Goujaud & Bengio 2019, "Gradient based sample selection for online continual learning",
    NeurIPS; the greedy variant.

    Update rule, with memory M:

    1. `batch_num` times: one SGD step on CE(f([x; x_m]), [y; y_m]), each with a fresh augmented draw from M.
    2. The score of a sample is c = 1 + the greatest cosine similarity of its gradient to those of `gss_minibatch_size`
       random samples of M. The score of the batch is that of its mean gradient. While M is empty both are 0.1.
    3. While M has room, the raw x enter with their scores.
    4. Afterwards, if the score of the batch is below 1: each of its samples draws a stored sample i with probability
       proportional to its score s_i, and replaces it with probability s_i / (s_i + c).

    Gradients are those of samples without augmentation, with the weights after the last step. BatchNorm normalises by
    its running statistics, as when the network answers.

    Deviations from the published code: while there is room it stores every sample of a batch with the batch's score;
    here each has its own, as later. Its draws for replay take turns through memory within a stream batch; here each is
    independent.

    Steps wait for the device: the scores decide on the host which samples stay.

    Examples:
        >>> from synergy import testing
        >>> method = testing.trained("gss", "seq-digits", buffer_size=50)
        >>> 0 <= float(method.memory.scores.min()) <= float(method.memory.scores.max()) <= 2
        True
    """

    Config = GssConfig
    waits = "the scores of gradients decide which samples stay in memory"
    outputs_of = "working"

    def __init__(self, config: GssConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = GradientSelected(config.buffer_size, setting.rng("selection"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.comparison_rng = setting.rng("comparison")

    def decide(self, n: int) -> GssStep:
        replay = (
            self.memory.decide(self.config.minibatch_size, self.setting.view, self.augment_rng)
            for _ in range(self.config.batch_num)
        )
        stored = len(self.memory) > 0
        compared = self.memory.choose(self.config.gss_minibatch_size, self.comparison_rng) if stored else None
        return GssStep(tuple(replay), None if compared is None else Draw(compared, view=None))

    def compute(self, batch: Batch, now: GssStep) -> Step:
        # 1. One SGD step for each draw.
        steps = [self._step(batch, draw) for draw in now.replay]
        # 2. to 4. The scores decide who enters memory.
        scores = self._scores(batch, now.compared)
        self.memory.offer(Samples(batch.raw, batch.labels), scores[:-1], scores[-1])
        return Step(steps[-1].losses, steps[0].outputs)

    def _step(self, batch: Batch, draw: Draw | None) -> Step:
        inputs, labels = batch.inputs, batch.labels
        if draw is not None:
            replay = self.memory.recall(draw, self.setting.view)
            inputs, labels = torch.cat([inputs, replay.inputs]), torch.cat([labels, replay.labels])
        logits = self.net(inputs)
        loss = F.cross_entropy(logits, labels)
        self.weights.backward(loss)
        self.optimizer.step()
        return Step({"loss": loss.detach()}, logits.detach())

    def _scores(self, batch: Batch, compared: Draw | None) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The score of each sample, then of the batch, `[B + 1]`."""
        if compared is None:
            return np.full(len(batch) + 1, FIRST_SCORE)
        stored = self.memory.recall(compared, self.setting.view)
        single, mean = greatest_cosines(
            self.net,
            (self.setting.view.plain(batch.raw), batch.labels),
            (stored.inputs, stored.labels),
            memory_mb=self.setting.fisher_memory_mb,
        )
        return 1 + torch.cat([single, mean[None]]).double().cpu().numpy()

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
