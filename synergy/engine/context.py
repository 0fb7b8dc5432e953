"""The context of a step: how exactly is computed, and which generator a network with dropout draws from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import deepcopy
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from synergy.device import autocast, exactness
from synergy.methods.base import Method
from synergy.ops.shadow import Shadowed, is_compiled
from synergy.ops.vectors import Flat
from synergy.randomness import TorchRandomness

Context: TypeAlias = Callable[[], AbstractContextManager[object]]


def step_context(
    precision: str, device: torch.device, chance: TorchRandomness | None = None, shadowed: Context = nullcontext
) -> Context:
    """The context of a step.

    Args:
        precision: "fp32", "tf32" or "bf16".
        device: of the network.
        chance: what the network draws from in training; None if it draws nothing, or if that is another context's.
        shadowed: in it, weights are cast together (see `weights_together`).
    """
    if precision == "fp32" and device.type == "cpu" and chance is None:
        return nullcontext

    @contextmanager
    def entered() -> Iterator[None]:
        with ExitStack() as stack:
            if device.type == "cuda":
                stack.enter_context(exactness(precision))
            stack.enter_context(autocast(precision, device)())
            stack.enter_context(shadowed())
            if chance is not None:
                stack.enter_context(chance.drawing())
            yield

    return entered


def weights_together(precision: str, method: Method[Any]) -> Context:
    """The context in which a method's networks have their weights cast together, where its precision casts them.

    Args:
        precision: "fp32", "tf32" or "bf16".
        method: has the networks.
    """
    nets = [part for part in vars(method).values() if isinstance(part, nn.Module)]
    if precision != "bf16" or any(map(is_compiled, nets)):
        return nullcontext
    return lambda: Shadowed([part for part in vars(method).values() if isinstance(part, Flat)])


def draws_in_training(net: nn.Module, inputs: Tensor, randomness: TorchRandomness) -> bool:
    """Whether a network draws random numbers in training mode, as dropout does; a copy of it is asked.

    Args:
        net: left as it is.
        inputs: some samples as the network sees them, `[B, ...]`, B at least 2.
        randomness: lends the copy random numbers.
    """
    copy = deepcopy(net).train()
    with randomness.noticing() as watch, torch.no_grad():
        copy(inputs)
    return watch.drawn
