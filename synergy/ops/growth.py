"""A classifier that gets more outputs, and what goes with its parameters: vectors and the state of an optimiser.

New outputs start as rows of zeros. Their logits are 0 for every input, so that a stored logit of 0 is just what the
network itself would have said; known rows do not change by a bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synergy.errors import UsageError, unknown
from synergy.ops.vectors import carried


def classifier_name(net: nn.Module) -> str:
    """The name of the last linear layer of a network, in the order in which its modules were registered.

    Raises:
        UsageError: there is none.
    """
    names = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise UsageError(
            f"network: given {type(net).__name__}, which has no nn.Linear; allowed where classes may come later: one "
            "whose logits come from an nn.Linear; name all classes in advance (classes=[...]) for any other"
        )
    last: str = names[-1]
    return last


def classifier(net: nn.Module, name: str) -> nn.Linear:
    """The linear layer called `name`.

    Raises:
        UsageError: there is no layer of that name, it is not linear, or another one shares its weights.
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
    """Append `outputs` rows of zeros to a linear layer, in place; its parameters are new objects."""
    rows = layer.weight.new_zeros(outputs, layer.in_features)
    layer.weight = nn.Parameter(torch.cat([layer.weight, rows]), layer.weight.requires_grad)
    if layer.bias is not None:
        bias = torch.cat([layer.bias, layer.bias.new_zeros(outputs)])
        layer.bias = nn.Parameter(bias, layer.bias.requires_grad)
    layer.out_features += outputs


def exchange(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter, positions: Tensor) -> None:
    """Let an optimiser go on with `new` in the place of `old`, a vector `[P]` whose elements are now at `positions`."""
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    if old in optimizer.state:
        state = optimizer.state.pop(old)
        optimizer.state[new] = {
            name: carried(value, positions, len(new)) if _like(value, old) else value for name, value in state.items()
        }


def _like(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape
