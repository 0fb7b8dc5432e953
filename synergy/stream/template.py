"""The network a learner was given: the pattern of those it trains."""

from __future__ import annotations

import reprlib
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from synergy.errors import UsageError
from synergy.nets.named import Packing, giving_logits, taking
from synergy.ops.frozen import Frozen
from synergy.ops.growth import classifier, classifier_name, widen
from synergy.ops.vectors import channels_last, trained, twin


class Template:
    """A copy of a network as it was given, with more outputs when there are labels that it has none for.

    Args:
        net: is copied.
        device: where the copy lives; None for where `net` is.
        head: name of the linear layer that gives the logits; None for the last one.

    Attributes:
        net: the copy. Others take its place, it never changes itself.
        dtype, device: of its parameters.
        head: name of the linear layer that gives the logits, once it is known.
        frozen: its parameters that ask for no gradient, as they were given; None if there are none.

    Raises:
        UsageError: it is not a network, cannot be copied or trained, or has no such head.

    Examples:
        >>> template = Template(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), None, None)
        >>> template.find_head(2)
        '2'
        >>> template.grow(3)
        '2'
        >>> template.build("net")[2]
        Linear(in_features=8, out_features=5, bias=True)
    """

    def __init__(self, net: nn.Module, device: torch.device | None, head: str | None) -> None:
        self.dtype, home = kind_of(net)
        self.device = home if device is None else device
        self.net = _copied(net).to(self.device)
        self.device = next(self.net.parameters()).device  # "cuda:0" for "cuda"
        self.head = head
        frozen = None if self.is_lazy() else Frozen.of(self.net)
        self.frozen = frozen if frozen is not None and frozen.names else None
        if head is not None:
            classifier(self.net, head)

    def build(self, name: str) -> nn.Module:
        """A network as it was given, and as wide as it is now. The name makes no difference."""
        return twin(self.net)

    def take(self, packing: Packing) -> None:
        """Let the network take packed samples from now on."""
        self.net = taking(twin(self.net), packing)

    def give_logits(self) -> None:
        """Let the network give the `logits` of its outputs from now on."""
        self.net = giving_logits(twin(self.net))

    def lay_out(self) -> None:
        """Lay out convolutions with channels last from now on. Raises UsageError if one has too few channels."""
        self.net = channels_last(deepcopy(self.net))

    def initial(self) -> dict[str, Tensor]:
        """The weights as they were given, and buffers, without what is frozen."""
        left_out = frozenset[str]() if self.frozen is None else self.frozen.names
        return {name: value for name, value in self.net.state_dict().items() if name not in left_out}

    def find_head(self, outputs: int) -> str:
        """The name of the linear layer that gives the `outputs` logits, and so can grow.

        Raises:
            UsageError: there is no such layer, or the layer that was named does not give the logits.
        """
        self.head = self.head or classifier_name(self.net)
        if classifier(self.net, self.head).out_features != outputs:
            raise UsageError(
                f"head: the linear layer '{self.head}' does not give the {outputs} logits of the network; name the one "
                "that does (head=...), or all classes in advance (classes=[...])"
            )
        return self.head

    def grow(self, outputs: int) -> str:
        """Append `outputs` rows of zeros to the head; its name."""
        assert self.head is not None, "a network that may grow has a head"
        grown = twin(self.net)
        widen(classifier(grown, self.head), outputs)
        self.net = grown
        return self.head

    def is_lazy(self) -> bool:
        """Whether a layer takes its shape from the first batch."""
        return any(is_lazy(parameter) for parameter in self.net.parameters())


def is_computed(layer: nn.Linear) -> bool:
    """Whether the weights of a layer are computed from others, as by weight norm."""
    return parametrize.is_parametrized(layer) or not {"weight"} <= layer._parameters.keys()


def kind_of(net: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Type and place of a network's trained parameters.

    Raises:
        UsageError: it is not a network; it has no parameters, or trained ones of several types or places; nothing in it
            can be trained.
    """
    if not isinstance(net, nn.Module):
        raise UsageError(f"net: given {reprlib.repr(net)}; allowed: a network, an object derived from nn.Module")
    kinds = {(parameter.dtype, parameter.device) for parameter in trained(net) or net.parameters()}
    if len(kinds) != 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
        raise UsageError(f"network: given parameters of {found}; allowed: of one type on one device")
    dtype, device = kinds.pop()
    if not dtype.is_floating_point:
        raise UsageError(f"network: given parameters of {dtype}; allowed: real numbers (net.float())")
    if device.type == "meta":
        raise UsageError(
            "network: given parameters on meta, which have no values; allowed: values on a device "
            "(net.to_empty(device='cpu'), then load_state_dict)"
        )
    if not trained(net):
        raise UsageError(
            "network: given one with all parameters frozen; allowed: at least one that takes a gradient "
            "(layer.requires_grad_())"
        )
    return dtype, device


def _copied(net: nn.Module) -> nn.Module:
    for name, module in net.named_modules():
        if any(is_lazy(buffer) for buffer in module.buffers(recurse=False)):
            raise UsageError(
                f"network: the {type(module).__name__} '{name}' cannot be copied before it has its size; pass some "
                "samples through the network first (net(x)), or give a layer with its size"
            )
    try:
        return deepcopy(net)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"network: it cannot be copied ({reason}); give one that can") from error
