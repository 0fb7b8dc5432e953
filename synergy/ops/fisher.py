"""The exact diagonal Fisher information of a classifier: the mean of squared per-sample gradients.

The gradient of every sample's own log-likelihood is squared elementwise. The squares are averaged over samples, each
with a constant weight p_n:

    F = (1/N) sum_n p_n * (grad log p(y_n | x_n))^2

There are three ways to compute it, all exact:

1. Layers with a rule (`ops.layer_rules`) take one forward and one backward pass of the whole batch.
2. Parameters of other modules, and parameters used in several places, take vectorised per-sample gradients.
3. Where torch cannot vectorise a network (a recurrent layer, a branch on the data), every sample takes its own pass.
   This is the slowest way.

BatchNorm couples the samples of a batch. Here it normalises every sample by its own statistics over positions, as in a
batch of one in training mode. A sample with a single position (BatchNorm over features) has no such statistics; there
the running ones are used. Running statistics stay as they are. All other modules run as in evaluation mode, so that
dropout leaves the Fisher information deterministic.

Samples can be coupled in other ways, such as by a branch on the whole batch. A network of layers with rules alone is
then computed as it runs on the batch.

Reference: Kirkpatrick et al. 2017 (EWC), eq. 3 and its empirical form; Sarfraz et al. 2022 (SYNERgy) for the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.ops.layer_rules import RULES
from synergy.ops.modes import evaluating
from synergy.ops.passes import Use, activation_bytes, layers_with_rules, put_back, recording, single_samples
from synergy.ops.single_gradients import LogLikelihood, attempt, single_gradients


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
        net: any module that maps inputs to logits. Its parameters, buffers, gradients and modes are the same
            afterwards, even if its forward pass writes to them.
        inputs: `[N, ...]`, N at least 1.
        targets: `[N, ...]`, for a classifier the labels `int64 [N]`.
        weighted: weigh each sample by its likelihood p(y_n | x_n); otherwise every weight is 1.
        filter_means: a convolution's weight gets the mean over each filter instead of single elements, which is
            cheaper. Transposed convolutions keep single elements.
        log_likelihood: of the model; by default a classifier's.
        memory_mb: bound on intermediate results, in MiB. Samples are processed in chunks that fit.

    Returns:
        One tensor for each parameter that asks for a gradient, in the order and shape of `net.parameters()`; with
        `filter_means`, `[O, 1, ...]` for the weights of convolutions.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Linear(2, 2, bias=False)
        >>> _ = nn.init.zeros_(net.weight)
        >>> inputs, labels = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([0, 1])
        >>> fisher_diagonal(net, inputs, labels, weighted=False)[0]
        tensor([[1.2500, 0.5000],
                [1.2500, 0.5000]])
    """
    assert len(inputs) == len(targets) > 0, f"given {len(inputs)} inputs and {len(targets)} targets, needed at least 1"
    job = _Job(net, inputs, targets, weighted, filter_means, log_likelihood, memory_mb * 2**20)
    with evaluating(net), single_samples(net), torch.autocast(inputs.device.type, enabled=False):
        sums, together = _by_rules(job)
        named = {name: p for name, p in net.named_parameters() if p.requires_grad}
        rest = {name: p for name, p in named.items() if p not in sums}
        if rest:
            found, alone = _by_single_samples(job, rest)
            if sums and alone is not None and not _agree(torch.cat(together), alone):
                # The samples of a batch are coupled, which the rules cannot know.
                found |= _by_single_samples(job, {name: p for name, p in named.items() if p in sums})[0]
            sums |= found
    return [sums[parameter] / len(inputs) for parameter in named.values()]


@dataclass(frozen=True)
class _Job:
    """The arguments of `fisher_diagonal`; `budget` is in bytes."""

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


@dataclass(frozen=True)
class _Pass:
    """Inputs and output gradients of layers in one forward and one backward pass.

    Attributes:
        uses: of each layer whose rule holds, with the gradient of its output; None if no score depends on it.
        others: layers whose rule does not hold.
        scores: the log-likelihood of each sample, `[N]`.
    """

    uses: list[tuple[Use, Tensor | None]]
    others: set[nn.Module]
    scores: Tensor


