"""Gradients of single samples: vectorised, or one sample at a time where torch cannot vectorise a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from synergy.errors import SHORTAGES
from synergy.ops.passes import gradients_aside, put_back

T = TypeVar("T")

LogLikelihood: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Outputs of the network `[N, ...]` and targets `[N, ...]` -> log-likelihood of each sample `[N]`."""


@dataclass(frozen=True)
class Singles:
    """Gradients of single samples.

    Attributes:
        grads: for each parameter, by its name in the network: `[N, ...]`, in the parameter's shape.
        scores: the differentiated values, `[N]`.
        vectorised: whether one pass sufficed for all samples.
    """

    grads: dict[str, Tensor]
    scores: Tensor
    vectorised: bool


def single_gradients(
    net: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor, targets: Tensor, score: LogLikelihood
) -> Singles:
    """The gradient of every sample's own score by `parameters`: vectorised, or where that fails one sample at a time.

    Args:
        net: it is left as it was.
        parameters: some of the network's, by name.
        inputs: `[N, ...]`, N at least 1.
        targets: `[N, ...]`.
        score: outputs `[1, ...]` and targets `[1, ...]` -> `[1]`.
    """
    found = attempt(partial(_vectorised, net, parameters, inputs, targets, score))
    return _one_by_one(net, parameters, inputs, targets, score) if found is None else found


def _vectorised(
    net: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor, targets: Tensor, score: LogLikelihood
) -> Singles:
    def of_sample(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return score(functional_call(net, values, (x[None],)), y[None]).sum()

    values = {name: parameter.detach() for name, parameter in parameters.items()}
    with put_back(net), torch.no_grad():
        grads, scores = vmap(grad_and_value(of_sample), in_dims=(None, 0, 0))(values, inputs, targets)
    return Singles(grads, scores, vectorised=True)


def _one_by_one(
    net: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor, targets: Tensor, score: LogLikelihood
) -> Singles:
    rows: dict[str, list[Tensor]] = {name: [] for name in parameters}
    scores = []
    with torch.enable_grad():
        for x, y in zip(inputs.detach().split(1), targets.split(1), strict=True):
            with put_back(net), gradients_aside(net):
                value = score(net(x), y).sum()
                # A network with checkpoints inside may refuse `torch.autograd.grad`.
                if value.requires_grad:
                    torch.autograd.backward(value)
                for name, parameter in parameters.items():
                    rows[name].append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            scores.append(value.detach())
    grads = {name: torch.stack([grad.detach().to_dense() for grad in of_one]) for name, of_one in rows.items()}
    return Singles(grads, torch.stack(scores), vectorised=False)


CANNOT = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""Errors of torch where it cannot vectorise or record a network, and of a network's code where it meets such a tensor.

A defect of the network itself raises the same error again in the simpler way, which lets it through.
"""


def attempt(compute: Callable[[], T]) -> T | None:
    """The result; None if the network cannot be vectorised or recorded and needs a simpler way.

    An error about memory is raised: the remedy is a smaller `memory_mb`.
    """
    try:
        return compute()
    except CANNOT as error:
        if _is_shortage(error):
            raise
    return None


def _is_shortage(error: Exception) -> bool:
    shortages = (*SHORTAGES, "out of memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(shortage in str(error) for shortage in shortages)
