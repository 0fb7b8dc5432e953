"""Function distance regularisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.store import Samples
from synergy.memory.task_wise import TaskWise, equal_share, pick
from synergy.methods.base import Answer, Budget, BudgetedMethod, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Predictor, Step, Task


@dataclass(frozen=True)
class FdrConfig(ReplayConfig):
    """Options of FDR."""

    buffer_size: int = option(500, "samples the memory holds, an equal share for each task seen so far", low=1)
    alpha: float = option(1.0, "accepted from published command lines; has no effect there or here", low=0)


class FDR(BudgetedMethod[FdrConfig]):
    """Learn from the stream, then step back towards what the network said about samples of past tasks.

    Reference: Benjamin, Rolnick & Kording 2019, "Measuring and Regularizing Networks in Function Space", ICLR.

    Update rule, with memory M:

    1. One SGD step on CE(f(x), y).
    2. One SGD step on the mean over an augmented draw (x_m, z_m) from M of |softmax(f(x_m)) - softmax(z_m)|, the
       Euclidean norm over classes.
    3. At the end of task t (from 1) every task has the share `buffer_size // t` of M. The samples of earlier tasks are
       cut to it. As many random samples of this task enter with their logits z = f(x).

    Deviations: z are the logits of samples without augmentation in evaluation mode: the network's answers. In the
    published code they come from augmented samples in training mode. In the paper both terms are one loss with a
    weight. The published code has that weight, `alpha`, and does not apply it. Its tuned values are good only without
    it, so the option is accepted here and has no effect either.

    Examples:
        >>> from synergy import testing
        >>> testing.trained("fdr", "seq-digits", buffer_size=50).memory.sizes
        [10, 10, 10, 10, 10]
    """

    Config = FdrConfig

    def __init__(self, config: FdrConfig, setting: Setting, budget: Budget) -> None:
        super().__init__(config, setting, budget)
        equal_share(config.buffer_size, budget.n_tasks)  # refuses a memory that is too small
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = TaskWise(config.buffer_size, setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.pick_rng = setting.rng("pick")

    def decide(self, n: int) -> Draw | None:
        return self.memory.decide(self.config.minibatch_size, self.setting.view, self.augment_rng)

    def compute(self, batch: Batch, now: Draw | None) -> Step:
        # 1. One SGD step on the stream batch.
        ce = F.cross_entropy(self.net(batch.inputs), batch.labels)
        self._step(ce)
        if now is None:
            return Step({"loss": ce.detach()})
        # 2. Another one on the draw.
        replay = self.memory.recall(now, self.setting.view)
        distance = function_distance(self.net(replay.inputs), replay.extras["logits"])
        self._step(distance)
        return Step({"loss": (ce + distance).detach(), "ce": ce.detach(), "distance": distance.detach()})

    def _step(self, loss: Tensor) -> None:
        self.weights.backward(loss)
        self.optimizer.step()

    def end_task(self, task: Task) -> None:
        # 3. The same share of memory for every task so far.
        share = self.config.buffer_size // (len(self.memory.sizes) + 1)
        self.memory.cut(share)
        chosen = pick(task, share, self.pick_rng)
        answer, plain = Answer(self.net), self.setting.view.plain
        logits = torch.cat([answer(plain(raw)) for raw in chosen.raw.split(self.budget.batch_size)])
        self.memory.add(Samples(chosen.raw, chosen.labels, {"logits": logits}))

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}


def function_distance(logits: Tensor, stored: Tensor) -> Tensor:
    """Mean over samples of the Euclidean distance of the class probabilities; both `[B, K]`."""
    difference = logits.softmax(1) - stored.softmax(1)
    distances: Tensor = torch.linalg.vector_norm(difference, dim=1)
    return distances.mean()
