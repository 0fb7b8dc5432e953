"""GDumb: greedy sampler and dumb learner."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from synergy.errors import TrainingError, UsageError
from synergy.memory.class_balanced import ClassBalanced
from synergy.memory.store import Samples, check_room
from synergy.methods.base import Answer, Method, ReplayConfig, Setting
from synergy.ops.vectors import Flat
from synergy.options import option
from synergy.state import State
from synergy.types import Batch, Predictor, Step


@dataclass(frozen=True)
class GdumbConfig(ReplayConfig):
    """Options of GDumb."""

    lr: float = option(0.05, "learning rate of plain SGD at the start of a fit, unless maxlr is given", low=0)
    buffer_size: int = option(500, "samples the memory holds, as equal a number of each class as possible", low=1)
    minibatch_size: int = option(16, "samples of a batch of a fit", low=1)
    maxlr: float | None = option(None, "learning rate at the start of a fit; by default lr", low=0)
    minlr: float = option(0.0005, "learning rate at the end of a fit", low=0)
    fitting_epochs: int = option(256, "passes of a fit over memory", low=1)

    @property
    def highest(self) -> float:
        """Learning rate at the start of a fit."""
        return self.lr if self.maxlr is None else self.maxlr

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minlr > self.highest:
            raise UsageError(
                f"minlr: given {self.minlr}; allowed: at most {self.highest}, the learning rate at the start "
                f"({'lr' if self.maxlr is None else 'maxlr'})"
            )


class GDumb(Method[GdumbConfig]):
    """Only store, in balance; when asked, train a fresh network on what is stored.

    Reference: Prabhu, Torr & Dokania 2020, "GDumb: A Simple Approach that Questions Our Progress in Continual
    Learning", ECCV.

    Update rule:

    1. The raw x is offered to a greedy class-balanced memory.
    2. When an answer is asked for: a network with fresh weights, the same each time, takes `fitting_epochs` passes over
       memory, in random order, augmented, in even batches of at most `minibatch_size`, with one SGD step each on
       CE(f(x_m), y_m). The learning rate falls along half a cosine from maxlr to minlr. The fit is kept until memory
       changes.

    Deviations: plain SGD and one fall of the learning rate. The paper's learner also has momentum, weight decay,
    CutMix, warm restarts and a first epoch at a low rate; no method that it is compared with here has them.

    Steps wait for the device: the memory reads the labels on the host.

    Examples:
        >>> from synergy import testing
        >>> testing.trained("gdumb", "seq-digits", buffer_size=20).memory.counts().tolist()
        [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """

    Config = GdumbConfig
    waits = "its memory reads the labels on the host"
    trains_to_answer = True

    def __init__(self, config: GdumbConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        check_room(config.buffer_size, setting.n_classes, "class")
        self.memory = ClassBalanced(config.buffer_size, setting.rng("memory"))
        self.fitted = Fitted()

    def compute(self, batch: Batch, now: None) -> Step:
        # 1. Store in balance.
        if self.memory.offer(Samples(batch.raw, batch.labels)):
            self.fitted.net = None
        return Step({})

    def memory_changed(self) -> None:
        self.fitted.net = None

    def predictors(self) -> dict[str, Predictor]:
        if not len(self.memory):
            return {}
        if self.fitted.net is None:
            self.fitted.net = self._fit()
        return {"fitted": Answer(self.fitted.net)}

    def _fit(self) -> nn.Module:
        """Depends on the memory and the seed alone."""
        config, memory = self.config, self.memory.all()
        net = self.setting.build_net("fit")
        weights = Flat(net)
        order_rng, augment_rng = self.setting.rng("order"), self.setting.rng("augment")
        optimizer = self.setting.optimizer(weights, config.highest)
        n_batches = math.ceil(len(memory) / config.minibatch_size)
        schedule = CosineAnnealingLR(optimizer, config.fitting_epochs * n_batches, config.minlr)
        for _ in range(config.fitting_epochs):
            order = torch.from_numpy(order_rng.permutation(len(memory))).to(memory.labels.device)
            for chosen in order.tensor_split(n_batches):
                inputs = self.setting.view(memory.raw[chosen], self.setting.view.decide(len(chosen), augment_rng))
                weights.backward(F.cross_entropy(net(inputs), memory.labels[chosen]))
                optimizer.step()
                schedule.step()
        if not weights.values.isfinite().all():
            raise TrainingError(f"a fit with a learning rate of {config.highest} diverged; lower lr (or maxlr)")
        return net


class Fitted:
    """The network that was fitted on the present memory. It follows from the memory and has no state of its own.

    Examples:
        >>> fitted = Fitted()
        >>> fitted.net = nn.Linear(2, 2)
        >>> fitted.load_state_dict({})
        >>> fitted.net is None
        True
    """

    def __init__(self) -> None:
        self.net: nn.Module | None = None

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        """Drop the fit: the memory may have changed."""
        self.net = None
