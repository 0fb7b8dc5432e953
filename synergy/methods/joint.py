"""Joint training: the upper bound."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.methods.base import Answer, Method, MethodConfig, Setting
from synergy.ops.vectors import Flat
from synergy.types import Batch, Losses, Predictor, Task


class Joint(Method[MethodConfig]):
    """A fresh network trained on the data of all tasks together, once the last of the run has been seen.

    Reference: none; the upper bound of every comparison.

    Update rule: after the last task of the run, `n_epochs` passes over the data of all tasks so far in random order,
    each step one SGD step on CE(f(x), y) with the stream's batch size; not more of them than the tasks of a partial run
    have together. It has no answer before that, and so no accuracy.

    Deviations: none.
    """

    Config = MethodConfig
    needs_boundaries = True

    def __init__(self, config: MethodConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.order_rng = setting.rng("order")
        self.augment_rng = setting.rng("augment")
        self.trained = False

    def observe(self, batch: Batch) -> Losses:
        return {}

    def end_task(self, task: Task) -> None:
        if task.index < self.setting.last_task:
            return
        parts = [each.train() for each in (*task.earlier(), task)]
        raw, labels = torch.cat([part.raw for part in parts]), torch.cat([part.labels for part in parts])
        del parts
        budget = self.setting.max_steps_per_task
        steps = None if budget is None else budget * (task.index + 1)
        for chosen in itertools.islice(self._batches(labels), steps):
            inputs = self.setting.view(raw[chosen], self.augment_rng)
            self.weights.backward(F.cross_entropy(self.net(inputs), labels[chosen]))
            self.optimizer.step()
        self.trained = True

    def _batches(self, labels: Tensor) -> Iterator[Tensor]:
        """Indices of the samples of each step, `int64 [B]`, on their device: one transfer an epoch."""
        for _ in range(self.setting.n_epochs):
            order = torch.from_numpy(self.order_rng.permutation(len(labels))).to(labels.device)
            yield from order.split(self.setting.batch_size)

    def predictors(self) -> dict[str, Predictor]:
        return {"joint": Answer(self.net)} if self.trained else {}
