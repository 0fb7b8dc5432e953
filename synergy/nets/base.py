"""What a network is for the command line: a class with options, built for samples of one shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, Self, TypeVar

import torch
from torch import nn

from synergy.errors import UsageError
from synergy.options import Options
from synergy.randomness import TorchRandomness

NETWORK_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AssertionError, AttributeError)
"""What a network raises for samples or sizes that it was not made for."""


@dataclass(frozen=True)
class NetConfig(Options):
    """Options of a network; none by default."""

    @property
    def reduced(self) -> bool:
        """Whether the network is smaller than that of the benchmark. A run with it is a partial one."""
        return False


ConfigT = TypeVar("ConfigT", bound=NetConfig)


class Network(nn.Module, ABC, Generic[ConfigT]):
    """Base of a network with options: `--net` names its class, and flags follow from its `Config`.

    A class without options needs no base but `nn.Module`; see `build`.

    Examples:
        >>> from synergy.options import option
        >>> @dataclass(frozen=True)
        ... class DeepConfig(NetConfig):
        ...     depth: int = option(2, "hidden layers", low=1)
        >>> class Deep(Network[DeepConfig]):
        ...     Config = DeepConfig
        ...
        ...     def __init__(self, sizes):
        ...         super().__init__()
        ...         self.layers = nn.Sequential(*(nn.Linear(*pair) for pair in zip(sizes, sizes[1:])))
        ...
        ...     @classmethod
        ...     def build(cls, config, shape, n_classes, generator):
        ...         return cls([shape[0], *[32] * config.depth, n_classes])
        ...
        ...     def forward(self, inputs):
        ...         return self.layers(inputs)
        >>> net = build(Deep, DeepConfig(depth=3), (8,), 5, torch.Generator().manual_seed(0))
        >>> len(net.layers), net(torch.zeros(2, 8)).shape
        (4, torch.Size([2, 5]))
    """

    Config: ClassVar[type[NetConfig]] = NetConfig

    @classmethod
    @abstractmethod
    def build(cls, config: ConfigT, shape: tuple[int, ...], n_classes: int, generator: torch.Generator) -> Self:
        """A network on the CPU that maps `[B, *shape]` to logits `[B, n_classes]`.

        Args:
            config: its options.
            shape: of a sample as the network sees it, such as `(1, 28, 28)`.
            n_classes: outputs.
            generator: draws the initial weights, on the CPU. Layers that PyTorch initialises by itself draw from
                PyTorch's global generator, which starts from the seed of this one and is put back afterwards.
        """

    @classmethod
    def versions(cls, config: ConfigT) -> dict[str, str]:
        """What else decides the network, for the record: releases of libraries and hashes of files, by name."""
        return {}


def build(
    kind: type[nn.Module], config: NetConfig, shape: tuple[int, ...], n_classes: int, generator: torch.Generator
) -> nn.Module:
    """A network on the CPU. Equal arguments, and a generator of equal seed, give equal weights.

    A class derived from `Network` is built by its `build`. Any other class of `nn.Module` is called with two arguments:
    `kind(shape, n_classes)`.

    Raises:
        UsageError: the class has options but does not derive from `Network`.

    Examples:
        >>> class Flat(nn.Sequential):
        ...     def __init__(self, shape, n_classes):
        ...         super().__init__(nn.Flatten(), nn.Linear(shape[0] * shape[1], n_classes))
        >>> one, two = (build(Flat, NetConfig(), (4, 4), 3, torch.Generator().manual_seed(0)) for _ in range(2))
        >>> torch.equal(one[1].weight, two[1].weight)
        True
    """
    with TorchRandomness(generator.initial_seed(), "network/layers", torch.device("cpu")).drawing():
        if issubclass(kind, Network):
            return kind.build(config, shape, n_classes, generator)
        if type(config) is not NetConfig:
            raise UsageError(f"network {kind.__name__}: it has options; derive it from synergy.nets.base.Network")
        return kind(shape, n_classes)