def _by_rules(job: _Job) -> tuple[Sums, list[Tensor]]:
    """Sums of squares by the layers' rules, with one forward and one backward pass for each chunk.

    Returns:
        The sums, and the log-likelihood of each sample, a tensor for each chunk. Both are empty if no rule holds.
    """
    sums: Sums = {}
    others: set[nn.Module] = set()
    scores: list[Tensor] = []
    layers = layers_with_rules(job.net)
    if not layers:
        return sums, scores
    for inputs, targets in job.chunks(_chunk_size(job, layers)):
        seen = attempt(partial(_pass, job, layers, inputs, targets))
        if seen is None:
            return {}, []
        weights = job.weights(seen.scores)
        for use, grad in seen.uses:
            if grad is not None:
                _add(sums, use.layer, _squares(job, use, grad, weights))
        others |= seen.others
        scores.append(seen.scores)
    # A layer whose rule failed for one chunk lacks that chunk's part of the sum.
    in_part = {parameter for layer in others for parameter in layer.parameters(recurse=False)}
    return {parameter: total for parameter, total in sums.items() if parameter not in in_part}, scores


def _pass(job: _Job, layers: list[nn.Module], inputs: Tensor, targets: Tensor) -> _Pass:
    with put_back(job.net), torch.enable_grad(), recording(layers) as uses:
        scores = job.log_likelihood(job.net(inputs), targets)
        # The gradient of a layer that acts twice is a sum, whose square needs the general way.
        once = [seen[0] for seen in uses.values() if len(seen) == 1 and _rule_holds(seen[0], len(inputs))]
        others = uses.keys() - {use.layer for use in once}
        grads = torch.autograd.grad(scores.sum(), [use.output for use in once], allow_unused=True) if once else ()
    return _Pass(list(zip(once, grads, strict=True)), others, scores.detach())


def _rule_holds(use: Use, n: int) -> bool:
    """Whether the first dimension of a layer's input, and no other one, is that of the samples."""
    shape = use.input.shape
    if isinstance(use.layer, nn.Linear):
        return len(shape) > 1 and shape[0] == n and (n == 1 or n not in shape[1:-1])
    return len(shape) > (3 if isinstance(use.layer, nn.Conv2d) else 1) and shape[0] == n


def _squares(job: _Job, use: Use, grad: Tensor, weights: Tensor) -> Mapping[str, Tensor]:
    rule = RULES[type(use.layer)]
    return rule(use.layer, use.input.detach(), grad, weights, filter_means=job.filter_means, budget=job.budget)


def _add(sums: Sums, layer: nn.Module, squares: Mapping[str, Tensor]) -> None:
    for name, parameter in layer.named_parameters(recurse=False):
        sums[parameter] = sums[parameter].add_(squares[name]) if parameter in sums else squares[name]


def _by_single_samples(job: _Job, parameters: Mapping[str, nn.Parameter]) -> tuple[Sums, Tensor | None]:
    """Sums of squares the general way: the gradient of every single sample by `parameters`.

    Returns:
        The sums, and the log-likelihood of each sample, `[N]`, if every sample had its own pass; None if one pass was
        vectorised over them.
    """
    per_sample = sum(p.numel() * p.element_size() for p in parameters.values())
    size = _fitting(job, 2 * per_sample + activation_bytes(job.net, job.inputs))
    sums: Sums = {}
    vectorised, scores = True, []
    for inputs, targets in job.chunks(size):
        singles = single_gradients(job.net, parameters, inputs, targets, job.log_likelihood)
        weights = job.weights(singles.scores)
        for name, parameter in parameters.items():
            rows = singles.grads[name].square().reshape(len(inputs), parameter.numel())
            total = (weights @ rows).view(parameter.shape)
            sums[parameter] = sums[parameter].add_(total) if parameter in sums else total
        vectorised &= singles.vectorised
        scores.append(singles.scores)
    if job.filter_means:
        for parameter in sums.keys() & _filters(job.net):
            sums[parameter] = sums[parameter].mean(tuple(range(1, parameter.dim())), keepdim=True)
    return sums, None if vectorised else torch.cat(scores)


def _agree(one: Tensor, other: Tensor) -> bool:
    """Whether two ways to compute the same scores differ by rounding only."""
    tolerance = torch.finfo(one.dtype).eps ** 0.5
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _filters(net: nn.Module) -> set[Tensor]:
    """The weights of convolutions, `[O, ...]`."""
    return {module.weight for module in net.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)}


def _chunk_size(job: _Job, layers: list[nn.Module]) -> int:
    """Samples in one pass: their activations, and as many bytes again for gradients, fit the budget."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if len(linear) < len(layers):
        return _fitting(job, 2 * activation_bytes(job.net, job.inputs))
    # Linear layers have a known bound: the values of an input limit its positions.
    positions = -(-job.inputs[0].numel() // min(layer.in_features for layer in linear))
    widths = sum(layer.in_features + layer.out_features for layer in linear)
    return _fitting(job, 2 * positions * widths * job.inputs.element_size())


def _fitting(job: _Job, bytes_each: int) -> int:
    return max(1, min(len(job.inputs), job.budget // max(1, bytes_each)))
