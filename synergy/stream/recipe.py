"""How a learner makes its method: all that it was given, put together when the first batch has come."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LRScheduler

from synergy import compute
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
        return compute.autocast(self.options.precision, self.template.device)()

    def output_shape(self, raw: Tensor, labels: Labels | None) -> list[int]:
        """The shape of the network's outputs for one sample, after a look whether it goes with samples and labels.

        Args:
            raw: stored samples `[B, ...]`.
            labels: None where targets are numbers.

        Raises:
            UsageError: the network cannot take the samples, or gives no logits, or not as many as there are classes.
        """
        answer = self.template.answer(self.view.plain(raw[:1]), self.autocast)
        shape = list(answer.shape[1:])
        if labels is None:
            return shape
        if len(shape) != 1:
            raise UsageError(f"network: its output has shape {list(answer.shape)}; allowed: logits [B, classes]")
        if not labels.fixed:
            self.template.find_head(shape[0])
        elif shape[0] != len(labels):
            raise UsageError(f"classes: given {len(labels)} for a network of {shape[0]} outputs; allowed: {shape[0]}")
        return shape

    def sized(self, sample: Tensor, target: Tensor | None, outputs: int) -> Self:
        """The same with a memory of as many samples as `buffer_bytes` hold, if that was given.

        Args:
            sample: one, as it is stored.
            target: that of a sample, where it is no label.
            outputs: of the network.

        Raises:
            UsageError: not even one fits.
        """
        available = self.options.buffer_bytes
        if available is None:
            return self
        of_outputs = len(self.kind.stored_outputs) * outputs * self.view.dtype.itemsize
        each = sample.nbytes + (torch.int64.itemsize if target is None else target.nbytes) + of_outputs
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
            augment=self.view,
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
        """One for each optimiser of the method, if there are to be any."""
        if self.scheduler is None:
            return []
        optimizers = [part for part in vars(method).values() if isinstance(part, torch.optim.Optimizer)]
        return [self.scheduler(optimizer) for optimizer in optimizers]

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
