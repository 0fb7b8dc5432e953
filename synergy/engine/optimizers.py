"""Optimisers and learning rate schedules of a user's own, checked when they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from synergy.errors import UsageError
from synergy.methods.base import Method

OptimizerFactory: TypeAlias = Callable[[list[nn.Parameter]], Optimizer]
SchedulerFactory: TypeAlias = Callable[[Optimizer], LRScheduler]
OptimizerMaker: TypeAlias = Callable[[list[nn.Parameter], float], Optimizer]


NAMED: Mapping[str, OptimizerMaker] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
"""Optimisers that need no more than parameters and a learning rate."""


def optimizer_maker(
    factory: OptimizerFactory | None = None,
    *,
    named: str = "sgd",
    clip_norm: float | None = None,
) -> OptimizerMaker:
    """What makes every optimiser of a method, for `Setting.make_optimizer`.

    Args:
        factory: makes one of a list of parameters.
        named: without a factory, the optimiser of torch to make with the learning rate: "sgd", "adam", "adamw",
            "rmsprop" or "adagrad".
        clip_norm: bound on the norm of a step's gradient; None for no bound.
    """

    def make(parameters: list[nn.Parameter], lr: float) -> Optimizer:
        optimizer = NAMED[named](parameters, lr) if factory is None else factory(parameters)
        _check(optimizer, parameters)
        if factory is None and parameters[0].is_cuda:
            _count_on_device(optimizer)
        if clip_norm is not None:
            _clip(optimizer, clip_norm)
        return optimizer

    return make


def _check(optimizer: Any, parameters: list[nn.Parameter]) -> None:
    if not isinstance(optimizer, Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
        raise UsageError(
            f"optimizer: it made a {type(optimizer).__name__}; allowed: a torch.optim.Optimizer whose step needs "
            "no closure, made of the parameters it is given"
        )
    if {id(each) for group in optimizer.param_groups for each in group["params"]} != set(map(id, parameters)):
        raise UsageError(
            "optimizer: it made one of other parameters than those it was given; allowed: "
            "lambda parameters: torch.optim.Adam(parameters), since a copy of the network is trained"
        )


def _count_on_device(optimizer: Optimizer) -> None:
    """Let an optimiser count its steps on the device, if it can, so that a recorded step goes on counting."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True


def _clip(optimizer: Optimizer, bound: float) -> None:
    def clip(stepping: Optimizer, *_: object) -> None:
        clip_grad_norm_([each for group in stepping.param_groups for each in group["params"]], bound)

    optimizer.register_step_pre_hook(clip)


def schedules(method: Method[Any], factory: SchedulerFactory | None, name: str) -> list[LRScheduler]:
    """A schedule for each optimiser of the method; none without a factory.

    Args:
        method: fresh.
        factory: makes a schedule of an optimiser.
        name: of the method, for errors.

    Raises:
        UsageError: no optimiser of the method takes a step at every batch of the stream, or something else than a
            schedule was made.
    """
    if factory is None:
        return []
    optimizers = [part for part in vars(method).values() if isinstance(part, Optimizer)]
    if not optimizers or method.no_schedule is not None:
        reason = method.no_schedule or "has no optimiser between batches"
        raise UsageError(f"scheduler: given for {name}, which {reason}; allowed: none")
    made = [factory(optimizer) for optimizer in optimizers]
    for each in made:
        if not isinstance(each, LRScheduler) or isinstance(each, ReduceLROnPlateau):
            raise UsageError(
                f"scheduler: it made a {type(each).__name__}; allowed: a torch.optim.lr_scheduler that needs no "
                "measure, made of an optimiser"
            )
    return made
