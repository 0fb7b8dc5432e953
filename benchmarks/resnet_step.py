"""A SYNERgy step and an exact Fisher pass on the ResNet-18, against the convolutions they are made of.

    python benchmarks/resnet_step.py [--device cuda] [--width 64] [--turns 5]
    OMP_NUM_THREADS=1 python benchmarks/resnet_step.py --widths 64 32 16      # what a smaller width saves, nothing else

The floor of a step (stream 32, replay 32) is the time that the library's own convolutions take, forward and backward,
on the shapes of that step, measured in the same process: the joint pass of 64, the replay's own pass of 32, and the
semantic network's forward pass of 32. A Fisher pass over 200 samples with filter means is compared with one
training-mode forward and backward of the same samples as a batch, and with the plain loop over single samples (timed on
20 of them). Each ratio is taken within a turn; what is printed is the median over turns, the smallest and the largest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.data.view import CIFAR
from synergy.device import autocast, device_name
from synergy.memory.store import Samples
from synergy.methods.base import Setting
from synergy.methods.synergy import Synergy, SynergyConfig
from synergy.nets.resnet import ResNet18
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.vectors import channels_last
from synergy.types import Batch

STREAM, REPLAY, FISHER, ALONE = 32, 32, 200, 20
Shape = tuple[nn.Conv2d, tuple[int, ...]]


def timed(
    call: Callable[[], object],
    turns: int,
    device: torch.device,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median seconds of a call, after two that do not count."""
    times = []
    skipped = 2 if warm_up else 0
    for turn in range(turns + skipped):
        began = clock()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= skipped:
            times.append(clock() - began)
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
    """Seconds of one step of SYNERgy without a Fisher pass, memory full."""
    return timed(one_step(width, device, last, precision), turns, device)


def by_width(widths: Sequence[int], turns: int) -> None:
    """Print the processor time of a step with each width, in turns, and how many times the first takes."""
    calls = {width: one_step(width, torch.device("cpu"), last=False, precision="fp32") for width in widths}
    taken: dict[int, list[float]] = {width: [] for width in widths}
    for turn in range(turns):
        for width, call in calls.items():
            cpu = torch.device("cpu")
            taken[width].append(timed(call, 1, cpu, warm_up=turn == 0, clock=time.process_time))
    for width, seconds in taken.items():
        times = [first / own for first, own in zip(taken[widths[0]], seconds, strict=True)]
        print(f"step, width {width:<3} {spread(seconds)} s of processor time, {spread(times)} times as fast")


def one_step(width: int, device: torch.device, last: bool, precision: str) -> Callable[[], None]:
    """Takes one step of SYNERgy when called."""
    config = SynergyConfig(buffer_size=FISHER, minibatch_size=REPLAY, fisher_update_freq=0.0, lr=0.01)
    method = Synergy(config, Setting(lambda name: build(width, device, last), CIFAR, 10))
    generator = torch.Generator().manual_seed(1)
    raw = torch.randint(0, 256, (FISHER, 3, 32, 32), dtype=torch.uint8, generator=generator).to(device)
    labels = torch.randint(0, 10, (FISHER,), generator=generator).to(device)
    method.memory.offer(Samples(raw, labels))
    method.fisher.restore(torch.rand_like(method.phi.values))
    batch = Batch(raw[:STREAM], CIFAR.plain(raw[:STREAM]), labels[:STREAM])
    computing = autocast(precision, device)

    def observe() -> None:
        with computing():
            method.observe(batch)

    return observe


def fisher(width: int, device: torch.device, turns: int, clock: Callable[[], float]) -> None:
    """Print the cost of an exact Fisher pass, in forward and backward passes and in single samples."""
    net = build(width, device, last=False)
    generator = torch.Generator().manual_seed(2)
    inputs = torch.rand(FISHER, 3, 32, 32, generator=generator).to(device)
    labels = torch.randint(0, 10, (FISHER,), generator=generator).to(device)

    def together() -> None:
        net.zero_grad()
        torch.autograd.backward(F.cross_entropy(net(inputs), labels))

    def one_at_a_time() -> None:
        """What anyone would write: every sample forward and backward, its gradient squared and added up."""
        total = [torch.zeros_like(parameter) for parameter in net.parameters()]
        for x, y in zip(inputs[:ALONE].split(1), labels[:ALONE].split(1), strict=True):
            net.zero_grad()
            score = -F.cross_entropy(net(x), y)
            torch.autograd.backward(score)
            weight = score.detach().exp()
            for sum_, parameter in zip(total, net.parameters(), strict=True):
                assert parameter.grad is not None
                sum_ += weight * parameter.grad**2

    ours = partial(fisher_diagonal, net, inputs, labels, filter_means=True)
    # Turn by turn, so that whatever else the machine does meets all three alike.
    rounds = [
        [timed(call, 1, device, warm_up=turn == 0, clock=clock) for call in (ours, together, one_at_a_time)]
        for turn in range(turns)
    ]
    seconds = [(a, b, c * FISHER / ALONE) for a, b, c in rounds]
    print(f"Fisher, {FISHER} samples      {spread([a for a, _, _ in seconds])} s")
    print(f"  forward and backward    {spread([b for _, b, _ in seconds])} s")
    print(f"  Fisher takes            {spread([a / b for a, b, _ in seconds])} times as long")
    print(f"  one sample at a time    {spread([c for _, _, c in seconds])} s")
    print(f"  Fisher is               {spread([c / a for a, _, c in seconds])} times faster")


def spread(values: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):6.2f} ({min(values):.2f} to {max(values):.2f})"


def steps(width: int, device: torch.device, turns: int) -> None:
    """Print the cost of a step in each layout and precision, and of its convolutions alone."""
    for name, last, precision in (
        ("contiguous, fp32", False, "fp32"),
        ("contiguous, bf16", False, "bf16"),
        ("channels last, fp32", True, "fp32"),
        ("channels last, bf16", True, "bf16"),
    ):
        seconds = step(width, device, last, precision, turns)
        line = f"step, {name:<20}{1e3 * seconds:9.1f} ms"
        if precision == "fp32":
            floor_s = floor(shapes(build(width, device, last), device), turns, device, last)
            line += f"   convolutions alone {1e3 * floor_s:9.1f} ms   ratio {seconds / floor_s:.2f}"
        print(line, flush=True)


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only_fisher", action="store_true", help="leave out the steps")
    parser.add_argument(
        "--cpu_time", action="store_true", help="of the Fisher pass: for a busy machine, with one thread"
    )
    parser.add_argument("--widths", type=int, nargs="+", help="only compare steps of these widths, on the CPU")
    parsed = parser.parse_args()
    if parsed.widths is not None:
        by_width(parsed.widths, parsed.turns)
        return
    device = torch.device(parsed.device)
    print(f"device {device_name(device)}, torch {torch.__version__}, width {parsed.width}")
    if not parsed.only_fisher:
        steps(parsed.width, device, parsed.turns)
    fisher(parsed.width, device, parsed.turns, time.process_time if parsed.cpu_time else time.perf_counter)
    images = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8)
    rng = np.random.default_rng(0)
    print(f"augment a batch of 32     {1e3 * timed(lambda: CIFAR(images, rng), 50, torch.device('cpu')):8.3f} ms")


if __name__ == "__main__":
    main()
