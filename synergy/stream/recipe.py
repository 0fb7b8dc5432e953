"""How a learner makes its method: all that it was given, put together when the first batch has come."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from synergy.device import autocast
from synergy.errors import UsageError
from synergy.methods.base import Method, MethodConfig, Setting, unheard
from synergy.ops.objectives import CROSS_ENTROPY, SQUARED_ERROR, Objective, weighted_cross_entropy
from synergy.stream.labels import Labels
from synergy.stream.options import StreamOptions
from synergy.stream.template import Template
from synergy.stream.view import StreamView
from synergy.types import Batch

OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]


@dataclass(frozen=True)
class Recipe:
    """What a method is made of.

    Attributes:
        name, kind, config: of the method.
        options: of the learner.
        template: the network.
        view: what the network sees of stored samples.
        class_weights: by label; None where all count the same.
        optimizer, scheduler: make those; None for plain SGD, and for no schedule.
    """

    name: str
    kind: type[Method[Any]]
    config: MethodConfig
    options: StreamOptions
    template: Template
    view: StreamView
    class_weights: Mapping[Hashable, float] | None
    optimizer: OptimizerFactory | None
    scheduler: SchedulerFactory | None

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a pass through the network."""
        return autocast(self.options.precision, self.template.device)()

    def sized(self, sample: int, target: int, outputs: int) -> Self:
        """The same with a memory of as many samples as `buffer_bytes` hold, if that was given.

        Args:
            sample: bytes of one, as it is stored.
            target: bytes of its label or numbers.
            outputs: of the network.

        Raises:
            UsageError: not even one fits.
        """
        available = self.options.buffer_bytes
        if available is None:
            return self
        of_outputs = len(self.kind.stored_outputs) * outputs * self.view.dtype.itemsize
        each = sample + target + of_outputs
        if available < each:
            raise UsageError(f"buffer_bytes: given {available}; allowed: at least {each}, the size of one sample")
        config = type(self.config)(**{**self.config.as_mapping(), "buffer_size": available // each})
        return replace(self, config=config)

    def method(
        self, outputs: int, labels: Labels | None, on_outputs: Callable[[Batch, Tensor], None] = unheard
    ) -> Method[Any]:
        """A fresh method for a network of so many outputs, which tells those of its steps to `on_outputs`."""
        setting = Setting(
            build_net=self.template.build,
            view=self.view,
            n_classes=outputs,
            seed=self.options.seed,
            fisher_memory_mb=self.options.fisher_memory_mb,
            objective=self.objective(outputs, labels),
            make_optimizer=self._make_optimizer,
            on_outputs=on_outputs,
        )
        method = self.kind(self.config, setting)
        for memory in method.memories():
            memory.store.on_host = self.options.memory_on == "host"
        return method

    def schedules(self, method: Method[Any]) -> list[LRScheduler]:
        """One for each optimiser of the method, if there are to be any.

        Raises:
            UsageError: the method has no optimiser, or what is made is no schedule.
        """
        if self.scheduler is None:
            return []
        optimizers = [part for part in vars(method).values() if isinstance(part, torch.optim.Optimizer)]
        if not optimizers:
            raise UsageError(f"scheduler: given for {self.name}, which has no optimiser between batches; allowed: none")
        made = [self.scheduler(optimizer) for optimizer in optimizers]
        for each in made:
            if not isinstance(each, LRScheduler) or isinstance(each, ReduceLROnPlateau):
                raise UsageError(
                    f"scheduler: it made a {type(each).__name__}; allowed: a torch.optim.lr_scheduler that needs no "
                    "measure, made of an optimiser"
                )
        return made

    def objective(self, outputs: int, labels: Labels | None) -> Objective:
        """What is minimised, with the weights of the labels known now."""
        if labels is None:
            return SQUARED_ERROR
        if self.class_weights is None:
            return CROSS_ENTROPY
        weights = [self.class_weights.get(label, 1.0) for label in labels.known]
        weights += [1.0] * (outputs - len(weights))
        return weighted_cross_entropy(torch.tensor(weights, dtype=self.view.dtype, device=self.template.device))

    def callables(self) -> dict[str, object]:
        """What no file can hold, by the names it is given by; None for what was not given."""
        return {
            "transform": self.view.transform,
            "augment": self.view.augment,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
        }

    def _make_optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(parameters, lr) if self.optimizer is None else self.optimizer(parameters)
        if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
            raise UsageError(
                f"optimizer: it made a {type(optimizer).__name__}; allowed: a torch.optim.Optimizer whose step needs "
                "no closure, made of the parameters it is given"
            )
        if {id(each) for group in optimizer.param_groups for each in group["params"]} != set(map(id, parameters)):
            raise UsageError(
                "optimizer: it made one of other parameters than those it was given; allowed: "
                "lambda parameters: torch.optim.Adam(parameters), since the learner trains a copy of the network"
            )
        if self.template.is_partly_frozen() and any(group.get("weight_decay") for group in optimizer.param_groups):
            raise UsageError(
                "optimizer: given one with weight_decay for a network with frozen parameters, which would shrink too; "
                "allowed: weight_decay=0, or a network without frozen parameters"
            )
        if self.options.clip_norm is not None:
            bound = self.options.clip_norm

            def clip(stepping: torch.optim.Optimizer, *_: object) -> None:
                clip_grad_norm_([each for group in stepping.param_groups for each in group["params"]], bound)

            optimizer.register_step_pre_hook(clip)
        return optimizer
