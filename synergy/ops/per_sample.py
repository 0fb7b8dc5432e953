"""Gradients of single samples, and the angles between them.

A sample's gradient is that of its own cross-entropy by all parameters. BatchNorm couples the samples of a batch; here,
as for the Fisher information (`ops.fisher`), every sample is normalised by its own statistics, and everything else
runs as in evaluation mode. The network is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from synergy.ops.fisher import activation_bytes, own_statistics
from synergy.ops.modes import evaluating


def per_sample_gradients(net: nn.Module, inputs: Tensor, labels: Tensor, *, memory_mb: int = 1024) -> Iterator[Tensor]:
    """The gradient of each sample's cross-entropy, a chunk of samples at a time.

    Args:
        net: maps `[N, ...]` to logits `[N, K]`.
        inputs: `[N, ...]`, N at least 1.
        labels: `int64 [N]`.
        memory_mb: bound on a chunk and what it takes to make it, in MiB; a chunk has at least one sample.

    Yields:
        `[n, P]` in the order of the samples, P in the order of `net.parameters()`.
    """
    with _still(net, inputs.device):
        activations = activation_bytes(net, inputs)
    # Every gradient exists twice for a moment: as the parameters are shaped, and as a row.
    gradients = 2 * sum(p.numel() * p.element_size() for p in net.parameters())
    size = max(1, memory_mb * 2**20 // (gradients + activations))
    for start in range(0, len(inputs), size):
        yield _gradients(net, inputs[start : start + size], labels[start : start + size])


@contextmanager
def _still(net: nn.Module, device: torch.device) -> Iterator[None]:
    with evaluating(net), own_statistics(net), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def _gradients(net: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    def loss(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, values, (x[None],)), y[None])

    values = {name: parameter.detach() for name, parameter in net.named_parameters()}
    with _still(net, inputs.device):
        grads = vmap(grad(loss), in_dims=(None, 0, 0))(values, inputs, labels)
    return torch.cat([of_parameter.flatten(1) for of_parameter in grads.values()], 1)


def greatest_cosines(
    net: nn.Module, samples: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor], *, memory_mb: int = 1024
) -> tuple[Tensor, Tensor]:
    """How much the gradients of some samples are like those of others.

    Args:
        net: maps `[N, ...]` to logits `[N, K]`.
        samples: inputs `[N, ...]` and labels `int64 [N]`.
        others: inputs `[M, ...]` and labels `int64 [M]`.
        memory_mb: bound on intermediate results, in MiB. If not all gradients fit, those of `samples` are computed
            anew for every chunk of `others`.

    Returns:
        The greatest cosine similarity with any of `others`: of each sample's gradient `[N]`, and of the mean of them,
        a scalar. A gradient of zero has the cosine 0 with everything.
    """
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
