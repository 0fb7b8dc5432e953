"""Hindsight anchor learning."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.ring import Ring
from synergy.memory.store import Samples, check_room
from synergy.methods.base import Answer, Budget, BudgetedMethod, ReplayConfig, Setting
from synergy.nets.backbone import Backbone, need_backbone
from synergy.ops.modes import evaluating
from synergy.ops.vectors import Flat, twin
from synergy.options import option
from synergy.types import Batch, Predictor, Step, Task


@dataclass(frozen=True)
class HalConfig(ReplayConfig):
    """Options of HAL."""

    lr: float = option(0.1, "learning rate of plain SGD and of the search for anchors", low=0)
    buffer_size: int = option(500, "samples the memory holds, a ring of equal size for each task", low=1)
    minibatch_size: int = option(32, "samples drawn from memory at each step, and of a batch of fine-tuning", low=1)
    hal_lambda: float = option(0.1, "weight of the change that a step causes on the anchors", low=0)
    beta: float = option(0.5, "decay of the running mean embedding", low=0, high=1)
    gamma: float = option(0.1, "weight of an anchor's distance to the mean embedding while it is sought", low=0)
    steps_on_anchors: int = option(100, "gradient-ascent steps on every anchor", low=0)
    finetuning_epochs: int = option(1, "passes over memory of the copy that shows what will be forgotten", low=0)


@dataclass(frozen=True)
class HalStep:
    """The decisions of a step: the draw, the places of the stream batch in memory, and whether there are anchors."""

    replay: Draw | None
    places: Tensor
    has_anchors: bool


class HAL(BudgetedMethod[HalConfig]):
    """Replay, and keep the answers on one anchor per class: the input that would be forgotten most.

    Reference: Chaudhry, Gordo, Dokania, Torr & Lopez-Paz 2021, "Using Hindsight to Anchor Past Knowledge in Continual
    Learning", AAAI.

    Update rule, with memory M:

    1. Draw (x_m, y_m) from M, augmented; nothing while M is empty.
    2. theta' is where one SGD step on CE(f([x; x_m]), [y; y_m]) leads. One SGD step from theta on
       CE(f([x; x_m]), [y; y_m]) + hal_lambda * mean((f_theta(anchors) - f_theta'(anchors))^2), with theta' a constant;
       without anchors, on the first term alone.
    3. The mean embedding follows: phi <- beta phi + (1 - beta) mean(features(x)).
    4. The raw x enters M, a ring with a section for each task.
    5. At the end of a task, f_M is a copy of f fine-tuned on M. For each class k of the task an anchor e starts at
       random and takes `steps_on_anchors` steps of gradient ascent, with rate `lr`, on
       CE(f_M(e), k) - CE(f(e), k) - gamma * |features(e) - phi|^2. Then phi starts again from zero.

    In step 2 the anchors pass the network in training mode, as published. In evaluation mode a network with BatchNorm
    diverges, since its running statistics do not fit weights that have just moved.

    Deviations: the mean embedding and the search for anchors see the network in evaluation mode, so that BatchNorm's
    statistics are those of data, and all anchors of a task are sought in one batch. In the published code the
    fine-tuned copy is the network itself, so that fine-tuning changes it, and its ring is a reservoir; here both are as
    in the paper. Its `features` lack the last ReLU. Its fine-tuning takes one draw of the stream's batch size; here it
    takes whole passes over memory, in even batches of at most `minibatch_size`.

    Examples:
        >>> from synergy import testing
        >>> len(testing.trained("hal", "seq-digits", buffer_size=50, steps_on_anchors=5).anchors)
        10
    """

    Config = HalConfig
    plain_sgd_only = True

    def __init__(self, config: HalConfig, setting: Setting, budget: Budget) -> None:
        super().__init__(config, setting, budget)
        check_room(config.buffer_size, budget.n_tasks, "task")
        self.net = need_backbone(setting.build_net("net"), "hal")
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Ring(config.buffer_size, budget.n_tasks, setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.finetuning_augment_rng = setting.rng("finetuning/augment")
        self.order_rng = setting.rng("order")
        self.anchor_rng = setting.rng("anchors")
        self.anchors = self.weights.values.new_empty(0)
        self.embedding = self.weights.values.new_zeros(self.net.classifier.in_features)

    def decide(self, n: int) -> HalStep:
        replay = self.memory.decide(self.config.minibatch_size, self.setting.view, self.augment_rng)
        return HalStep(replay, self.memory.place(n), has_anchors=len(self.anchors) > 0)

    def compute(self, batch: Batch, now: HalStep) -> Step:
        # 1. Recall the draw.
        inputs, labels = batch.inputs, batch.labels
        if now.replay is not None:
            replay = self.memory.recall(now.replay, self.setting.view)
            inputs, labels = torch.cat([inputs, replay.inputs]), torch.cat([labels, replay.labels])
        # 2. One SGD step on replay and on the change of the anchors' outputs.
        ce = F.cross_entropy(self.net(inputs), labels)
        losses = {"loss": ce}
        self.weights.backward(ce)
        if now.has_anchors:
            change = self._change()
            torch.autograd.backward(self.config.hal_lambda * change)
            losses = {"loss": ce + self.config.hal_lambda * change, "ce": ce, "change": change}
        self.optimizer.step()
        # 3. The mean embedding follows.
        with torch.no_grad(), evaluating(self.net):
            self.embedding.lerp_(self.net.features(batch.inputs).mean(0).to(self.embedding), 1 - self.config.beta)
        # 4. The raw stream batch enters memory.
        self.memory.put(now.places, Samples(batch.raw, batch.labels))
        return Step({name: term.detach() for name, term in losses.items()})

    def _change(self) -> Tensor:
        """Mean squared change of the anchors' outputs by a step along the gradients; the weights are put back."""
        began = self.weights.values.clone()
        self.optimizer.step()
        # In training mode: the running statistics of a BatchNorm do not fit weights that have just moved.
        with torch.no_grad():
            ahead = self.net(self.anchors)
        self.weights.values.copy_(began)
        return F.mse_loss(self.net(self.anchors), ahead)

    def end_task(self, task: Task) -> None:
        # 5. An anchor for each class of the task.
        forgetful = self._fine_tuned()
        labels = torch.tensor(task.classes, device=self.embedding.device)
        shape = self.setting.view.plain(self.memory.all().raw[:1]).shape[1:]
        random = torch.from_numpy(self.anchor_rng.random((len(labels), *shape)))
        anchors = random.to(self.embedding)
        with evaluating(self.net), evaluating(forgetful):
            for _ in range(self.config.steps_on_anchors):
                anchors.requires_grad_()
                value = anchor_value(self.net, forgetful, anchors, labels, self.embedding, self.config.gamma)
                (gradient,) = torch.autograd.grad(value, anchors)
                anchors = anchors.detach() + self.config.lr * gradient
        self.anchors = torch.cat([self.anchors, anchors]) if len(self.anchors) else anchors
        self.embedding.zero_()
        self.memory.next_section()

    def _fine_tuned(self) -> Backbone:
        """A copy of the network that went on learning from memory."""
        net = twin(self.net)
        weights = Flat(net)
        optimizer = self.setting.optimizer(weights, self.config.lr)
        memory = self.memory.all()
        n_batches = math.ceil(len(memory) / self.config.minibatch_size)
        for _ in range(self.config.finetuning_epochs):
            order = torch.from_numpy(self.order_rng.permutation(len(memory))).to(memory.labels.device)
            for chosen in order.tensor_split(n_batches):
                draws = self.setting.view.decide(len(chosen), self.finetuning_augment_rng)
                inputs = self.setting.view(memory.raw[chosen], draws)
                weights.backward(F.cross_entropy(net(inputs), memory.labels[chosen]))
                optimizer.step()
        return net

    def predictors(self) -> dict[str, Predictor]:
        return {"working": Answer(self.net)}


def anchor_value(
    net: Backbone, forgetful: Backbone, anchors: Tensor, labels: Tensor, embedding: Tensor, gamma: float
) -> Tensor:
    """The value that each anchor climbs, summed over anchors `[A, ...]`; they do not depend on one another.

    Args:
        net: the network as it is; forgetful: as it will be when it has learned on.
        labels: class of each anchor, `int64 [A]`.
        embedding: running mean of features, `[D]`.
        gamma: weight of the squared distance to it.
    """
    features = net.features(anchors)
    forgotten = F.cross_entropy(forgetful(anchors), labels, reduction="sum")
    now = F.cross_entropy(net.classifier(features), labels, reduction="sum")
    return forgotten - now - gamma * (features - embedding).square().sum()
