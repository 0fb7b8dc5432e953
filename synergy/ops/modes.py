"""The mode of a network, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Within, every module is in evaluation mode; afterwards each is in the mode it was in."""
    training = [module for module in net.modules() if module.training]
    for module in training:
        _set(module, False)
    try:
        yield
    finally:
        for module in training:
            _set(module, True)


def _set(module: nn.Module, training: bool) -> None:
    if type(module).__setattr__ is nn.Module.__setattr__:
        # Its own assignment looks for parameters, buffers and modules first, which takes longer than a small layer.
        vars(module)["training"] = training
    else:
        module.training = training
