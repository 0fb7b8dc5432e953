"""The exact diagonal Fisher information of a classifier: per-sample squared gradients, not a squared batch mean.

For every sample n the gradient of its own log-likelihood is squared elementwise, then averaged over samples with a
constant weight each:

    F = (1/N) sum_n p_n * (grad log p(y_n | x_n))^2

Layers with a rule (`ops.layer_rules`) need one forward and one backward pass of the whole batch; parameters of any
other module, and parameters that are used in more than one place, go through vectorised per-sample gradients. Both are
exact.

BatchNorm couples the samples of a batch, so the gradient "of one sample" needs a rule: here every sample is normalised
by its own statistics over positions, as in a batch of one in training mode. Where a sample has a single position (a
BatchNorm over features) it has no statistics of its own, and the running ones are used. Running statistics never
change. Everything else runs as in evaluation mode, so that dropout does not make the Fisher random.

Reference: Kirkpatrick et al. 2017 (EWC), eq. 3 and its empirical form; Sarfraz et al. 2022 (SYNERgy) for the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from synergy.ops.layer_rules import RULES
from synergy.ops.modes import evaluating

LogLikelihood: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Outputs of the network `[N, ...]` and targets `[N, ...]` -> log-likelihood of each sample `[N]`."""


def categorical(logits: Tensor, labels: Tensor) -> Tensor:
    """log p(y | x) of a classifier: logits `[N, K]`, labels `int64 [N]` -> `[N]`."""
    return -F.cross_entropy(logits, labels, reduction="none")


def fisher_diagonal(
    net: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    weighted: bool = True,
    filter_means: bool = False,
    log_likelihood: LogLikelihood = categorical,
    memory_mb: int = 1024,
) -> list[Tensor]:
    """The diagonal Fisher information of `net` on a set of samples.

    Args:
        net: any module that maps inputs to logits. It is left as it was: parameters, buffers, gradients and mode.
        inputs: `[N, ...]`, N at least 1.
        targets: `[N, ...]`, for a classifier the labels `int64 [N]`.
        weighted: weigh each sample by its likelihood p(y_n | x_n); otherwise every weight is 1.
        filter_means: a 2-d convolution's weight gets the mean over each filter instead of single elements: cheaper.
        log_likelihood: the model's, by default that of a classifier.
        memory_mb: bound on intermediate results, in MiB; samples are taken in chunks that fit.

    Returns:
        One tensor for each of `net.parameters()`, in their order and shape; with `filter_means`, `[O, 1, 1, 1]` for the
        weights of 2-d convolutions.
    """
    assert len(inputs) == len(targets) > 0, "the Fisher information of no samples is not defined"
    job = _Job(net, inputs, targets, weighted, filter_means, log_likelihood, memory_mb * 2**20)
    with evaluating(net), own_statistics(net), torch.autocast(inputs.device.type, enabled=False):
        sums = _by_rules(job)
        rest = {name: p for name, p in net.named_parameters() if p not in sums}
        if rest:
            sums |= _by_single_samples(job, rest)
    return [sums[parameter] / len(inputs) for parameter in net.parameters()]


