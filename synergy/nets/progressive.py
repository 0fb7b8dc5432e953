"""Progressive networks: a column for each task, with connections from the columns before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synergy.nets.mlp import MLP, linear


class Column(nn.Module):
    """An MLP whose second layer and classifier also see the layer below them in all earlier columns.

    Reference: Rusu et al. 2016, "Progressive Neural Networks", eq. 2: with h_i the activations of layer i and h_i^<
    those of all earlier columns side by side,

        h_1 = relu(W_1 x),   h_2 = relu(W_2 h_1 + U_2 relu(V_2 h_1^<)),   logits = W_3 h_2 + U_3 relu(V_3 h_2^<).

    The paper's scalar in front of h^< is left out: the scale of V does the same.

    Args:
        own: the column by itself (W).
        earlier: columns before it, of the same shape.
        generator: draws the initial weights of the connections, on the CPU.
    """

    def __init__(self, own: MLP, earlier: int, generator: torch.Generator) -> None:
        super().__init__()
        self.own = own
        self.to_hidden = _adapter(own.fc1, own.fc2, earlier, generator) if earlier else None
        self.to_logits = _adapter(own.fc2, own.classifier, earlier, generator) if earlier else None

    def forward(self, inputs: Tensor, first: list[Tensor], second: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs `[B, ...]` and both hidden layers of every earlier column, `[B, hidden]` each; h_1, h_2 and logits."""
        own = self.own
        h1 = torch.relu(own.fc1(inputs.flatten(1)))
        below = own.fc2(h1) if self.to_hidden is None else own.fc2(h1) + self.to_hidden(torch.cat(first, 1))
        h2 = torch.relu(below)
        logits = own.classifier(h2)
        return h1, h2, logits if self.to_logits is None else logits + self.to_logits(torch.cat(second, 1))


class Progressive(nn.Module):
    """Columns, of which only the newest has gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = nn.ModuleList()

    def add(self, own: MLP, generator: torch.Generator) -> Column:
        """A new column with connections from all others, which are frozen."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        column = Column(own, len(self.columns), generator)
        self.columns.append(column)
        return column

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> logits of every column, `[columns, B, n_classes]`."""
        first: list[Tensor] = []
        second: list[Tensor] = []
        answers = []
        for column in self.columns:
            h1, h2, logits = column(inputs, first, second)
            first.append(h1)
            second.append(h2)
            answers.append(logits)
        return torch.stack(answers)


def _adapter(below: nn.Linear, into: nn.Linear, columns: int, generator: torch.Generator) -> nn.Sequential:
    """V, ReLU and U: from the outputs of `below` in all columns to those of `into`."""
    width = into.in_features
    narrow = linear(columns * below.out_features, width, generator)
    wide = linear(width, into.out_features, generator, bias=False)
    return nn.Sequential(narrow, nn.ReLU(), wide).to(into.weight)
