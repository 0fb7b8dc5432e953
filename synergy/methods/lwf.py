"""Learning without forgetting."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.methods.base import Answer, Budget, BudgetedMethod, MethodConfig, Setting
from synergy.nets.backbone import need_backbone
from synergy.ops.modes import evaluating
from synergy.ops.vectors import Flat, twin
from synergy.options import option
from synergy.types import Batch, Losses, Predictor, ProtocolName, Step, Task


@dataclass(frozen=True)
class LwfConfig(MethodConfig):
    """Options of LwF."""

    alpha: float = option(1.0, "weight of the distillation on the old classes' outputs", low=0)
    softmax_temp: float = option(2.0, "temperature of the distillation", low=1e-3)
    wd_reg: float = option(0.0005, "weight of the squared norm of all parameters", low=0)


@dataclass(frozen=True)
class LwfStep:
    """The decision of a step: how many old classes there are."""

    n_old: int


class LwF(BudgetedMethod[LwfConfig]):
    """Learn new classes while the old ones' outputs on the new data stay what they were; no data are kept.

    Reference: Li & Hoiem 2017, "Learning without Forgetting", IEEE Transactions on Pattern Analysis and Machine
    Intelligence.

    Update rule:

    1. At the start of every task but the first: `n_epochs` passes over the task's samples of new classes (at most as
       many batches as the task takes) train the new outputs of the classifier alone, by CE among the new classes, on
       features in evaluation mode. Then the network is frozen as f_old.
    2. One SGD step for each batch on CE over all classes seen (f(x), y) + alpha * H(softmax(f_old(x) / T), softmax(f(x)
       / T)) + wd_reg * |theta|^2. H is the cross-entropy with soft targets over the old classes, T is softmax_temp, and
       f_old sees x not augmented, in evaluation mode. In the first task there is no second term.

    Deviations from the published code: it records f_old of the whole task at its start; here the frozen network gives
    f_old of each batch. There, f_old sees images that are not normalised, unlike the stream; here it sees the view for
    answers. There, the features of the first step miss a ReLU. It fixes T at 2; here T is softmax_temp. Classes may
    come in any order, and more than once.

    Examples:
        >>> from synergy import testing
        >>> list(testing.trained("lwf", "seq-digits").predictors())
        ['working']
    """

    Config = LwfConfig
    protocols: ClassVar[frozenset[ProtocolName]] = frozenset(("class-IL", "task-IL"))

    def __init__(self, config: LwfConfig, setting: Setting, budget: Budget) -> None:
        super().__init__(config, setting, budget)
        self.net = need_backbone(setting.build_net("net"), "lwf")
        self.old = twin(self.net).eval()
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.augment_rng = setting.rng("augment")
        self.seen = torch.zeros(setting.n_classes, dtype=torch.bool, device=self.weights.values.device)
        self.old_classes = torch.zeros(setting.n_classes, dtype=torch.int64, device=self.seen.device)
        """The first `n_old` are the classes of earlier tasks."""
        self.n_old = 0

    def begin_task(self, task: Task) -> None:
        # 1. The new outputs, then the frozen network.
        old = self.seen.nonzero()[:, 0]
        new = ~self.seen
        self.seen[list(task.classes)] = True
        new &= self.seen
        if len(old):
            self._train_outputs(new, task)
            self.old.load_state_dict(self.net.state_dict())
            self.old_classes[: len(old)] = old
            self.n_old = len(old)

    def _train_outputs(self, new: Tensor, task: Task) -> None:
        """Train the outputs `new` (`bool [K]`) alone: those of other classes have no gradient, nor have features."""
        batches = itertools.chain.from_iterable(task.batches(epoch) for epoch in range(self.budget.n_epochs))
        with evaluating(self.net):
            for raw, labels in itertools.islice(batches, self.budget.max_steps_per_task):
                chosen = new[labels]
                if chosen.any():
                    samples = raw[chosen]
                    draws = self.setting.view.decide(len(samples), self.augment_rng)
                    with torch.no_grad():
                        features = self.net.features(self.setting.view(samples, draws))
                    self.weights.backward(cross_entropy_among(new, self.net.classifier(features), labels[chosen]))
                    self.optimizer.step()

    def decide(self, n: int) -> LwfStep:
        return LwfStep(n_old=self.n_old)

    def compute(self, batch: Batch, now: LwfStep) -> Step:
        # 2. One SGD step on the three terms.
        losses = self._losses(batch, now.n_old)
        self.weights.backward(losses["loss"])
        self._decay(losses)
        self.optimizer.step()
        return Step({name: term.detach() for name, term in losses.items()})

    def _losses(self, batch: Batch, n_old: int) -> Losses:
        logits = self.net(batch.inputs)
        ce = cross_entropy_among(self.seen, logits, batch.labels)
        if not n_old:
            return {"loss": ce, "ce": ce}
        with torch.no_grad():
            target = self.old(self.setting.view.plain(batch.raw))
        old = self.old_classes[:n_old]
        kept = distillation(logits[:, old], target[:, old], self.config.softmax_temp)
        return {"loss": ce + self.config.alpha * kept, "ce": ce, "distillation": kept}

    @torch.no_grad()
    def _decay(self, losses: Losses) -> None:
        """Add the squared norm and its gradient, which needs no backward pass."""
        values = self.weights.values
        self.weights.grads.add_(values, alpha=2 * self.config.wd_reg)
        losses["norm"] = torch.dot(values, values)
        losses["loss"] = losses["loss"] + self.config.wd_reg * losses["norm"]

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}


def cross_entropy_among(classes: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of `[B, K]` and `int64 [B]` among `classes` (`bool [K]`), which hold every label."""
    return F.cross_entropy(logits.masked_fill(~classes, -torch.inf), labels)


def distillation(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of softmax(logits / T) with softmax(target / T) for targets; both `[B, K]`."""
    return F.cross_entropy(logits / temperature, (target / temperature).softmax(1))
