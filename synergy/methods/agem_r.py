"""A-GEM on a reservoir."""

from __future__ import annotations

from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.projection import onto_half_space
from synergy.ops.vectors import Flat
from synergy.types import Batch, Losses, Predictor


class AGemR(Method[ReplayConfig]):
    """Take from the stream's gradient what would raise the loss on memory; needs no task boundaries.

    Reference: Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", ICLR; with a reservoir as in Buzzega et
    al. 2020, "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS.

    Update rule: g is the gradient of CE(f(x), y), r that of CE(f(x_m), y_m) on a draw that is not augmented. If g.r < 0
    then g <- g - (g.r / r.r) r. One SGD step along g; then the raw x enters a reservoir.

    Deviations: from the paper the memory, a reservoir. From the published code: there x_m is not normalised where the
    stream is; here it is what the network sees when it answers.
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

    def observe(self, batch: Batch) -> Losses:
        outputs = self.net(batch.inputs)
        self.setting.on_outputs(batch, outputs)
        loss = self.setting.objective.loss(outputs, batch.labels)
        self.weights.backward(loss)
        if len(self.memory):
            self._project()
        self.optimizer.step()
        self.memory.offer(Samples(batch.raw, batch.labels))
        return {"loss": loss.detach()}

    def _project(self) -> None:
        gradient = self.weights.grads.clone()
        replay = self.memory.draw(self.config.minibatch_size)
        replayed = self.net(self.setting.view.plain(replay.raw))
        self.weights.backward(self.setting.objective.loss(replayed, replay.labels))
        self.weights.grads.copy_(onto_half_space(gradient, self.weights.grads))

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
