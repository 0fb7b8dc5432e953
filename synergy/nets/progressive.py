"""Progressive networks: a column for each task, with connections from the columns before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from synergy.nets.mlp import MLP, linear
from synergy.nets.resnet import STRIDES, ResNet18, initialise

Layers = Sequence[Tensor]
"""Outputs of a column for a batch: one for each layer that a connection leaves, then the logits."""


class Column(nn.Module, ABC):
    """A network whose layers, from the second on, also take the layer below of all earlier columns as input.

    Reference: Rusu et al. 2016, "Progressive Neural Networks", eq. 2: with h_i the activations of layer i and h_i^<
    those of all earlier columns side by side,

        h_1 = relu(W_1 x),   h_i = relu(W_i h_(i-1) + U_i relu(V_i h_(i-1)^<)),   and the logits likewise, without relu.

    The paper's scalar in front of h^< is left out: the scale of V does the same.

    Args:
        own: the column by itself (W).
        adapters: U relu(V h^<) for each layer from the second on; empty in the first column.
    """

    def __init__(self, own: nn.Module, adapters: Sequence[nn.Module]) -> None:
        super().__init__()
        self.own = own
        self.adapters = nn.ModuleList(adapters)

    @abstractmethod
    def forward(self, inputs: Tensor, earlier: Sequence[Layers]) -> Layers:
        """Inputs `[B, ...]` and the layers of every earlier column -> the layers of this column, logits last."""

    def lateral(self, layer: int, earlier: Sequence[Layers]) -> Tensor | None:
        """The sum's part from `layer` (from 0) of the earlier columns; None in the first column."""
        if not earlier:
            return None
        side: Tensor = self.adapters[layer](torch.cat([layers[layer] for layers in earlier], 1))
        return side

    def join(self, own: Tensor, layer: int, earlier: Sequence[Layers]) -> Tensor:
        """The column's `own` part of a sum, plus the part from `layer` of the earlier columns."""
        side = self.lateral(layer, earlier)
        return own if side is None else own + side


class MLPColumn(Column):
    """An MLP with connections into its second layer and its classifier.

    Args:
        own: the column by itself.
        earlier: number of columns before it, of the same shape.
        generator: draws the initial weights of the connections, on the CPU.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> first = MLPColumn(MLP(4, 2, 3, generator=generator), 0, generator)
        >>> second = MLPColumn(MLP(4, 2, 3, generator=generator), 1, generator)
        >>> [layer.shape[1] for layer in second(torch.zeros(1, 4), [first(torch.zeros(1, 4), [])])]
        [3, 3, 2]
    """

    own: MLP

    def __init__(self, own: MLP, earlier: int, generator: torch.Generator) -> None:
        into = [own.fc2, own.classifier] if earlier else []
        super().__init__(own, [self._adapter(layer, earlier, generator) for layer in into])

    @staticmethod
    def _adapter(into: nn.Linear, columns: int, generator: torch.Generator) -> nn.Sequential:
        width = into.in_features
        narrow = linear(columns * width, width, generator)
        wide = linear(width, into.out_features, generator, bias=False)
        return nn.Sequential(narrow, nn.ReLU(), wide).to(into.weight)

    def forward(self, inputs: Tensor, earlier: Sequence[Layers]) -> Layers:
        own = self.own
        h1 = torch.relu(own.fc1(inputs.flatten(1)))
        h2 = torch.relu(self.join(own.fc2(h1), 0, earlier))
        return h1, h2, self.join(own.classifier(h2), 1, earlier)


class ResNetColumn(Column):
    """A ResNet-18 with connections into each of its four stages and its classifier.

    The layers of the equation are the stem, the stages and the classifier. The classifier takes the last stage averaged
    over positions. A connection enters a stage where its first block adds the shortcut, before the ReLU: the rest of
    the stage works on the sum. For feature maps V and U are 1x1 convolutions without BatchNorm; V has the stride of
    the stage and a bias.

    Args:
        own: the column by itself.
        earlier: number of columns before it, of the same shape.
        generator: draws the initial weights of the connections, on the CPU.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> column = ResNetColumn(ResNet18(2, width=1, generator=generator), 0, generator)
        >>> [layer.shape[1] for layer in column(torch.zeros(2, 3, 8, 8), [])]
        [1, 1, 2, 4, 8, 2]
    """

    own: ResNet18

    def __init__(self, own: ResNet18, earlier: int, generator: torch.Generator) -> None:
        super().__init__(own, self._adapters(own, earlier) if earlier else [])
        if earlier:
            initialise(self.adapters.to_empty(device="cpu"), generator)
            self.adapters.to(own.classifier.weight)

    @staticmethod
    def _adapters(own: ResNet18, columns: int) -> list[nn.Module]:
        """Layers without values: their own initialisation would draw from the global generator."""
        features, n_classes = own.classifier.in_features, own.classifier.out_features
        with torch.device("meta"):
            into_stages = [
                # The stride is in V: U works position by position, so the sum is the same and the work less.
                nn.Sequential(
                    nn.Conv2d(columns * inputs, inputs, 1, stride), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False)
                )
                for (inputs, outputs), stride in zip(pairwise(own.channels), STRIDES, strict=True)
            ]
            into_classifier = nn.Sequential(
                nn.Linear(columns * features, features), nn.ReLU(), nn.Linear(features, n_classes, bias=False)
            )
        return [*into_stages, into_classifier]

    def forward(self, inputs: Tensor, earlier: Sequence[Layers]) -> Layers:
        own = self.own
        layers = [own.stem(inputs)]
        for number, (first, second) in enumerate(own.stages):
            layers.append(second(first(layers[-1], self.lateral(number, earlier))))
        layers[-1] = layers[-1].mean((2, 3))
        return *layers, self.join(own.classifier(layers[-1]), len(own.stages), earlier)


class Progressive(nn.Module):
    """Columns. The newest one learns; all others are frozen, in evaluation mode and without gradients.

    Examples:
        >>> generator, net = torch.Generator().manual_seed(0), Progressive()
        >>> for _ in range(2):
        ...     column = net.add(MLP(4, 2, 3, generator=generator), generator)
        >>> net(torch.zeros(5, 4)).shape
        torch.Size([2, 5, 2])
    """

    def __init__(self) -> None:
        super().__init__()
        self.columns = nn.ModuleList()

    def add(self, own: MLP | ResNet18, generator: torch.Generator) -> Column:
        """Freeze all columns, and add one with connections from them."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        earlier = len(self.columns)
        column = MLPColumn(own, earlier, generator) if isinstance(own, MLP) else ResNetColumn(own, earlier, generator)
        self.columns.append(column)
        self.train(self.training)
        return column

    def train(self, mode: bool = True) -> Progressive:
        """Set the mode of the newest column; all others stay in evaluation mode and keep their running statistics."""
        super().train(mode)
        for column in self.columns[:-1]:
            column.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> logits of every column, `[columns, B, n_classes]`, in the precision of the parameters."""
        seen: list[Layers] = []
        for column in self.columns:
            seen.append(column(inputs, seen))
        return torch.stack([layers[-1] for layers in seen]).to(next(self.parameters()).dtype)
