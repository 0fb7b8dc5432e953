"""Contract checks of a network: its weights, its outputs, its modes, its copies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.ops.modes import evaluating
from synergy.randomness import TorchRandomness, torch_generator
from synergy.state import same
from synergy.testing.checks import Check, global_randomness_untouched, require, run_all

ATOL = 1e-4
"""Outputs that differ by less are equal: a batch of another size is computed in another order."""


def net_checks(build: Callable[[torch.Generator], nn.Module], inputs: Tensor, n_classes: int) -> list[Check]:
    """The checks of a network, in order.

    Args:
        build: makes the network. All its initial weights come from the generator it is given; `synergy.nets.base.build`
            arranges that for a class whose layers PyTorch initialises.
        inputs: some samples as the network sees them, float `[B, ...]`, B at least 2, on the network's device.
        n_classes: outputs for each sample.

    Examples:
        >>> import torch
        >>> from synergy.nets.mlp import MLP
        >>> def build(generator):
        ...     return MLP(16, 3, generator=generator)
        >>> for check in net_checks(build, torch.rand(4, 16, generator=torch.Generator()), 3)[:3]:
        ...     print(check.name, "-", check.reason)
        ...     check()
        same weights - A generator of the same seed gives the same weights, of another seed others.
        one kind - All parameters have one floating dtype and one device, and buffers that device.
        outputs - The outputs are one tensor of scores, float [B, n_classes], in both modes.
    """
    return _NetTrial(build, inputs, n_classes).checks()


def check_net(build: Callable[[torch.Generator], nn.Module], inputs: Tensor, n_classes: int) -> None:
    """Run all checks of a network; the arguments are those of `net_checks`.

    Raises:
        AssertionError: says which clause of the contract is broken.

    Examples:
        >>> import torch
        >>> from synergy.nets.resnet import ResNet18
        >>> images = torch.rand(2, 3, 8, 8, generator=torch.Generator())
        >>> check_net(lambda generator: ResNet18(5, 2, generator=generator), images, 5)
    """
    run_all(net_checks(build, inputs, n_classes))


class _NetTrial:
    """The clauses of the contract, each a method that raises AssertionError if the network breaks it."""

    def __init__(self, build: Callable[[torch.Generator], nn.Module], inputs: Tensor, n_classes: int) -> None:
        self.build, self.inputs, self.n_classes = build, inputs, n_classes

    def checks(self) -> list[Check]:
        return [
            Check(
                "same weights",
                "A generator of the same seed gives the same weights, of another seed others.",
                self.same_weights,
            ),
            Check(
                "one kind",
                "All parameters have one floating dtype and one device, and buffers that device.",
                self.one_kind,
            ),
            Check(
                "outputs", "The outputs are one tensor of scores, float [B, n_classes], in both modes.", self.outputs
            ),
            Check("gradients", "A training pass gives finite gradients.", self.gradients),
            Check("repeats", "In evaluation mode the same inputs give the same outputs.", self.repeats),
            Check("alone", "In evaluation mode a sample has the same outputs alone as in a batch.", self.alone),
            Check("unchanged", "Inputs stay as they are, and in evaluation mode the network does.", self.unchanged),
            Check("copies", "A deep copy answers alike and shares no storage.", self.copies),
            Check("restored", "A network with a restored state answers like the saved one.", self.restored),
            Check("global randomness", "Building and evaluating draw no global random numbers.", self.globals_alone),
        ]

    def same_weights(self) -> None:
        one, again, other = (self._net(seed).state_dict() for seed in (0, 0, 1))
        require(same(dict(one), dict(again)), "generators of the same seed gave other weights")
        require(not same(dict(one), dict(other)), "generators of different seeds gave the same weights")

    def one_kind(self) -> None:
        net = self._net()
        parameters = list(net.parameters())
        require(bool(parameters), "the network has no parameters")
        dtypes, devices = {p.dtype for p in parameters}, {p.device for p in parameters}
        require(len(dtypes) == 1, f"parameters are of several dtypes: {sorted(map(str, dtypes))}")
        require(parameters[0].dtype.is_floating_point, f"parameters are {parameters[0].dtype}")
        devices |= {buffer.device for buffer in net.buffers()}
        require(len(devices) == 1, f"parameters and buffers are on several devices: {sorted(map(str, devices))}")

    def outputs(self) -> None:
        net, expected = self._net(), (len(self.inputs), self.n_classes)
        for mode in ("evaluation", "training"):
            outputs: object = self._trained_on(net) if mode == "training" else self._answers(net)
            when = f"in {mode} mode it gives"
            require(isinstance(outputs, Tensor), f"{when} a {type(outputs).__name__}, expected a tensor")
            assert isinstance(outputs, Tensor)
            require(outputs.shape == expected, f"{when} the shape {tuple(outputs.shape)}, expected {expected}")
            require(outputs.dtype.is_floating_point, f"{when} {outputs.dtype}")
            require(bool(outputs.isfinite().all()), f"{when} outputs that are inf or NaN")

    def gradients(self) -> None:
        net = self._net()
        outputs = self._trained_on(net)
        require(outputs.requires_grad, "no trainable parameter reaches the outputs")
        labels = torch.arange(len(self.inputs), device=self.inputs.device) % self.n_classes
        F.cross_entropy(outputs, labels).backward()
        for name, parameter in net.named_parameters():
            finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
            require(finite, f"the gradient of '{name}' is inf or NaN")

    def repeats(self) -> None:
        net = self._net()
        first = self._answers(net)
        require(torch.equal(first, self._answers(net)), "the same inputs gave other outputs the second time")
        net.train()
        require(torch.equal(first, self._answers(net)), "after a change to training mode and back it answers otherwise")

    def alone(self) -> None:
        net = self._net()
        together = self._answers(net)
        with evaluating(net), torch.no_grad():
            parts: list[Tensor] = [net(sample) for sample in self.inputs.split(1)]
        for part in parts:
            expected = (1, self.n_classes)
            require(part.shape == expected, f"one sample gives the shape {tuple(part.shape)}, expected {expected}")
        right = torch.allclose(torch.cat(parts), together, atol=ATOL)
        require(right, f"one sample alone gives outputs that differ by {_difference(torch.cat(parts), together):.2g}")

    def unchanged(self) -> None:
        net, inputs = self._net(), self.inputs.clone()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        self._answers(net)
        require(same(before, dict(net.state_dict())), "its parameters or buffers changed in evaluation mode")
        self._trained_on(net)
        require(torch.equal(inputs, self.inputs), "it wrote to its inputs")

    def copies(self) -> None:
        net = self._net()
        expected, other = self._answers(net), copy.deepcopy(net)
        require(torch.equal(expected, self._answers(other)), "a copy answers otherwise")
        with torch.no_grad():
            for value in (*other.parameters(), *other.buffers()):
                value.zero_()
        require(torch.equal(expected, self._answers(net)), "a change to a copy changed the network")

    def restored(self) -> None:
        net, other = self._net(0), self._net(1)
        self._trained_on(net)  # running statistics are a part of the state
        other.load_state_dict(net.state_dict())
        require(torch.equal(self._answers(net), self._answers(other)), "with the state restored it answers otherwise")

    def globals_alone(self) -> None:
        with global_randomness_untouched():
            self._answers(self._net())

    def _net(self, seed: int = 0) -> nn.Module:
        return self.build(torch_generator(seed, "testing/net")).to(self.inputs.device)

    def _answers(self, net: nn.Module) -> Any:
        """Its outputs in evaluation mode; every module is back in its own mode afterwards."""
        with evaluating(net), torch.no_grad():
            return net(self.inputs)

    def _trained_on(self, net: nn.Module) -> Any:
        """Its outputs in training mode, where dropout draws from a generator of this check."""
        with TorchRandomness(0, "testing/dropout", self.inputs.device).drawing():
            return net.train()(self.inputs)


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
