"""Gradients of single samples, and the angles between them.

A sample's gradient is that of its own cross-entropy by all parameters that ask for a gradient. The network runs as in
evaluation mode: a BatchNorm normalises by its running statistics, which is the function that the network answers with.
The network is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.ops.modes import evaluating
from synergy.ops.passes import activation_bytes, layers_with_rules, put_back, recording, without_cudnn
from synergy.ops.single_gradients import single_gradients
from synergy.ops.vectors import trained

SMALLEST_NORM = 1e-12
"""Shorter gradients count as zero: they have no direction."""


def per_sample_gradients(net: nn.Module, inputs: Tensor, labels: Tensor, *, memory_mb: int = 1024) -> Iterator[Tensor]:
    """The gradient of each sample's cross-entropy, a chunk of samples at a time.

    Args:
        net: maps `[N, ...]` to logits `[N, K]`.
        inputs: `[N, ...]`, N at least 1.
        labels: `int64 [N]`.
        memory_mb: bound on a chunk and its intermediate results, in MiB; a chunk has at least one sample.

    Yields:
        `[n, P]` in the order of the samples, P in the order of `net.parameters()`, frozen ones left out.
    """
    with _in_evaluation(net, inputs.device):
        activations = activation_bytes(net, inputs)
    # Every gradient exists twice for a moment: in the parameters' shapes and as a row.
    gradients = 2 * sum(p.numel() * p.element_size() for p in trained(net))
    size = max(1, memory_mb * 2**20 // (gradients + activations))
    for start in range(0, len(inputs), size):
        yield _gradients(net, inputs[start : start + size], labels[start : start + size])


@contextmanager
def _in_evaluation(net: nn.Module, device: torch.device) -> Iterator[None]:
    with evaluating(net), without_cudnn(net), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def _gradients(net: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    loss = partial(F.cross_entropy, reduction="none")
    named = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    with _in_evaluation(net, inputs.device):
        grads = single_gradients(net, named, inputs, labels, loss).grads
    return torch.cat([of_parameter.reshape(len(inputs), of_parameter[0].numel()) for of_parameter in grads.values()], 1)


def greatest_cosines(
    net: nn.Module, samples: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor], *, memory_mb: int = 1024
) -> tuple[Tensor, Tensor]:
    """The greatest cosine similarity of the gradients of some samples with those of others.

    Args:
        net: maps `[N, ...]` to logits `[N, K]`.
        samples: inputs `[N, ...]` and labels `int64 [N]`.
        others: inputs `[M, ...]` and labels `int64 [M]`.
        memory_mb: bound on intermediate results, in MiB. Where the gradients exceed it, those of `samples` are
            computed again for every chunk of `others`.

    Returns:
        For each sample of `samples`, `[N]`, and for their mean gradient, a scalar. A gradient of zero has the cosine 0
        with everything.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Linear(2, 2, bias=False)
        >>> _ = nn.init.zeros_(net.weight)
        >>> inputs, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
        >>> singles, mean = greatest_cosines(net, (inputs, labels), (inputs[:1], 1 - labels[:1]))
        >>> singles, round(float(mean), 4)
        (tensor([-1.,  0.]), -0.7071)
    """
    products = gradient_products(net, torch.cat([samples[0], others[0]]), torch.cat([samples[1], others[1]]))
    if products is not None:
        return _greatest_of(products, len(samples[0]))
    singles, means = [], []
    for compared in per_sample_gradients(net, *others, memory_mb=memory_mb // 2):
        directions = F.normalize(compared)
        rows, total = [], torch.zeros_like(compared[0])
        for gradients in per_sample_gradients(net, *samples, memory_mb=memory_mb // 2):
            rows.append(F.normalize(gradients) @ directions.mT)
            total += gradients.sum(0)
        singles.append(torch.cat(rows).amax(1))
        means.append((directions @ F.normalize(total, dim=0)).amax())
    return torch.stack(singles).amax(0), torch.stack(means).amax()


def gradient_products(net: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor | None:
    """The inner product of every two samples' gradients of a network of linear layers, from two Gram matrices a layer.

    A layer with inputs a and output gradients d has the gradient d_n a_n^T for sample n. The product of two samples is
    (a_n . a_m)(d_n . d_m), and with a bias (a_n . a_m + 1)(d_n . d_m).

    Args:
        net: maps `[N, ...]` to logits `[N, K]`.
        inputs: `[N, ...]`.
        labels: `int64 [N]`.

    Returns:
        `[N, N]`; None for a network with other parameters, or one that uses a layer several times or over positions.
    """
    layers = layers_with_rules(net)
    own = {p for layer in layers for p in layer.parameters(recurse=False)}
    if any(type(layer) is not nn.Linear for layer in layers) or own != set(trained(net)):
        return None
    with evaluating(net), put_back(net), torch.enable_grad(), torch.autocast(inputs.device.type, enabled=False):
        with recording(layers) as uses:
            loss = F.cross_entropy(net(inputs), labels, reduction="sum")
        if [len(seen) for seen in uses.values()] != [1] * len(layers):
            return None
        once = [seen[0] for seen in uses.values()]
        if any(use.input.dim() != 2 or len(use.input) != len(inputs) for use in once):
            return None
        grads = torch.autograd.grad(loss, [use.output for use in once])
    total = inputs.new_zeros(len(inputs), len(inputs))
    for use, of_output in zip(once, grads, strict=True):
        of_inputs = use.input.detach() @ use.input.detach().mT
        total += (of_inputs if use.layer.bias is None else of_inputs + 1) * (of_output @ of_output.mT)
    return total


def _greatest_of(products: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """`greatest_cosines` of the first `n` samples with the rest, from the inner products of all, `[N, N]`."""
    norms = products.diagonal().clamp(min=0).sqrt().clamp(min=SMALLEST_NORM)
    of_mean = products[:n, :n].sum().clamp(min=0).sqrt().clamp(min=SMALLEST_NORM)
    across = products[:n, n:] / norms[n:]
    return (across / norms[:n, None]).amax(1), (across.sum(0) / of_mean).amax()
