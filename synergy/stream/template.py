"""The network a learner was given: the pattern of those it trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy

import torch
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.ops.growth import classifier, classifier_name, widen
from synergy.ops.modes import evaluating


class Template:
    """A copy of a network as it was given, with more outputs when labels come that it has none for.

    Args:
        net: is copied.
        device: where the copy lives; None for where `net` is.
        head: name of the linear layer that gives the logits; None for the last one.

    Raises:
        UsageError: the parameters are of several types or on several devices, or there are none.
    """

    def __init__(self, net: nn.Module, device: torch.device | None, head: str | None) -> None:
        self.dtype, home = kind_of(net)
        self.device = home if device is None else device
        self.net = deepcopy(net).to(self.device)
        self.head = head

    def build(self, name: str) -> nn.Module:
        """A network as it was given, and as wide as it is now. The name makes no difference."""
        return deepcopy(self.net)

    def answer(self, inputs: Tensor, autocast: Callable[[], AbstractContextManager[object]]) -> Tensor:
        """The outputs for `[B, ...]`, to see that there are some.

        Raises:
            UsageError: the network cannot take such inputs.
        """
        try:
            with evaluating(self.net), torch.no_grad(), autocast():
                outputs = self.net(inputs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise UsageError(
                f"network: it cannot take samples of shape {list(inputs.shape)} and type {inputs.dtype} "
                f"({_first_line(error)}); give others, or a transform"
            ) from error
        if not isinstance(outputs, Tensor) or outputs.dim() < 1 or len(outputs) != len(inputs):
            shape = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise UsageError(f"network: its output for {len(inputs)} samples is {shape}; allowed: a tensor [B, ...]")
        return outputs

    def find_head(self, outputs: int) -> str:
        """The name of the linear layer that gives the `outputs` logits, and so can grow.

        Raises:
            UsageError: there is none, or the layer that was named is another.
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
        widen(classifier(self.net, self.head), outputs)
        return self.head

    def is_partly_frozen(self) -> bool:
        """Whether some parameter takes no gradient."""
        return not all(parameter.requires_grad for parameter in self.net.parameters())


def kind_of(net: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Type and place of a network's parameters. Raises UsageError if it has none, or of several kinds."""
    kinds = {(parameter.dtype, parameter.device) for parameter in net.parameters()}
    if len(kinds) != 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
        raise UsageError(f"network: given parameters of {found}; allowed: of one type on one device")
    return kinds.pop()


def check_normalised(error: ValueError, n: int) -> None:
    """Raises UsageError if the error is a BatchNorm's that met a single sample in training, in a batch of `n`."""
    if "more than 1 value per channel" in str(error):
        raise UsageError(
            f"samples: given a batch of {n}, by which a BatchNorm cannot normalise; allowed: at least 2 (or a net with "
            "GroupNorm or LayerNorm instead)"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
