"""Joint training: the upper bound."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.methods.base import Answer, Budget, BudgetedMethod, MethodConfig, Setting
from synergy.ops.vectors import Flat
from synergy.types import Batch, Predictor, Step, Task


class Joint(BudgetedMethod[MethodConfig]):
    """A fresh network trained on the data of all tasks together, once the last of the run has been seen.

    Reference: none; the upper bound of every comparison.

    Update rule:

    1. After the last task of the run: `n_epochs` passes over the data of all tasks so far in random order, with one SGD
       step on CE(f(x), y) for each batch of the stream's size. A partial run has as many steps as its tasks together.

    Before that it has no answer, and so no accuracy.

    Deviations: none.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("joint", "seq-digits").predictors())
        ['joint']
    """

    Config = MethodConfig
    no_schedule = "trains after the last batch alone"

    def __init__(self, config: MethodConfig, setting: Setting, budget: Budget) -> None:
        super().__init__(config, setting, budget)
        self.net = setting.build_net("net")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.order_rng = setting.rng("order")
        self.augment_rng = setting.rng("augment")
        self.trained = False

    def compute(self, batch: Batch, now: None) -> Step:
        return Step({})

    def end_task(self, task: Task) -> None:
        if task.index < self.budget.last_task:
            return
        # 1. Train on everything.
        parts = [each.train() for each in (*task.earlier(), task)]
        raw, labels = torch.cat([part.raw for part in parts]), torch.cat([part.labels for part in parts])
        del parts
        budget = self.budget.max_steps_per_task
        steps = None if budget is None else budget * (task.index + 1)
        for chosen in itertools.islice(self._batches(labels), steps):
            draws = self.setting.view.decide(len(chosen), self.augment_rng)
            inputs = self.setting.view(raw[chosen], draws)
            self.weights.backward(F.cross_entropy(self.net(inputs), labels[chosen]))
            self.optimizer.step()
        self.trained = True

    def _batches(self, labels: Tensor) -> Iterator[Tensor]:
        """Indices of the samples of each step, `int64 [B]`, on their device: one transfer an epoch."""
        for _ in range(self.budget.n_epochs):
            order = torch.from_numpy(self.order_rng.permutation(len(labels))).to(labels.device)
            yield from order.split(self.budget.batch_size)

    def predictors(self) -> dict[str, Predictor]:
        return {"joint": Answer(self.net)} if self.trained else {}
