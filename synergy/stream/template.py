"""The network a learner was given: the pattern of those it trains."""

from __future__ import annotations

import reprlib
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
        UsageError: it is no network, it cannot be copied, it has no such head, its parameters are of several types or
            on several devices, or there are none.
    """

    def __init__(self, net: nn.Module, device: torch.device | None, head: str | None) -> None:
        self.dtype, home = kind_of(net)
        self.device = home if device is None else device
        try:
            self.net = deepcopy(net).to(self.device)
        except (RuntimeError, ValueError, TypeError) as error:
            raise UsageError(f"network: it cannot be copied ({_first_line(error)}); give one that can") from error
        self.device = next(self.net.parameters()).device  # "cuda:0" for "cuda"
        self.head = head
        if head is not None:
            classifier(self.net, head)

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
        except _OF_NETWORKS as error:
            check_normalised(error, len(inputs))
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

    def try_growth(self, inputs: Tensor, outputs: int, autocast: Callable[[], AbstractContextManager[object]]) -> None:
        """See on a copy that the head can grow, and the network's `outputs` logits with it.

        Raises:
            UsageError: it cannot: it is another layer that gives the logits, or something comes after it.
        """
        assert self.head is not None, "a network that may grow has a head"
        grown = deepcopy(self.net)
        try:
            widen(classifier(grown, self.head), 1)
            with evaluating(grown), torch.no_grad(), autocast():
                width = grown(inputs).shape[1]
        except _OF_NETWORKS:
            width = None
        if width != outputs + 1:
            raise UsageError(
                f"head: the linear layer '{self.head}' cannot get more outputs without the rest of the network; name "
                "the layer that gives the logits (head=...), or all classes in advance (classes=[...])"
            )

    def grow(self, outputs: int) -> str:
        """Append `outputs` rows of zeros to the head; its name."""
        assert self.head is not None, "a network that may grow has a head"
        widen(classifier(self.net, self.head), outputs)
        return self.head

    def is_partly_frozen(self) -> bool:
        """Whether some parameter takes no gradient."""
        return not all(parameter.requires_grad for parameter in self.net.parameters())


_OF_NETWORKS = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AssertionError,
    AttributeError,
)
"""What a network raises at inputs that are not for it."""


def kind_of(net: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Type and place of a network's parameters. Raises UsageError if it has none, or of several kinds, or is none."""
    if not isinstance(net, nn.Module):
        raise UsageError(f"net: given {reprlib.repr(net)}; allowed: a network, an object derived from nn.Module")
    kinds = {(parameter.dtype, parameter.device) for parameter in net.parameters()}
    if len(kinds) != 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
        raise UsageError(f"network: given parameters of {found}; allowed: of one type on one device")
    return kinds.pop()


def check_normalised(error: Exception, n: int, one_by_one: bool = False) -> None:
    """Raises UsageError if the error is a BatchNorm's that met a single sample in training.

    Args:
        error: any.
        n: size of the batch.
        one_by_one: whether the method cuts every batch into single samples.
    """
    if "more than 1 value per channel" not in str(error):
        return
    if one_by_one:
        raise UsageError(
            "network: given one with BatchNorm for a method that learns samples one by one; allowed: GroupNorm or "
            "LayerNorm instead"
        ) from error
    raise UsageError(
        f"samples: given a batch of {n}, by which a BatchNorm cannot normalise; allowed: at least 2 (or a net with "
        "GroupNorm or LayerNorm instead)"
    ) from error


def check_range(error: LookupError) -> None:
    """Raises UsageError if the error is that of an embedding that has no row of a number it was given."""
    if "index out of range" in str(error):
        raise UsageError(
            "samples: a number is larger than the network's embedding has rows for, or negative; allowed: 0 to its "
            "num_embeddings - 1"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
