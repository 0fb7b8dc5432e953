"""Passes through a network that leave it as it was: single samples, recorded uses, numbers put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from synergy.ops.layer_rules import RULES


@contextmanager
def single_samples(net: nn.Module) -> Iterator[None]:
    """Within, modules act on each sample by itself, and can be differentiated in evaluation mode.

    Every BatchNorm normalises each sample by its own statistics over positions, and updates nothing. A recurrent layer
    does without cuDNN, which has no gradient in evaluation mode.
    """
    acting: dict[nn.Module, Callable[..., Any]] = {}
    for module in net.modules():
        if isinstance(module, BatchNorm):
            acting[module] = _normalised_alone
        elif isinstance(module, nn.RNNBase):
            acting[module] = _without_cudnn
    with _acting(acting):
        yield


@contextmanager
def without_cudnn(net: nn.Module) -> Iterator[None]:
    """Within, a recurrent layer does without cuDNN, which has no gradient in evaluation mode."""
    with _acting({module: _without_cudnn for module in net.modules() if isinstance(module, nn.RNNBase)}):
        yield


@contextmanager
def _acting(acting: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Within, these modules have other forward functions."""
    for layer, forward in acting.items():
        vars(layer)["forward"] = partial(forward, layer)
    try:
        yield
    finally:
        for layer in acting:
            del vars(layer)["forward"]


def _normalised_alone(layer: BatchNorm, inputs: Tensor) -> Tensor:
    if inputs[0, 0].numel() > 1:
        # A group for each channel is instance normalisation. It returns no view, so that an in-place activation keeps
        # the gradient edge.
        return F.group_norm(inputs, inputs.shape[1], layer.weight, layer.bias, layer.eps)
    return F.batch_norm(inputs, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


def _without_cudnn(layer: nn.RNNBase, *arguments: Any, **named: Any) -> Any:
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        return type(layer).forward(layer, *arguments, **named)
    finally:
        torch.backends.cudnn.enabled = before


def layers_with_rules(net: nn.Module) -> list[nn.Module]:
    """Modules of a type that has a rule, with a trained parameter, and all parameters shared with no other module."""
    owners: dict[nn.Parameter, int] = {}
    modules = [module for module in net.modules() if list(module.parameters(recurse=False))]
    for module in modules:
        for parameter in module.parameters(recurse=False):
            owners[parameter] = owners.get(parameter, 0) + 1
    return [
        module
        for module in modules
        if _has_rule(module)
        and all(owners[p] == 1 for p in module.parameters(recurse=False))
        and any(p.requires_grad for p in module.parameters(recurse=False))
    ]


def _has_rule(module: nn.Module) -> bool:
    # `nn.utils.weight_norm` and pruning keep the type of a layer and give it other parameters.
    return type(module) in RULES and module._parameters.keys() <= {"weight", "bias"}


@dataclass(frozen=True)
class Use:
    """One use of a layer in a forward pass: its input, and the edge that gives the gradient of its output."""

    layer: nn.Module
    input: Tensor
    output: GradientEdge = field(repr=False)


@contextmanager
def recording(layers: list[nn.Module]) -> Iterator[dict[nn.Module, list[Use]]]:
    """Within, every use of these layers in a forward pass is recorded."""
    uses: dict[nn.Module, list[Use]] = {}

    def record(layer: nn.Module, arguments: tuple[Tensor, ...], named: Mapping[str, Tensor], output: Tensor) -> None:
        # A use within `no_grad` takes no part in the gradient.
        if output.requires_grad:
            (seen,) = (*arguments, *named.values())
            # The edge stays right when an activation overwrites the output in place; the tensor would change.
            uses.setdefault(layer, []).append(Use(layer, seen, get_gradient_edge(output)))

    hooks = [layer.register_forward_hook(record, with_kwargs=True) for layer in layers]
    try:
        yield uses
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def gradients_aside(net: nn.Module) -> Iterator[None]:
    """Within, gradients start as None; afterwards every parameter has its former gradient again."""
    before = [(parameter, parameter.grad) for parameter in net.parameters()]
    for parameter, _ in before:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, grad in before:
            parameter.grad = grad


@contextmanager
def put_back(net: nn.Module) -> Iterator[None]:
    """Within, a forward pass may write to the network; afterwards attributes, buffers and parameters are as before.

    Layers with a rule need no such care: their forward pass is torch's own, or replaced here, and writes nothing.
    """
    modules = [(module, dict(vars(module)), dict(module._buffers)) for module in net.modules() if not _has_rule(module)]
    tensors = {tensor for module, _, buffers in modules for tensor in (*module._parameters.values(), *buffers.values())}
    copies = [(tensor, tensor._version, tensor.detach().clone()) for tensor in tensors if tensor is not None]
    try:
        yield
    finally:
        for module, attributes, buffers in modules:
            _reset(module, attributes, buffers)
        with torch.no_grad():
            for tensor, version, copy in copies:
                if tensor._version != version:
                    tensor.copy_(copy)


def _reset(module: nn.Module, attributes: Mapping[str, Any], buffers: Mapping[str, Tensor | None]) -> None:
    for name in vars(module).keys() - attributes.keys():
        del vars(module)[name]
    vars(module).update(attributes)
    for name, buffer in buffers.items():
        if module._buffers[name] is not buffer:
            module._buffers[name] = buffer


def activation_bytes(net: nn.Module, inputs: Tensor) -> int:
    """Bytes of all modules' outputs for one sample, measured on the first one."""
    total = 0

    def count(module: nn.Module, arguments: Any, output: Any) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += output.numel() * output.element_size()

    # Modules compiled by `torch.jit` take no hooks.
    watched = [module for module in net.modules() if not isinstance(module, torch.jit.ScriptModule)]
    hooks = [module.register_forward_hook(count) for module in watched]
    try:
        with put_back(net), torch.no_grad():
            net(inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return total
