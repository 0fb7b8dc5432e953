"""Plain fine-tuning: the lower bound."""

from __future__ import annotations

from synergy.methods.base import Answer, Method, MethodConfig, Setting
from synergy.ops.vectors import Flat
from synergy.types import Batch, Losses, Predictor


class FineTuning(Method[MethodConfig]):
    """Learn from the stream alone, and forget.

    Reference: none; the lower bound of every comparison.

    Update rule: one SGD step on CE(f(x), y).

    Deviations: none.
    """

    Config = MethodConfig
    any_objective = True
    outputs_of = "working"

    def __init__(self, config: MethodConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)

    def observe(self, batch: Batch) -> Losses:
        outputs = self.net(batch.inputs)
        self.setting.on_outputs(batch, outputs)
        loss = self.setting.objective.loss(outputs, batch.labels)
        self.weights.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach()}

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
