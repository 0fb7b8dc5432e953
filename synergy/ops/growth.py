"""More outputs for a classifier, and the same growth for the state of an optimiser.

New outputs start as rows of zeros: their logits are 0 for every input. A logit of 0 for an older sample is therefore
the network's own output. Known rows keep their bits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synergy.errors import UsageError, unknown
from synergy.ops.vectors import carried


def classifier_name(net: nn.Module) -> str:
    """The name of the last linear layer of a network, in the order in which its modules were registered.

    Raises:
        UsageError: the network has no linear layer.

    Examples:
        >>> from torch import nn
        >>> classifier_name(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)))
        '2'
    """
    names = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise UsageError(
            f"network: given {type(net).__name__}, which has no nn.Linear; allowed where classes may come later: "
            "logits from an nn.Linear; for another network name all classes in advance (classes=[...])"
        )
    last: str = names[-1]
    return last


def classifier(net: nn.Module, name: str) -> nn.Linear:
    """The linear layer called `name`.

    Raises:
        UsageError: no linear layer has that name, or another layer shares its weights.
    """
    linear = {key: module for key, module in net.named_modules() if isinstance(module, nn.Linear)}
    if name not in linear:
        raise unknown("linear layer (head)", name, linear)
    found = linear[name]
    own = set(found.parameters(recurse=False))
    if any(own & set(module.parameters(recurse=False)) for module in net.modules() if module is not found):
        raise UsageError(
            f"head: given '{name}', which shares its weights with another layer; allowed: a layer of its own"
        )
    return found


@torch.no_grad()
def widen(layer: nn.Linear, outputs: int) -> None:
    """Append `outputs` rows of zeros to a linear layer, in place. Its parameters are new objects afterwards.

    Examples:
        >>> from torch import nn
        >>> layer = nn.Linear(2, 1)
        >>> widen(layer, 2)
        >>> layer.out_features, layer.bias[1:].tolist()
        (3, [0.0, 0.0])
    """
    rows = layer.weight.new_zeros(outputs, layer.in_features)
    layer.weight = nn.Parameter(torch.cat([layer.weight, rows]), layer.weight.requires_grad)
    if layer.bias is not None:
        bias = torch.cat([layer.bias, layer.bias.new_zeros(outputs)])
        layer.bias = nn.Parameter(bias, layer.bias.requires_grad)
    layer.out_features += outputs


def exchange(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter, positions: Tensor) -> None:
    """Replace `old` by `new` in an optimiser, and carry the state over.

    Args:
        optimizer: of `old`.
        old: all parameters of a network before it grew, a vector `[P]`.
        new: all parameters afterwards, a longer vector.
        positions: of the old elements in the new vector, `int64 [P]`.
    """
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    if old in optimizer.state:
        state = optimizer.state.pop(old)
        optimizer.state[new] = {
            name: carried(value, positions, len(new)) if _like(value, old) else value for name, value in state.items()
        }


def _like(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape
