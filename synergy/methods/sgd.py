"""Plain fine-tuning: the lower bound."""

from __future__ import annotations

from synergy.methods.base import Answer, Method, MethodConfig, Setting
from synergy.ops.vectors import Flat
from synergy.types import Batch, Predictor, Step


class FineTuning(Method[MethodConfig]):
    """Learn from the stream alone, and forget.

    Reference: none; the lower bound of every comparison.

    Update rule:

    1. One SGD step on CE(f(x), y).

    Deviations: none.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("sgd", "seq-digits").predictors())
        ['working']
    """

    Config = MethodConfig
    any_objective = True
    outputs_of = "working"

    def __init__(self, config: MethodConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)

    def compute(self, batch: Batch, now: None) -> Step:
        # 1. One SGD step on the stream batch.
        outputs = self.net(batch.inputs)
        loss = self.setting.objective.loss(outputs, batch.labels)
        self.weights.backward(loss)
        self.optimizer.step()
        return Step({"loss": loss.detach()}, outputs.detach())

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}
