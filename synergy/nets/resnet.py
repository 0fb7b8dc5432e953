"""ResNet-18 for small images, the network of the CIFAR and Tiny-ImageNet benchmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.nets.backbone import Backbone
from synergy.nets.base import NetConfig, Network
from synergy.options import option

FULL_WIDTH = 64
COLOURS = 3
STRIDES = (1, 2, 2, 2)


@dataclass(frozen=True)
class ResNetConfig(NetConfig):
    """Options of the ResNet-18."""

    width: int = option(FULL_WIDTH, "channels of the first stage; fewer than 64 make a partial run", low=1)

    @property
    def reduced(self) -> bool:
        return self.width < FULL_WIDTH


class ResNet18(Backbone, Network[ResNetConfig]):
    """Four stages of two basic blocks behind a 3x3 stem without pooling.

    Reference: He et al. 2016, "Deep Residual Learning for Image Recognition", in the form for 32x32 images.

    Args:
        n_classes: outputs.
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        channels: of an image.
        generator: draws the initial weights, on the CPU.

    Examples:
        >>> net = ResNet18(10, width=2, generator=torch.Generator().manual_seed(0))
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    Config = ResNetConfig

    @classmethod
    def build(cls, config: ResNetConfig, shape: tuple[int, ...], n_classes: int, generator: torch.Generator) -> Self:
        channels = shape[0] if len(shape) == 3 else COLOURS
        return cls(n_classes, config.width, channels, generator=generator)

    def __init__(
        self, n_classes: int, width: int = FULL_WIDTH, channels: int = COLOURS, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        # On meta the layers have no values: their own initialisation would draw from the global generator.
        with torch.device("meta"):
            self.conv1 = _convolution(channels, width, 3)
            self.bn1 = nn.BatchNorm2d(width)
            self.channels = (width, *(width * 2**stage for stage in range(4)))
            """Output channels of the stem and of each stage."""
            self.layer1, self.layer2, self.layer3, self.layer4 = (
                _stage(*ends, stride) for ends, stride in zip(pairwise(self.channels), STRIDES, strict=True)
            )
            self.classifier = nn.Linear(8 * width, n_classes)
        self.to_empty(device="cpu")
        initialise(self, generator)

    def features(self, inputs: Tensor) -> Tensor:
        """`[B, channels, H, W]` -> `[B, 8 * width]`, averaged over positions.

        Raises:
            UsageError: the inputs are not images of so many channels.
        """
        channels = self.conv1.in_channels
        if inputs.dim() != 4 or inputs.shape[1] != channels:
            hint = " (give grey images three equal channels)" if channels == COLOURS else ""
            raise UsageError(
                f"inputs: given the shape {tuple(inputs.shape)}; allowed for this ResNet18: [B, {channels}, H, W]{hint}"
            )
        out = self.stem(inputs)
        for stage in self.stages:
            out = stage(out)
        return out.mean((2, 3))

    def stem(self, inputs: Tensor) -> Tensor:
        """`[B, channels, H, W]` -> inputs of the first stage, `[B, width, H, W]`."""
        return F.relu(self.bn1(self.conv1(inputs)), inplace=True)

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The four stages, two blocks each."""
        return self.layer1, self.layer2, self.layer3, self.layer4


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, and a shortcut around them.

    Examples:
        >>> with torch.device("meta"):
        ...     block = BasicBlock(3, 6, stride=2)
        ...     block(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 6, 4, 4])
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _convolution(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, inputs: Tensor, lateral: Tensor | None = None) -> Tensor:
        """`[B, inputs, H, W]` -> `[B, outputs, H / stride, W / stride]`; a `lateral` of that shape is added."""
        out = F.relu(self.bn1(self.conv1(inputs)), inplace=True)
        out = self.bn2(self.conv2(out)) + self.shortcut(inputs)
        if lateral is not None:
            out = out + lateral
        return F.relu(out, inplace=True)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))


def initialise(net: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's own initialisation of these layers, drawn from `generator`."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
