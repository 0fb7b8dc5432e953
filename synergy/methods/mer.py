"""Meta-experience replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Predictor, Step


@dataclass(frozen=True)
class MerConfig(ReplayConfig):
    """Options of MER."""

    beta: float = option(1.0, "part of the way that is kept of every step", low=0, high=1)
    gamma: float = option(1.0, "part of the way that is kept of all steps on a sample", low=0, high=1)
    batch_num: int = option(1, "SGD steps on every sample, each with a fresh draw", low=1, high=1000)


@dataclass(frozen=True)
class MerStep:
    """The decisions for a sample: a draw for each step (None while memory is empty), and its place in memory."""

    draws: tuple[Draw | None, ...]
    places: Tensor


class MER(Method[MerConfig]):
    """Take steps on replay and the current sample, then go only part of the way (Reptile), so that gradients align.

    Reference: Riemer et al. 2019, "Learning to Learn without Forgetting by Maximizing Transfer and Minimizing
    Interference", ICLR.

    Update rule for one sample (x, y), with memory M; theta_A are the weights at its start:

    1. `batch_num` times: draw (x_m, y_m) from M, augmented. From theta_W one SGD step on CE(f([x_m; x]), [y_m; y])
       leads to theta. Then theta <- theta_W + beta (theta - theta_W).
    2. theta <- theta_A + gamma (theta - theta_A).
    3. The raw x is offered to M, a reservoir.

    Deviations: in the paper's main algorithm each sample of a draw has a step of its own, the current one last. Here
    one step takes the whole draw, as in the published code of the baselines.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("mer", "seq-digits", buffer_size=50).predictors())
        ['working']
    """

    Config = MerConfig
    only_batch_size: ClassVar[int | None] = 1
    any_objective = True
    outputs_of = "working"

    def __init__(self, config: MerConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Reservoir(config.buffer_size, setting.rng("reservoir"), setting.rng("replay"))
        self.augment_rng = setting.rng("augment")

    def decide(self, n: int) -> MerStep:
        assert n == 1, f"MER learns from one sample at a time, given {n}"
        draws = (self._decide_draw() for _ in range(self.config.batch_num))
        return MerStep(tuple(draws), self.memory.place(n))

    def _decide_draw(self) -> Draw | None:
        return self.memory.decide(self.config.minibatch_size, self.setting.view, self.augment_rng)

    def compute(self, batch: Batch, now: MerStep) -> Step:
        began = self.weights.values.clone()
        # 1. One step for each draw.
        steps = [self._step(batch, draw) for draw in now.draws]
        # 2. Go part of the way from where the sample began.
        self._keep_part(began, self.config.gamma)
        # 3. The raw sample enters memory.
        self.memory.put(now.places, Samples(batch.raw, batch.labels))
        return Step(steps[-1].losses, steps[0].outputs)

    def _step(self, batch: Batch, draw: Draw | None) -> Step:
        inputs, labels = batch.inputs, batch.labels
        if draw is not None:
            replay = self.memory.recall(draw, self.setting.view)
            inputs, labels = torch.cat([replay.inputs, inputs]), torch.cat([replay.labels, labels])
        began = self.weights.values.clone()
        outputs = self.net(inputs)
        loss = self.setting.objective.loss(outputs, labels)
        self.weights.backward(loss)
        self.optimizer.step()
        self._keep_part(began, self.config.beta)
        return Step({"loss": loss.detach()}, outputs[-1:].detach())

    def _keep_part(self, began: Tensor, kept: float) -> None:
        """theta <- began + kept (theta - began)."""
        self.weights.values.lerp_(began, 1 - kept)

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
