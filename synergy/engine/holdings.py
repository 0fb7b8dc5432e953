"""What a recorded step looks at: tensors at their addresses, settings of optimisers. And what cannot be recorded."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from synergy.memory.base import Memory
from synergy.methods.base import Method
from synergy.ops.vectors import Flat, PerParameter


def why_not(method: Method[Any]) -> str | None:
    """Why no step of a method can be recorded; None if nothing is against it."""
    return _waiting(method) or _counting(method)


def _waiting(method: Method[Any]) -> str | None:
    if method.waits is not None:
        return f"{type(method).__name__} waits for the device: {method.waits}"
    if any(memory.store.on_host for memory in method.memories()):
        return "the memory is on the host"
    return None


def _counting(method: Method[Any]) -> str | None:
    """Whether an optimiser counts its steps on the host: a recording would stay at the first one."""
    for optimizer in _optimizers(method):
        on_device = all(group.get("capturable") for group in optimizer.param_groups)
        if type(optimizer) is not torch.optim.SGD and not on_device:
            return f"the optimiser {type(optimizer).__name__} counts on the host"
    return None


def _optimizers(method: Method[Any]) -> list[Optimizer]:
    return [part for part in vars(method).values() if isinstance(part, Optimizer)]


def settings(method: Method[Any]) -> Iterator[Hashable]:
    """The settings of all optimisers, such as the learning rate: a recording holds them as they were."""
    for optimizer in _optimizers(method):
        for group in optimizer.param_groups:
            for name, value in group.items():
                if name != "params":
                    yield value.data_ptr() if isinstance(value, Tensor) else value


def addresses(part: object) -> Iterator[Hashable]:
    """Where the tensors of a part of a method are; of a network the first parameter, since others move along."""
    if isinstance(part, Tensor):
        yield part.data_ptr(), part.shape
    elif isinstance(part, dict):
        for value in part.values():
            yield from addresses(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from addresses(value)
    elif isinstance(part, Flat):
        yield from addresses([part.values, part.grads])
    elif isinstance(part, PerParameter):
        yield from addresses(part.values)
    elif isinstance(part, Memory):
        yield from addresses(part.store.slots())
    elif isinstance(part, Optimizer):
        yield from addresses(list(part.state.values()))
    elif isinstance(part, nn.Module):
        yield id(part)
        yield from addresses(list(part.parameters())[:1])
