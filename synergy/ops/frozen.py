"""The frozen parameters of a network: they are named and recognised, but not saved with what learns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from synergy.state import State

KEY = "frozen"
"""Under it a state without frozen parameters has their fingerprint; no parameter can be called so."""


@dataclass(frozen=True)
class Frozen:
    """The parameters of a network that ask for no gradient.

    Attributes:
        names: in the network.
        fingerprint: changes when a value does.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 3).requires_grad_(False), nn.Linear(3, 1))
        >>> sorted(Frozen.of(net).names)
        ['0.bias', '0.weight']
    """

    names: frozenset[str]
    fingerprint: str

    @classmethod
    def of(cls, net: nn.Module) -> Self:
        """Those of a network as it is now."""
        found = {name: parameter for name, parameter in net.named_parameters() if not parameter.requires_grad}
        return cls(frozenset(found), fingerprint(found.values()) if found else "")


class Thawed:
    """A network whose state leaves frozen parameters out.

    Args:
        net: has the frozen parameters.
        frozen: their names and fingerprint.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 3).requires_grad_(False), nn.Linear(3, 1))
        >>> list(Thawed(net, Frozen.of(net)).state_dict())
        ['1.weight', '1.bias', 'frozen']
    """

    def __init__(self, net: nn.Module, frozen: Frozen) -> None:
        self._net = net
        self._frozen = frozen

    def state_dict(self) -> State:
        """The trained parameters and the buffers, and the fingerprint of the rest."""
        whole = self._net.state_dict()
        kept = {name: value for name, value in whole.items() if name not in self._frozen.names}
        return {**kept, KEY: self._frozen.fingerprint}

    def load_state_dict(self, state: State) -> None:
        """Take over a state. Raises ValueError if it was taken beside other frozen parameters, or is of another net."""
        tensors = {name: value for name, value in state.items() if name != KEY}
        if state.get(KEY, self._frozen.fingerprint) != self._frozen.fingerprint:
            raise ValueError("the frozen weights are others than those it was saved with")
        present = self._net.state_dict()
        missing = present.keys() - tensors.keys() - self._frozen.names
        if missing or tensors.keys() - present.keys():
            raise ValueError(f"it has {sorted(tensors)}, expected {sorted(present.keys() - self._frozen.names)}")
        for name, value in tensors.items():
            if (value.shape, value.dtype) != (present[name].shape, present[name].dtype):
                raise ValueError(f"'{name}' is {value.dtype} {list(value.shape)}, which the network has not")
        self._net.load_state_dict(tensors, strict=False)


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Such as "sha256 2cf24dba5fb0a30e": the first digits of the hash of types, shapes and bytes.

    Examples:
        >>> fingerprint([torch.zeros(2)])
        'sha256 ca4186df3f40042f'
    """
    found = hashlib.sha256()
    for value in tensors:
        plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(f"{value.dtype} {list(value.shape)}".encode())
        found.update(plain.numpy().data)
    return f"sha256 {found.hexdigest()[:16]}"
