"""Evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

_ASSIGNMENT = nn.Module.__setattr__


class evaluating:  # noqa: N801  # a context, used as a verb
    """Within, every module of a network is in evaluation mode; afterwards each has its former mode again.

    Args:
        net: the network.

    Examples:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with evaluating(net):
        ...     [module.training for module in net.modules()]
        [False, False, False]
        >>> [module.training for module in net.modules()]
        [True, True, False]
    """

    __slots__ = ("_net", "_training")

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._training: list[nn.Module] = []

    def __enter__(self) -> None:
        self._training = [module for module in _modules(self._net) if module.training]
        _set(self._training, False)

    def __exit__(self, *_: object) -> None:
        _set(self._training, True)


def _modules(net: nn.Module) -> list[nn.Module]:
    """A network and all its parts; a part in several places is listed for each place."""
    found = [net]
    for module in found:  # the list grows in the loop
        if module._modules:
            found += [part for part in module._modules.values() if part is not None]
    return found


def _set(modules: Sequence[nn.Module], training: bool) -> None:
    for module in modules:
        if type(module).__setattr__ is _ASSIGNMENT:
            # `nn.Module.__setattr__` looks for parameters, buffers and modules first, which takes longer than a
            # small layer.
            module.__dict__["training"] = training
        else:
            module.training = training
