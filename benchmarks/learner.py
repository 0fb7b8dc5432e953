"""What the learner adds to its method's own step, and how many single predictions it gives in a second.

    OMP_NUM_THREADS=1 python benchmarks/learner.py

Two learners with one seed see the same batches: one through `observe`, the other's method is driven directly with
inputs and targets made ready beforehand. Both do the same arithmetic at every step, they take turns at going first, and
the median of the differences counts, so that what else the machine does hits both alike. Asked: at most 5 % or 50 us,
whichever is more; and 10,000 predictions of single samples per second on one core.

To predict every batch before it is learned takes a forward pass, which is most of what is added then. It is shown by
itself: the answering network alone, on the same batch, without a gradient.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from synergy import Batch, Learner, Method
from synergy.methods.base import Answer
from synergy.nets.mlp import MLP

BATCH, CLASSES, BUFFER, LR = 32, 10, 500, 0.01
FEATURES = {"digits": 64, "mnist": 784}
SHARE, SECONDS, RATE = 0.05, 50e-6, 10_000
"""Asked: of the method's own step; in seconds; predictions per second."""


class Direct:
    """The method of a learner, without the learner."""

    def __init__(self, learner: Learner) -> None:
        assert learner._method is not None, "a learner that has seen a batch"
        self.method: Method[Any] = learner._method

    def step(self, raw: Tensor, inputs: Tensor, labels: Tensor) -> float:
        """Seconds of one step on what is ready."""
        batch = Batch(raw, inputs, labels)
        began = time.perf_counter()
        self.method.observe(batch)
        return time.perf_counter() - began

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> float:
        """Seconds of a pass of the answering network."""
        answer = next(iter(self.method.predictors().values()))
        assert isinstance(answer, Answer), "one network answers"
        began = time.perf_counter()
        answer.net(inputs)
        return time.perf_counter() - began


def net(features: int) -> MLP:
    """64-100-100-10 or 784-100-100-10, the same weights every time."""
    return MLP(features, CLASSES, generator=torch.Generator().manual_seed(0))


def samples(n: int, features: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Random images and labels."""
    rng = torch.Generator().manual_seed(1)
    raw = torch.randint(0, 256, (n, features), dtype=torch.uint8, generator=rng)
    labels = torch.randint(0, CLASSES, (n,), generator=rng)
    return (raw if kind == torch.uint8 else raw.float().div_(255)), labels


@dataclass(frozen=True)
class Cost:
    """Seconds: medians over the steps."""

    own: float  # the method's step
    added: float  # by the learner
    forward: float  # pass of the answering network


def overhead(method: str, features: int, kind: torch.dtype, prequential: bool, steps: int) -> Cost:
    """What the learner adds to the method's own step."""
    learner, twin = (
        Learner(net(features), method, buffer_size=BUFFER, lr=LR, prequential=prequential, classes=range(CLASSES))
        for _ in range(2)
    )
    raw, labels = samples(64 * BATCH, features, kind)
    batches = list(zip(raw.split(BATCH), labels.split(BATCH), strict=True))
    ready = [learner._view.plain(x) for x, _ in batches]
    for x, y in batches:  # fills the memory
        learner.observe(x, y)
        twin.observe(x, y)
    direct, own, added, forward = Direct(twin), [], [], []
    for step in range(steps):
        (x, y), inputs = batches[step % len(batches)], ready[step % len(batches)]

        def observed(x: Tensor = x, y: Tensor = y) -> float:
            began = time.perf_counter()
            learner.observe(x, y)
            return time.perf_counter() - began

        def driven(x: Tensor = x, inputs: Tensor = inputs, y: Tensor = y) -> float:
            return direct.step(x, inputs, y)

        first, second = (observed, driven) if step % 2 else (driven, observed)
        one, two = first(), second()
        whole, alone = (one, two) if step % 2 else (two, one)
        own.append(alone)
        added.append(whole - alone)
        forward.append(direct.forward(inputs))
    return Cost(*map(statistics.median, (own, added, forward)))


def rate(call: Callable[[Tensor], object], singles: list[Tensor], turns: int = 30) -> float:
    """Calls per second: the median over turns of all samples one after the other."""
    rates = []
    for _ in range(turns):
        began = time.perf_counter()
        for x in singles:
            call(x)
        rates.append(len(singles) / (time.perf_counter() - began))
    return statistics.median(rates)


def main() -> None:
    """Print a line for each case and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="per case (default: 2000)")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    for method in ("er", "synergy"):
        for name, features in FEATURES.items():
            for kind in (torch.float32, torch.uint8):
                for prequential in (True, False):
                    cost = overhead(method, features, kind, prequential, steps)
                    allowed = max(SHARE * cost.own, SECONDS)
                    passed = f", a forward pass {1e6 * cost.forward:4.0f} us" if prequential else ""
                    print(
                        f"{method:<8}{name:<7}{str(kind).removeprefix('torch.'):<8}"
                        f"prequential {'on ' if prequential else 'off'}  own step {1e6 * cost.own:5.0f} us  "
                        f"adds {1e6 * cost.added:4.0f} us ({cost.added / cost.own:.1%}){passed}; "
                        f"at most {1e6 * allowed:3.0f} us: {'yes' if cost.added <= allowed else 'NO'}",
                        flush=True,
                    )
    for method in ("er", "synergy"):
        learner = Learner(net(FEATURES["digits"]), method, buffer_size=BUFFER, classes=range(CLASSES))
        raw, labels = samples(1000, FEATURES["digits"], torch.float32)
        learner.observe(raw, labels)
        singles = list(raw.split(1))
        answer = next(iter(Direct(learner).method.predictors().values()))
        predicted, alone = rate(learner.predict, singles), rate(answer, singles)
        print(
            f"{method:<8} digits  single predictions per second {predicted:8.0f} (its network alone {alone:.0f})  "
            f"at least {RATE}: {'yes' if predicted >= RATE else 'NO'}"
        )


if __name__ == "__main__":
    main()
