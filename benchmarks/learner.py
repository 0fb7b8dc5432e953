"""What the learner adds to its method's own step, and how many single predictions it gives in a second.

    OMP_NUM_THREADS=1 python benchmarks/learner.py

A step of the method is timed within `observe`, so that one and the same step is compared with and without what the
learner adds, whatever else the machine does. Answers that are counted inside of the step count as added, and so do the
numbers in [0, 1] that are made of uint8, though every loop must make them: how long that takes is shown. The floor is
what a loop written out by hand adds that demands as much of its batches, and counts nothing. Of every
hundred steps, in which all that is done rarely is done once, the mean is taken, and of all these means the median.
Asked: at most 5 % or 50 us, whichever is more; and 10,000 predictions of single samples per second on one core.

With `prequential="answering"` every batch takes a forward pass more, whose own time is the floor of what is added then:
the answering network alone, on the same batch, without a gradient. No aim is set for that.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synergy import Learner
from synergy.methods.base import Answer, unheard
from synergy.nets.mlp import MLP
from synergy.stream.view import StreamView
from synergy.types import Batch, Losses

BATCH, CLASSES, BUFFER, LR = 32, 10, 500, 0.01
CHUNK = 100
"""Steps of which a mean is taken."""
FEATURES = {"digits": 64, "mnist": 784}
SHARE, SECONDS, RATE = 0.05, 50e-6, 10_000
"""Asked: of the method's own step; in seconds; predictions per second."""


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
    """Seconds a step."""

    own: float  # the method's step
    added: float  # by the learner
    counting: float  # of that, to know how well the batch was predicted
    viewing: float  # of that, to make what the network sees of the samples
    by_hand: float  # what a loop written out adds
    forward: float  # pass of the answering network


class Timed:
    """A callable that knows how long its last call took."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.seconds = 0.0

    def __call__(self, *arguments: Any) -> Any:
        began = time.perf_counter()
        result = self.call(*arguments)
        self.seconds = time.perf_counter() - began
        return result


@dataclass(frozen=True)
class TimedView(StreamView):
    """A view that knows how long its last call took."""

    seconds: list[float] = field(default_factory=lambda: [0.0])

    def __call__(self, raw: Tensor, rng: np.random.Generator) -> Tensor:
        began = time.perf_counter()
        inputs = super().__call__(raw, rng)
        self.seconds[0] = time.perf_counter() - began
        return inputs


def network_of(learner: Learner) -> nn.Module:
    """The network that answers."""
    assert learner._trainer is not None, "a learner that has seen a batch"
    answer = next(iter(learner._trainer.predictors().values()))
    assert isinstance(answer, Answer)
    return answer.net


def by_hand(step: Callable[[Batch], Losses], view: StreamView) -> Callable[[Tensor, Tensor], None]:
    """A loop's body: samples and loss must be finite, and labels may be of any kind."""
    outputs = {label: label for label in range(CLASSES)}
    rng = np.random.default_rng(0)

    def observe(x: Tensor, y: Tensor) -> None:
        if x.dtype == torch.float32 and not math.isfinite(x.sum().item()):
            raise ValueError("a sample is not finite")
        labels = y.tolist()
        targets = torch.from_numpy(np.fromiter(map(outputs.__getitem__, labels), np.int64, len(labels)))
        losses = step(Batch(x, view(x, rng), targets))
        if not math.isfinite(losses["loss"].item()):
            raise ValueError("the loss is not finite")

    return observe


