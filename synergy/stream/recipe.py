"""How a learner makes its method: all that it was given, put together when the first batch has come."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import nn

from synergy.data.view import ImageView
from synergy.device import autocast, find_device, usual_fisher_memory, usual_precision
from synergy.engine.optimizers import OptimizerFactory, SchedulerFactory, optimizer_maker, schedules
from synergy.engine.worker import Means, Worker
from synergy.errors import UsageError
from synergy.methods.base import Budget, Method, MethodConfig, Setting, make_method
from synergy.ops.objectives import CROSS_ENTROPY, SQUARED_ERROR, Objective, weighted_cross_entropy
from synergy.stream.labels import Labels
from synergy.stream.options import (
    SQUARED,
    StreamOptions,
    check_callables,
    check_weights,
    choose_method,
    split_options,
)
from synergy.stream.template import Template
from synergy.stream.view import StreamView

CHANCE = "learner/network"
"""Name of the generator that a network with dropout draws from."""


def make_recipe(
    net: nn.Module,
    method: str | type[Method[Any]],
    config: MethodConfig | None,
    options: Mapping[str, Any],
    class_weights: Mapping[Any, float] | None,
    device: str | None,
    callables: Mapping[str, Any],
) -> Recipe:
    """A recipe from the arguments of `Learner`.

    Args:
        net, method, config, options, class_weights, device: as in `Learner`.
        callables: transform, augment, optimizer and scheduler, by name; None for what was not given.

    Raises:
        UsageError: as `Learner`.
    """
    name, kind = choose_method(method)
    chosen, own = split_options(name, kind, config, options)
    transform, optimizer = callables["transform"], callables["optimizer"]
    check_callables(**{**callables, "transform": None if isinstance(transform, ImageView) else transform})
    if optimizer is not None and "lr" in options:
        raise UsageError("lr: given beside an optimizer; allowed: one of the two")
    template = Template(net, None if device is None else find_device(device), own.head)
    own = replace(
        own,
        precision=own.precision or usual_precision(template.device),
        fisher_memory_mb=own.fisher_memory_mb or usual_fisher_memory(template.device),
    )
    view = StreamView(transform, callables["augment"], template.dtype)
    weights = check_weights(class_weights, name, kind)
    return Recipe(name, kind, chosen, own, template, view, weights, optimizer, callables["scheduler"])


def make_labels(classes: Iterable[Hashable] | None, recipe: Recipe) -> Labels | None:
    """The labels that are named in advance; None where targets are numbers.

    Raises:
        UsageError: as `Labels`; classes or weights of classes are given where targets are numbers, or a weight is that
            of another label.
    """
    weights = recipe.class_weights
    if recipe.options.loss == SQUARED:
        if classes is not None or weights is not None:
            raise UsageError("classes: given with loss=mse, which has none; allowed: neither classes nor class_weights")
        return None
    labels = Labels(classes)
    for label in weights or ():
        if labels.fixed and label not in labels.known:
            raise UsageError(f"class_weights: given {label!r}; allowed: labels that are in classes")
    return labels


@dataclass(frozen=True)
class Recipe:
    """What a method is made of.

    Attributes:
        name, kind, config: of the method.
        options: of the learner; precision and bound of a Fisher pass are filled in.
        template: the network.
        view: what the network sees of stored samples.
        class_weights: by label; None where all count the same.
        optimizer, scheduler: make those; None for plain SGD, and for no schedule.

    Examples:
        >>> none = dict.fromkeys(["transform", "augment", "optimizer", "scheduler"])
        >>> recipe = make_recipe(nn.Linear(4, 2), "er", None, {"buffer_bytes": 1000}, None, None, none)
        >>> recipe.sized(sample=16, target=8, outputs=2).config.buffer_size
        41
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
        return autocast(self.precision, self.template.device)()

    @property
    def precision(self) -> str:
        """Of convolutions and matrix products."""
        assert self.options.precision is not None, "filled in by `make_recipe`"
        return self.options.precision

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

    def worker(self, outputs: int, labels: Labels | None, *, draws: bool, recomputes: bool | None = None) -> Worker:
        """A fresh method at work, for a network of so many outputs.

        Args:
            outputs: of the network.
            labels: known so far; None where targets are numbers.
            draws: whether the network draws random numbers in training, as dropout does.
            recomputes: whether its backward pass draws them again; None if nobody knows yet.

        Raises:
            UsageError: the method has no optimiser for the schedule.
        """
        options = self.options
        method = self.method(outputs, labels)
        means = Means(
            self.template.device, self.precision, options.seed, CHANCE, options.memory_on, eager=options.eager
        )
        schedulers = schedules(method, self.scheduler, self.name)
        return Worker(method, means, draws=draws, recomputes=recomputes, schedulers=schedulers)

    def method(self, outputs: int, labels: Labels | None) -> Method[Any]:
        """A fresh method for a network of so many outputs."""
        memory_mb = self.options.fisher_memory_mb
        assert memory_mb is not None, "filled in by `make_recipe`"
        setting = Setting(
            build_net=self.template.build,
            view=self.view,
            n_classes=outputs,
            seed=self.options.seed,
            fisher_memory_mb=memory_mb,
            objective=self.objective(outputs, labels),
            make_optimizer=optimizer_maker(self.optimizer, clip_norm=self.options.clip_norm),
            frozen=self.template.frozen,
        )
        return make_method(self.kind, self.config, setting, Budget())

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
