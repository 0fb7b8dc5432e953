"""Experience replay."""

from __future__ import annotations

import torch

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.methods.steps import ReplayStep
from synergy.ops.vectors import Flat
from synergy.types import Batch, Predictor, Step


class ER(Method[ReplayConfig]):
    """Learn from the stream batch and a draw from memory in one pass.

    Reference: Rolnick et al. 2019, "Experience Replay for Continual Learning"; Chaudhry et al. 2019, "On Tiny Episodic
    Memories in Continual Learning".

    Update rule, with memory M:

    1. Draw (x_m, y_m) from M, augmented; nothing while M is empty.
    2. One SGD step on CE(f([x; x_m]), [y; y_m]).
    3. The raw x is offered to M, a reservoir.

    Deviations: none.

    Examples:
        >>> from synergy import testing
        >>> method = testing.trained("er", "seq-digits", buffer_size=50)
        >>> len(method.memory), list(method.predictors())
        (50, ['working'])
    """

    Config = ReplayConfig
    any_objective = True
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
        # 1. Recall the draw.
        inputs, labels = batch.inputs, batch.labels
        if now.replay is not None:
            replay = self.memory.recall(now.replay, self.setting.view)
            inputs, labels = torch.cat([inputs, replay.inputs]), torch.cat([labels, replay.labels])
        # 2. One SGD step on stream and replay together.
        outputs = self.net(inputs)
        loss = self.setting.objective.loss(outputs, labels)
        self.weights.backward(loss)
        self.optimizer.step()
        # 3. The raw stream batch enters memory.
        self.memory.put(now.places, Samples(batch.raw, batch.labels))
        return Step({"loss": loss.detach()}, outputs.detach())

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