@contextmanager
def own_statistics(net: nn.Module) -> Iterator[None]:
    """Within, every BatchNorm normalises each sample by its own statistics over positions, and updates nothing."""
    layers = [module for module in net.modules() if isinstance(module, BatchNorm)]
    for layer in layers:
        vars(layer)["forward"] = partial(_normalised_alone, layer)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def _normalised_alone(layer: BatchNorm, inputs: Tensor) -> Tensor:
    if inputs[0, 0].numel() > 1:
        # A group for each channel: instance normalisation, but no view, so that an activation in place leaves its edge.
        return F.group_norm(inputs, inputs.shape[1], layer.weight, layer.bias, layer.eps)
    return F.batch_norm(inputs, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


@dataclass(frozen=True)
class _Job:
    net: nn.Module
    inputs: Tensor
    targets: Tensor
    weighted: bool
    filter_means: bool
    log_likelihood: LogLikelihood
    budget: int

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        starts = range(0, len(self.inputs), size)
        return ((self.inputs[i : i + size], self.targets[i : i + size]) for i in starts)

    def weights(self, scores: Tensor) -> Tensor:
        return scores.detach().exp() if self.weighted else torch.ones_like(scores)


Sums: TypeAlias = dict[nn.Parameter, Tensor]


def _by_rules(job: _Job) -> Sums:
    """One forward and one backward pass for a chunk; each layer's rule turns what it saw into a sum of squares."""
    sums: Sums = {}
    layers = layers_with_rules(job.net)
    if not layers:
        return sums
    for inputs, targets in job.chunks(_chunk_size(job, layers)):
        with differentiable(job.net), recording(layers) as uses:
            scores = job.log_likelihood(job.net(inputs), targets)
            # A layer that acts twice has the square of a sum, not a sum of squares: left to the general way.
            once = [seen[0] for seen in uses.values() if len(seen) == 1]
            grads = torch.autograd.grad(scores.sum(), [use.output for use in once], allow_unused=True) if once else ()
        weights = job.weights(scores)
        for use, grad in zip(once, grads, strict=True):
            if grad is not None:
                _add(sums, use.layer, _squares(job, use, grad, weights))
    return sums


def _squares(job: _Job, use: Use, grad: Tensor, weights: Tensor) -> Mapping[str, Tensor]:
    rule = RULES[type(use.layer)]
    return rule(use.layer, use.input.detach(), grad, weights, filter_means=job.filter_means, budget=job.budget)


def _add(sums: Sums, layer: nn.Module, squares: Mapping[str, Tensor]) -> None:
    for name, parameter in layer.named_parameters(recurse=False):
        sums[parameter] = sums[parameter].add_(squares[name]) if parameter in sums else squares[name]


def _by_single_samples(job: _Job, parameters: Mapping[str, nn.Parameter]) -> Sums:
    """The general way: the gradient of every single sample by `parameters`, vectorised over a chunk of samples."""

    def score(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return job.log_likelihood(functional_call(job.net, values, (x[None],)), y[None]).sum()

    values = {name: parameter.detach() for name, parameter in parameters.items()}
    per_sample = sum(v.numel() * v.element_size() for v in values.values())
    size = _fitting(job, 2 * per_sample + activation_bytes(job.net, job.inputs))
    sums: Sums = {}
    for inputs, targets in job.chunks(size):
        with torch.no_grad():
            grads, scores = vmap(grad_and_value(score), in_dims=(None, 0, 0))(values, inputs, targets)
        weights = job.weights(scores)
        for name, parameter in parameters.items():
            total = (weights @ grads[name].square().flatten(1)).view_as(parameter)
            sums[parameter] = sums[parameter].add_(total) if parameter in sums else total
    if job.filter_means:
        for parameter in sums.keys() & _filters(job.net):
            sums[parameter] = sums[parameter].mean((1, 2, 3), keepdim=True)
    return sums


def _filters(net: nn.Module) -> set[Tensor]:
    return {module.weight for module in net.modules() if isinstance(module, nn.Conv2d)}


def layers_with_rules(net: nn.Module) -> list[nn.Module]:
    """Modules of a type that has a rule, whose parameters belong to no other module as well."""
    owners: dict[nn.Parameter, int] = {}
    modules = [module for module in net.modules() if list(module.parameters(recurse=False))]
    for module in modules:
        for parameter in module.parameters(recurse=False):
            owners[parameter] = owners.get(parameter, 0) + 1
    return [
        module
        for module in modules
        if type(module) in RULES and all(owners[p] == 1 for p in module.parameters(recurse=False))
    ]


@dataclass(frozen=True)
class Use:
    """One use of a layer in a forward pass: what went in, and where the gradient of its output is to be had."""

    layer: nn.Module
    input: Tensor
    output: GradientEdge = field(repr=False)


@contextmanager
def recording(layers: list[nn.Module]) -> Iterator[dict[nn.Module, list[Use]]]:
    """Within, every use of these layers in a forward pass is noted down."""
    uses: dict[nn.Module, list[Use]] = {}

    def record(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        # The edge, not the tensor: it stays right when an activation overwrites the output in place.
        uses.setdefault(layer, []).append(Use(layer, arguments[0], get_gradient_edge(output)))

    hooks = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield uses
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def differentiable(net: nn.Module) -> Iterator[None]:
    """Within, every parameter takes a gradient, also a frozen one."""
    frozen = [parameter for parameter in net.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _chunk_size(job: _Job, layers: list[nn.Module]) -> int:
    """How many samples go through the network at once: their activations, and as much again for gradients, must fit."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if len(linear) < len(layers):
        return _fitting(job, 2 * activation_bytes(job.net, job.inputs))
    # For linear layers a bound is known without a look: no more positions than the input has values for.
    positions = -(-job.inputs[0].numel() // min(layer.in_features for layer in linear))
    widths = sum(layer.in_features + layer.out_features for layer in linear)
    return _fitting(job, 2 * positions * widths * job.inputs.element_size())


def activation_bytes(net: nn.Module, inputs: Tensor) -> int:
    """Bytes that the modules' outputs take for one sample, measured on the first."""
    total = 0

    def count(module: nn.Module, arguments: Any, output: Any) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += output.numel() * output.element_size()

    hooks = [module.register_forward_hook(count) for module in net.modules()]
    try:
        with torch.no_grad():
            net(inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _fitting(job: _Job, bytes_each: int) -> int:
    return max(1, min(len(job.inputs), job.budget // max(1, bytes_each)))
