"""A SYNERGy step and an exact Fisher pass on the ResNet-18, against the convolutions they are made of.

    python benchmarks/resnet_step.py [--device cuda] [--width 64] [--turns 5]

The floor of a step (stream 32, replay 32) is the time that the library's own convolutions take, forward and backward,
on the shapes of that step, measured in the same process: the joint pass of 64, the replay's own pass of 32, and the
semantic network's forward pass of 32. A Fisher pass over 200 samples with filter means is compared with one
training-mode forward and backward of the same samples as a batch, and with one sample at a time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.compute import autocast, device_name
from synergy.data.augment import CIFAR
from synergy.memory.store import Samples
from synergy.methods.base import Setting
from synergy.methods.synergy import Synergy, SynergyConfig
from synergy.nets.resnet import ResNet18
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.vectors import Flat, channels_last
from synergy.types import Batch

STREAM, REPLAY, FISHER, ALONE = 32, 32, 200, 10
Shape = tuple[nn.Conv2d, tuple[int, ...]]


def timed(call: Callable[[], object], turns: int, device: torch.device) -> float:
    """Median seconds of a call, after two that do not count."""
    times = []
    for turn in range(turns + 2):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= 2:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def build(width: int, device: torch.device, last: bool) -> nn.Module:
    """The network, with channels last or not."""
    net = ResNet18(10, width, generator=torch.Generator().manual_seed(0)).to(device)
    return channels_last(net) if last else net


def shapes(net: nn.Module, device: torch.device) -> list[Shape]:
    """Every convolution with the shape of one sample of its input."""
    found: list[Shape] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        found.append((layer, tuple(inputs[0].shape[1:])))

    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, nn.Conv2d)]
    net(torch.zeros(2, 3, 32, 32, device=device))
    for hook in hooks:
        hook.remove()
    return found


def floor(layers: list[Shape], turns: int, device: torch.device, last: bool) -> float:
    """Seconds that the convolutions of one step take by themselves."""
    total = 0.0
    for number, (layer, shape) in enumerate(layers):
        for batch, backward in ((STREAM + REPLAY, True), (REPLAY, True), (REPLAY, False)):
            inputs = torch.rand(batch, *shape, device=device)
            inputs = inputs.contiguous(memory_format=torch.channels_last) if last else inputs
            # The first layer's input is the image, which needs no gradient.
            inputs.requires_grad_(backward and number > 0)
            total += timed(partial(_convolve, inputs, layer, backward), turns, device)
    return total


def _convolve(inputs: Tensor, layer: nn.Conv2d, backward: bool) -> None:
    weight = layer.weight
    with torch.set_grad_enabled(backward):
        output = F.conv2d(inputs, weight, stride=layer.stride, padding=layer.kernel_size[0] // 2)
    if backward:
        wanted = [weight, inputs] if inputs.requires_grad else [weight]
        torch.autograd.grad(output, wanted, torch.ones_like(output))


def step(width: int, device: torch.device, last: bool, precision: str, turns: int) -> float:
    """Seconds of one step of SYNERGy without a Fisher pass, memory full."""
    config = SynergyConfig(buffer_size=FISHER, minibatch_size=REPLAY, fisher_update_freq=0.0, lr=0.01)
    method = Synergy(config, Setting(lambda name: build(width, device, last), CIFAR, 10))
    generator = torch.Generator().manual_seed(1)
    raw = torch.randint(0, 256, (FISHER, 3, 32, 32), dtype=torch.uint8, generator=generator).to(device)
    labels = torch.randint(0, 10, (FISHER,), generator=generator).to(device)
    method.memory.offer(Samples(raw, labels))
    method.fisher = torch.rand_like(method.phi.values)
    batch = Batch(raw[:STREAM], CIFAR.plain(raw[:STREAM]), labels[:STREAM])
    computing = autocast(precision, device)

    def observe() -> None:
        with computing():
            method.observe(batch)

    return timed(observe, turns, device)


def fisher(width: int, device: torch.device, turns: int) -> None:
    """Print the cost of an exact Fisher pass, in forward and backward passes and in single samples."""
    net = build(width, device, last=False)
    flat = Flat(net)
    generator = torch.Generator().manual_seed(2)
    inputs = torch.rand(FISHER, 3, 32, 32, generator=generator).to(device)
    labels = torch.randint(0, 10, (FISHER,), generator=generator).to(device)
    together = timed(lambda: flat.backward(F.cross_entropy(net(inputs), labels)), turns, device)
    ours = timed(lambda: fisher_diagonal(net, inputs, labels, filter_means=True), turns, device)

    def one_at_a_time() -> None:
        for x, y in zip(inputs[:ALONE].split(1), labels[:ALONE].split(1), strict=True):
            flat.backward(-F.cross_entropy(net(x), y))
            flat.grads.square_()

    alone = timed(one_at_a_time, turns, device) * FISHER / ALONE
    print(f"Fisher, {FISHER} samples      {ours:8.3f} s")
    print(f"  forward and backward    {together:8.3f} s   Fisher is {ours / together:.2f} times as long")
    print(f"  one sample at a time    {alone:8.3f} s   Fisher is {alone / ours:.2f} times faster")


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parsed = parser.parse_args()
    device = torch.device(parsed.device)
    print(f"device {device_name(device)}, torch {torch.__version__}, width {parsed.width}")
    for name, last, precision in (
        ("eager, fp32", False, "fp32"),
        ("channels last, fp32", True, "fp32"),
        ("channels last, bf16", True, "bf16"),
    ):
        seconds = step(parsed.width, device, last, precision, parsed.turns)
        line = f"step, {name:<20}{1e3 * seconds:9.1f} ms"
        if precision == "fp32":
            floor_s = floor(shapes(build(parsed.width, device, last), device), parsed.turns, device, last)
            line += f"   convolutions alone {1e3 * floor_s:9.1f} ms   ratio {seconds / floor_s:.2f}"
        print(line, flush=True)
    fisher(parsed.width, device, parsed.turns)
    images = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8)
    rng = np.random.default_rng(0)
    print(f"augment a batch of 32     {1e3 * timed(lambda: CIFAR(images, rng), 50, torch.device('cpu')):8.3f} ms")


if __name__ == "__main__":
    main()
