"""iCaRL: incremental classifier and representation learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.memory.base import Draw
from synergy.memory.herded import Herded
from synergy.memory.store import Samples, check_room, joined
from synergy.methods.base import Method, MethodConfig, Setting
from synergy.nets.backbone import Backbone, need_backbone
from synergy.ops.herding import herd
from synergy.ops.modes import evaluating
from synergy.ops.vectors import Flat, twin
from synergy.options import option
from synergy.types import Batch, Predictor, ProtocolName, Step, Task

CHUNK = 500
"""Samples whose features are computed at once."""

UNSEEN = -1e4
"""Score of a class without exemplars: below any that has some, and finite."""


@dataclass(frozen=True)
class IcarlConfig(MethodConfig):
    """Options of iCaRL."""

    buffer_size: int = option(500, "exemplars the memory holds, an equal share for each class seen so far", low=1)
    wd_reg: float = option(1e-5, "weight of the squared norm of all parameters", low=0)


@dataclass(frozen=True)
class IcarlStep:
    """The decisions of a step: the exemplars that join it (None without any), and whether there are old classes."""

    joining: Draw | None
    has_old: bool


class ICaRL(Method[IcarlConfig]):
    """Learn features with distillation and a few exemplars per class; answer with the nearest mean of exemplars.

    Reference: Rebuffi, Kolesnikov, Sperl & Lampert 2017, "iCaRL: Incremental Classifier and Representation Learning",
    CVPR.

    Update rule, with exemplars in memory M:

    1. Exemplars drawn from M, augmented, join the stream batch: as many as let each come once per epoch on average.
    2. One SGD step on BCE(f(x), t) + wd_reg * |theta|^2, mean over samples and the classes seen so far. For an old
       class t_k = sigmoid(f_old(x)_k), with f_old the network at the end of the last task. For a class of this task t_k
       = 1 if y = k, otherwise 0.
    3. At the end of a task every class seen has the same share of M: classes of this task choose exemplars by herding
       on features, the others keep their first ones.
    4. The answer is the class whose mean of exemplar features is nearest; features and means are scaled to length 1.

    Deviations: exemplars join the stream batches, so that there are as many steps as without them and batches are
    bigger; in the paper they join the training set. The published code does not scale features to length 1; the paper
    does. It takes the mean of BCE over classes, as here; the paper takes the sum. Its class means count empty slots;
    here they count exemplars alone. A class that comes again counts as one of its task, and its old exemplars as
    samples of it.

    Examples:
        >>> from synergy import testing
        >>> testing.trained("icarl", "seq-digits", buffer_size=50).memory.sizes
        [5, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    """

    Config = IcarlConfig
    needs_boundaries = True
    protocols: ClassVar[frozenset[ProtocolName]] = frozenset(("class-IL", "task-IL"))

    def __init__(self, config: IcarlConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        check_room(config.buffer_size, setting.n_classes, "class")
        self.net = need_backbone(setting.build_net("net"), "icarl")
        self.old = twin(self.net).eval()
        self.weights = Flat(self.net)
        self.optimizer = setting.optimizer(self.weights, config.lr)
        self.memory = Herded(config.buffer_size, setting.rng("replay"))
        self.augment_rng = setting.rng("augment")
        self.seen = torch.zeros(setting.n_classes, dtype=torch.bool, device=self.weights.values.device)
        self.distilled = self.seen.clone()
        """The old classes that this task does not bring again, `[n_classes]`."""
        self.per_sample = 0.0
        """Exemplars that join for each stream sample."""
        self.due = 0.0
        """The part of an exemplar that is due, less than one."""

    def begin_task(self, task: Task) -> None:
        self.distilled = self.seen.clone()
        self.distilled[list(task.classes)] = False
        self.seen[list(task.classes)] = True
        self.per_sample, self.due = len(self.memory) / len(task), 0.0

    def decide(self, n: int) -> IcarlStep:
        self.due += self.per_sample * n
        joining, self.due = int(self.due), self.due % 1
        view, rng = self.setting.view, self.augment_rng
        return IcarlStep(self.memory.decide(joining, view, rng) if joining else None, has_old=len(self.memory) > 0)

    def compute(self, batch: Batch, now: IcarlStep) -> Step:
        # 1. Exemplars join the stream batch.
        inputs, labels = batch.inputs, batch.labels
        if now.joining is not None:
            exemplars = self.memory.recall(now.joining, self.setting.view)
            inputs, labels = torch.cat([inputs, exemplars.inputs]), torch.cat([labels, exemplars.labels])
        # 2. One SGD step.
        bce = incremental_bce(self.net(inputs), self._targets(inputs, labels, now.has_old), self.seen)
        self.weights.backward(bce)
        self.weights.grads.add_(self.weights.values, alpha=2 * self.config.wd_reg)
        norm = self.weights.values @ self.weights.values
        self.optimizer.step()
        return Step({"loss": bce.detach() + self.config.wd_reg * norm, "bce": bce.detach(), "norm": norm})

    @torch.no_grad()
    def _targets(self, inputs: Tensor, labels: Tensor, has_old: bool) -> Tensor:
        # `F.one_hot` looks at the labels, which a step cannot wait for.
        targets = (labels[:, None] == torch.arange(self.setting.n_classes, device=labels.device)).to(inputs.dtype)
        return torch.where(self.distilled, self.old(inputs).sigmoid(), targets) if has_old else targets

    def end_task(self, task: Task) -> None:
        # 3. The same share of memory for every class.
        share = self.memory.share(task.classes)
        data = task.train()
        chosen = {}
        for label in task.classes:
            samples = Samples(data.raw, data.labels).select((data.labels == label).nonzero()[:, 0].cpu().numpy())
            if label in self.memory.classes:
                samples = joined([samples, self.memory.of(label)])
            best = herd(self._features(samples.raw), share)
            chosen[label] = samples.select(best.cpu().numpy())
        self.memory.refill(chosen)
        self.old.load_state_dict(self.net.state_dict())

    def _features(self, raw: Tensor) -> Tensor:
        plain = self.setting.view.plain
        return torch.cat([unit_features(self.net, plain(part)) for part in raw.split(CHUNK)])

    def predictors(self) -> dict[str, Predictor]:
        if not len(self.memory):
            return {}
        features = self._features(self.memory.all().raw)
        means = features.new_zeros(self.setting.n_classes, features.shape[1])
        means[self.memory.classes] = torch.stack([part.mean(0) for part in features.split(self.memory.sizes)])
        seen = torch.zeros_like(self.seen)
        seen[self.memory.classes] = True
        return {"nearest_mean": NearestMean(self.net, F.normalize(means), seen)}


@dataclass(frozen=True)
class NearestMean:
    """The score of a class is minus the squared distance of a sample's features to its mean.

    Attributes:
        net: gives the features, as it is when asked.
        means: of each class, `[n_classes, D]`.
        seen: whether a class has a mean, `bool [n_classes]`.
    """

    net: Backbone
    means: Tensor
    seen: Tensor

    def __call__(self, inputs: Tensor, /) -> Tensor:
        features = unit_features(self.net, inputs)
        return (-torch.cdist(features, self.means).square()).masked_fill(~self.seen, UNSEEN)


def unit_features(net: Backbone, inputs: Tensor) -> Tensor:
    """Features scaled to length 1, in evaluation mode and without gradient, `[B, D]`."""
    with torch.no_grad(), evaluating(net):
        return F.normalize(net.features(inputs).to(net.classifier.weight.dtype))


def incremental_bce(logits: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """Mean binary cross-entropy of `[B, K]` with soft targets `[B, K]` over the classes `seen` (`bool [K]`)."""
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (each * seen).sum() / (len(logits) * seen.sum())
