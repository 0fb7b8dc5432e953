"""The Fisher information one sample at a time: slow, and plain enough to be believed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fisher_one_by_one(net: nn.Module, inputs: Tensor, labels: Tensor, weighted: bool = True) -> list[Tensor]:
    """Mean over samples of p_n * (grad log p(y_n | x_n))^2, each sample a batch of one with BatchNorm in training mode.

    Running statistics are put back after every sample.
    """
    parameters = list(net.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    for x, y in zip(inputs.split(1), labels.split(1), strict=True):
        log_likelihood = F.log_softmax(net(x), dim=1)[0, y[0]]
        gradients = torch.autograd.grad(log_likelihood, parameters, allow_unused=True)
        weight = float(log_likelihood.detach().exp()) if weighted else 1.0
        for sum_, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                sum_ += weight * gradient**2
        for name, buffer in net.named_buffers():
            buffer.copy_(buffers[name])
    return [sum_ / len(inputs) for sum_ in total]


def filter_means(net: nn.Module, fisher: list[Tensor]) -> list[Tensor]:
    """What `filter_means=True` must give: the mean over every filter of a convolution."""
    filters = {id(module.weight) for module in net.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)}
    return [
        value.mean(list(range(1, value.dim())), keepdim=True) if id(parameter) in filters else value
        for parameter, value in zip(net.parameters(), fisher, strict=True)
    ]
