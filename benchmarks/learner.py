"""What the learner adds to its method's own step, and how many single predictions it gives in a second.

    OMP_NUM_THREADS=1 python benchmarks/learner.py

One method takes all steps, in turn: by itself, out of a loop written by hand, and through the learner, so that
whatever else the machine does falls on all three. Its own step is what no loop can do without: to make what the network
sees of the samples (of uint8, numbers in [0, 1]) and to learn, from labels that are outputs already. The loop by hand
demands as much of its batches as the learner does, and counts nothing. Of every hundred steps of each kind the mean is
taken, since some of the work is done once in a hundred only, then what the others take longer than the first, and of
these the median.

With `prequential="answering"` every batch takes one more forward pass. Its own time is the floor of what is added then:
the answering network alone, on the same batch, without a gradient.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from synergy import Learner
from synergy.methods.base import Answer, Method
from synergy.nets.mlp import MLP
from synergy.stream.view import StreamView
from synergy.types import Batch

BATCH, CLASSES, BUFFER, LR = 32, 10, 500, 0.01
PRIME = 61
"""Batches; no multiple of the kinds of steps, so that every kind sees every batch."""
CHUNK = 100
"""Steps of a kind of which a mean is taken."""
FEATURES = {"digits": 64, "mnist": 784}


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
    by_hand: float  # what a loop written out adds
    added: float  # by the learner
    viewing: float  # of the method's step, to make what the network sees
    forward: float  # pass of the answering network


Step: TypeAlias = Callable[[Tensor, Tensor], object]
"""Of samples and labels."""


def method_of(learner: Learner) -> Method[Any]:
    assert learner._progress.worker is not None, "a learner that has seen a batch"
    return learner._progress.worker.method


def network_of(learner: Learner) -> nn.Module:
    """The network that answers."""
    answer = next(iter(method_of(learner).predictors().values()))
    assert isinstance(answer, Answer)
    return answer.net


def alone(method: Method[Any], view: StreamView) -> Step:
    """The method's own step."""
    rng = np.random.default_rng(0)
    return lambda x, y: method.observe(Batch(x, view(x, view.decide(len(x), rng)), y))


def by_hand(method: Method[Any], view: StreamView) -> Step:
    """A loop's body: samples and loss must be finite, and labels may be of any kind."""
    outputs = {label: label for label in range(CLASSES)}
    rng = np.random.default_rng(0)

    def observe(x: Tensor, y: Tensor) -> None:
        if x.dtype == torch.float32 and not math.isfinite(x.sum().item()):
            raise ValueError("a sample is not finite")
        labels = y.tolist()
        targets = torch.from_numpy(np.fromiter(map(outputs.__getitem__, labels), np.int64, len(labels)))
        losses = method.observe(Batch(x, view(x, view.decide(len(x), rng)), targets)).losses
        if not math.isfinite(losses["loss"].item()):
            raise ValueError("the loss is not finite")

    return observe


def timed(call: Callable[..., object], *arguments: Tensor) -> float:
    """Seconds a call takes."""
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def overhead(name: str, features: int, kind: torch.dtype, prequential: str, steps: int) -> Cost:
    """What the learner adds to the method's own step."""
    learner = Learner(
        net(features), name, buffer_size=BUFFER, lr=LR, prequential=prequential, classes=range(CLASSES), seed=0
    )
    raw, labels = samples(PRIME * BATCH, features, kind)
    batches = list(zip(raw.split(BATCH), labels.split(BATCH), strict=True))
    for x, y in batches:  # fills the memory
        learner.observe(x, y)
    method = method_of(learner)
    view = learner._progress.recipe.view
    arms = [alone(method, view), by_hand(method, view), learner.observe]
    stream = itertools.cycle(batches)
    means = []
    for _ in range(steps // CHUNK):
        times: list[list[float]] = [[] for _ in arms]
        for _ in range(CHUNK):
            for step, seconds in zip(arms, times, strict=True):
                seconds.append(timed(step, *next(stream)))
        own, *longer = map(statistics.fmean, times)
        means.append((own, *(mean - own for mean in longer)))
    own_step, rng = alone(method, view), np.random.default_rng(0)
    viewing = []
    for x, y in batches * 5:  # each after a step, whose traces in the caches make it slower
        own_step(x, y)
        viewing.append(timed(lambda x: view(x, view.decide(len(x), rng)), x))
    network = network_of(learner)
    with torch.no_grad():
        forward = statistics.median(timed(network, view.plain(x)) for x, _ in batches * 5)
    alone_s, by_hand_s, added = (statistics.median(column) for column in zip(*means, strict=True))
    return Cost(alone_s, by_hand_s, added, statistics.median(viewing), forward)


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
    parser.add_argument("--steps", type=int, default=2000, help="of a kind, per case (default: 2000)")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    for method in ("er", "synergy"):
        for name, features in FEATURES.items():
            for kind in (torch.float32, torch.uint8):
                for prequential in ("off", "learning", "answering"):
                    cost = overhead(method, features, kind, prequential, steps)
                    passing = f"; a forward pass {1e6 * cost.forward:.0f} us" if prequential == "answering" else ""
                    print(
                        f"{method:<8}{name:<7}{str(kind).removeprefix('torch.'):<8}{prequential:<10}"
                        f"own step {1e6 * cost.own:5.0f} us "
                        f"({1e6 * cost.viewing:2.0f} to view)  adds {1e6 * cost.added:4.0f} us "
                        f"({cost.added / cost.own:5.1%}); by hand {1e6 * cost.by_hand:3.0f} "
                        f"({cost.by_hand / cost.own:4.1%}){passing}",
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
            f"(its network alone {alone:.0f} and {quickest_alone:.0f})"
        )


if __name__ == "__main__":
    main()