def overhead(name: str, features: int, kind: torch.dtype, prequential: str, steps: int) -> Cost:
    """What the learner adds to the method's own step."""
    learner = Learner(
        net(features), name, buffer_size=BUFFER, lr=LR, prequential=prequential, classes=range(CLASSES), seed=0
    )
    raw, labels = samples(64 * BATCH, features, kind)
    batches = list(zip(raw.split(BATCH), labels.split(BATCH), strict=True))
    for x, y in batches:  # fills the memory
        learner.observe(x, y)
    trainer = learner._trainer
    assert trainer is not None, "a learner that has seen batches"
    method = trainer.method
    observe, step, first = Timed(learner.observe), Timed(method.observe), Timed(learner._answers_before)
    told, view = Timed(method.setting.on_outputs), TimedView(None, None, torch.float32)
    vars(learner).update(_answers_before=first, _view=view)
    trainer._observe = step
    loop = Timed(by_hand(step, view))
    telling, silent = replace(method.setting, on_outputs=told), replace(method.setting, on_outputs=unheard)
    means, floors = [], []
    for _ in range(steps // CHUNK):
        times, bare = [], []
        method.setting = telling
        for x, y in itertools.islice(itertools.cycle(batches), CHUNK):
            observe(x, y)
            counting = first.seconds if prequential == "answering" else told.seconds
            own = step.seconds - told.seconds
            times.append((own, observe.seconds - own, counting, view.seconds[0]))
        method.setting = silent
        for x, y in itertools.islice(itertools.cycle(batches), CHUNK):
            loop(x, y)
            bare.append(loop.seconds - step.seconds)
        means.append([statistics.fmean(column) for column in zip(*times, strict=True)])
        floors.append(statistics.fmean(bare))
    forward = Timed(network_of(learner))
    with torch.no_grad():
        passes = [(forward(learner._view.plain(x)), forward.seconds)[1] for x, _ in batches * 5]
    own, added, counting, viewing = (statistics.median(column) for column in zip(*means, strict=True))
    return Cost(own, added, counting, viewing, statistics.median(floors), statistics.median(passes))


def rate(call: Callable[[Tensor], object], singles: list[Tensor], turns: int = 30) -> tuple[float, float]:
    """Calls per second, all samples one after the other: the median over turns, and the quickest of them."""
    rates = []
    for _ in range(turns):
        began = time.perf_counter()
        for x in singles:
            call(x)
        rates.append(len(singles) / (time.perf_counter() - began))
    return statistics.median(rates), max(rates)


def main() -> None:
    """Print a line for each case and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="per case (default: 2000)")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    for method in ("er", "synergy"):
        for name, features in FEATURES.items():
            for kind in (torch.float32, torch.uint8):
                for prequential in ("off", "learning", "answering"):
                    cost = overhead(method, features, kind, prequential, steps)
                    allowed = max(SHARE * cost.own, SECONDS)
                    verdict = f"at most {1e6 * allowed:3.0f} us: {'yes' if cost.added <= allowed else 'NO'}"
                    if prequential == "answering":
                        verdict = f"(a forward pass takes {1e6 * cost.forward:.0f} us)"
                    print(
                        f"{method:<8}{name:<7}{str(kind).removeprefix('torch.'):<8}{prequential:<10}"
                        f"own step {1e6 * cost.own:5.0f} us  adds {1e6 * cost.added:4.0f} us "
                        f"({cost.added / cost.own:5.1%}), {1e6 * cost.counting:3.0f} to count, "
                        f"{1e6 * cost.viewing:2.0f} to view; by hand {1e6 * cost.by_hand:3.0f}; {verdict}",
                        flush=True,
                    )
    for method in ("er", "synergy"):
        learner = Learner(net(FEATURES["digits"]), method, buffer_size=BUFFER, classes=range(CLASSES))
        raw, labels = samples(1000, FEATURES["digits"], torch.float32)
        learner.observe(raw, labels)
        singles = list(raw.split(1))
        predicted, quickest = rate(learner.predict, singles)
        with torch.no_grad():
            alone, quickest_alone = rate(network_of(learner), singles)
        print(
            f"{method:<8} digits  single predictions per second {predicted:8.0f}, in the quickest turn {quickest:.0f} "
            f"(its network alone {alone:.0f} and {quickest_alone:.0f})  "
            f"at least {RATE}: {'yes' if predicted >= RATE else 'NO'}"
        )


if __name__ == "__main__":
    main()
