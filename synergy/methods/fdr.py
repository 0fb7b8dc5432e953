"""Function distance regularisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.store import Samples
from synergy.memory.task_wise import TaskWise, equal_share, pick
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.types import Batch, Losses, Predictor, Task


@dataclass(frozen=True)
class FdrConfig(ReplayConfig):
    """Options of FDR."""

    alpha: float = option(1.0, "of the published command line; without effect there and here", low=0)


class FDR(Method[FdrConfig]):
    """Learn from the stream, then step back towards what the network said about samples of past tasks.

    Reference: Benjamin, Rolnick & Kording 2019, "Measuring and Regularizing Networks in Function Space", ICLR.

    Update rule: one SGD step on CE(f(x), y), then, on a draw from memory, another on

        mean over samples of |softmax(f(x_m)) - softmax(z_m)|, the Euclidean norm over classes.

    At the end of task t (from 1) every task has the same share `buffer_size // t` of memory: the samples of earlier
    tasks are cut to it, and as many random ones of this task enter with z = f(x), the logits then.

    Deviations: z are the logits in evaluation mode of samples that are not augmented, what the network would have
    answered; in the published code they are those of augmented samples in training mode. In the paper both terms are
    one loss with a weight. The published code has that weight, `alpha`, and does not apply it; its tuned values are
    good only without, so the option is accepted here and has no effect either.
    """

    Config = FdrConfig
    needs_boundaries = True

    def __init__(self, config: FdrConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        equal_share(config.buffer_size, setting.n_tasks)  # refuses a memory that is too small
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = TaskWise(config.buffer_size, setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.pick_rng = setting.rng("pick")

    def observe(self, batch: Batch) -> Losses:
        ce = F.cross_entropy(self.net(batch.inputs), batch.labels)
        self._step(ce)
        if not len(self.memory):
            return {"loss": ce.detach()}
        replay = self.memory.draw(self.config.minibatch_size)
        replayed = self.net(self.setting.view(replay.raw, self.augment_rng))
        distance = function_distance(replayed, replay.extras["logits"])
        self._step(distance)
        return {"loss": (ce + distance).detach(), "ce": ce.detach(), "distance": distance.detach()}

    def _step(self, loss: Tensor) -> None:
        self.weights.backward(loss)
        self.optimizer.step()

    def end_task(self, task: Task) -> None:
        share = self.config.buffer_size // (len(self.memory.sizes) + 1)
        self.memory.cut(share)
        chosen = pick(task, share, self.pick_rng)
        answer, plain = Answer(self.net), self.setting.view.plain
        logits = torch.cat([answer(plain(raw)) for raw in chosen.raw.split(self.setting.batch_size)])
        self.memory.add(Samples(chosen.raw, chosen.labels, {"logits": logits}))

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}


def function_distance(logits: Tensor, stored: Tensor) -> Tensor:
    """Mean over samples of the Euclidean distance of the class probabilities; both `[B, K]`."""
    difference = logits.softmax(1) - stored.softmax(1)
    distances: Tensor = torch.linalg.vector_norm(difference, dim=1)
    return distances.mean()
