"""A-GEM on a reservoir."""

from __future__ import annotations

from synergy.memory.base import Draw
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.methods.steps import ReplayStep
from synergy.ops.projection import onto_half_space
from synergy.ops.vectors import Flat
from synergy.types import Batch, Predictor, Step


class AGemR(Method[ReplayConfig]):
    """Take from the stream's gradient what would raise the loss on memory; needs no task boundaries.

    Reference: Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", ICLR; with a reservoir as in Buzzega et
    al. 2020, "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS.

    Update rule, with memory M:

    1. g is the gradient of CE(f(x), y).
    2. r is the gradient of CE(f(x_m), y_m) on a draw from M, not augmented. If g.r < 0: g <- g - (g.r / r.r) r.
    3. One SGD step along g.
    4. The raw x is offered to M, a reservoir.

    Deviations: the memory is a reservoir; in the paper it has a share for each task. The published code normalises the
    stream but not x_m; here x_m is what the network sees when it answers.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("agem_r", "seq-digits", buffer_size=50).predictors())
        ['working']
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

    def decide(self, n: int) -> ReplayStep:
        replay = Draw(self.memory.choose(self.config.minibatch_size), view=None) if len(self.memory) else None
        return ReplayStep(replay, self.memory.place(n))

    def compute(self, batch: Batch, now: ReplayStep) -> Step:
        # 1. The gradient of the stream batch.
        outputs = self.net(batch.inputs)
        loss = self.setting.objective.loss(outputs, batch.labels)
        self.weights.backward(loss)
        # 2. Project it by the gradient of the draw.
        if now.replay is not None:
            self._project(now.replay)
        # 3. One SGD step along it.
        self.optimizer.step()
        # 4. The raw stream batch enters memory.
        self.memory.put(now.places, Samples(batch.raw, batch.labels))
        return Step({"loss": loss.detach()}, outputs.detach())

    def _project(self, draw: Draw) -> None:
        gradient = self.weights.grads.clone()
        replay = self.memory.recall(draw, self.setting.view)
        self.weights.backward(self.setting.objective.loss(self.net(replay.inputs), replay.labels))
        self.weights.grads.copy_(onto_half_space(gradient, self.weights.grads))

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
