"""A SYNERgy step on features of a frozen backbone, against the same step written out by hand.

    OMP_NUM_THREADS=1 python benchmarks/features_step.py

Features are random, 384 or 768 of each sample, in 100 classes; batch 32, replay 32, memory 500 and full; the options
are the defaults. The floor decides, computes and stores what the method does, as bare operations of torch and numpy on
the same vectors of parameters. From the same decisions it reaches the same weights, which is checked first. The two
take turns of a few steps in one process. Shown are processor times, and the ratio of neighbouring turns: its median
and its quartiles.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.data.view import AS_STORED
from synergy.methods.base import Setting
from synergy.methods.synergy import Synergy, SynergyConfig
from synergy.nets import NET_CLASSES
from synergy.nets.base import build
from synergy.ops.averaging import warm_decay
from synergy.ops.vectors import Flat
from synergy.types import Batch

CLASSES, BATCH, MEMORY = 100, 32, 500
SIZES, NETS = (384, 768), ("linear", "mlp")
STEPS, MOST = 50, 1.5
"""Steps of a turn; the ratio that is allowed."""
CONFIG = SynergyConfig(lr=0.01)

Decided = tuple[Tensor, Tensor, float | None, float | None]
"""Slots to replay, places of the stream batch, and the weights of the new average and the new Fisher information."""


class ByHand:
    """The step of SYNERgy as bare operations. Its networks are those of a method, copied.

    Args:
        method: whose state it starts from, with a full memory.
    """

    def __init__(self, method: Synergy) -> None:
        self.nets = [self._layers(net, method) for net in (method.net, method.semantic)]
        self.theta, self.phi = Flat(self.nets[0]), Flat(self.nets[1])
        self.fisher = method.fisher.values.clone()
        stored = method.memory.all()
        # One slot more: what is not kept is written there.
        self.raw = torch.cat([stored.raw, stored.raw[:1]])
        self.labels = torch.cat([stored.labels, stored.labels[:1]])
        self.seen, self.steps = method.memory.seen, method.steps
        self.rng = np.random.default_rng(0)

    @staticmethod
    def _layers(net: nn.Module, method: Synergy) -> nn.Sequential:
        """The linear layers of a network with ReLU between them."""
        layers: list[nn.Module] = []
        for module in net.modules():
            if isinstance(module, nn.Linear):
                layers += [nn.ReLU()] * bool(layers)
                layers.append(nn.Linear(module.in_features, module.out_features))
        own = nn.Sequential(*layers)
        with torch.no_grad():
            for mine, theirs in zip(own.parameters(), net.parameters(), strict=True):
                mine.copy_(theirs)
        return own

    def decide(self) -> Decided:
        """Draw a replay batch, the places of the stream batch, and two coins."""
        self.steps += 1
        slots = torch.from_numpy(self.rng.choice(MEMORY, BATCH, replace=False, shuffle=False))
        numbers = self.seen + np.arange(1, BATCH + 1)
        self.seen += BATCH
        drawn = (self.rng.random(BATCH) * numbers).astype(np.int64)
        places = torch.from_numpy(np.minimum(drawn, MEMORY))
        average = fisher = None
        if self.rng.random() < CONFIG.ema_update_freq:
            average = 1 - warm_decay(self.steps, CONFIG.ema_alpha, CONFIG.ema_warmup)
        if self.rng.random() < CONFIG.fisher_update_freq:
            fisher = 1 - warm_decay(self.steps, CONFIG.fisher_alpha)
        return slots, places, average, fisher

    def step(self, raw: Tensor, labels: Tensor, decided: Decided) -> tuple[Tensor, Tensor]:
        """The loss and the logits of a step."""
        slots, places, average, fisher = decided
        (net, semantic), (theta, phi) = self.nets, (self.theta.values, self.phi.values)
        replayed, of_replayed = self.raw[slots], self.labels[slots]
        with torch.no_grad():
            target = semantic(replayed)
        logits = net(torch.cat([raw, replayed]))
        loss = F.cross_entropy(logits, torch.cat([labels, of_replayed]))
        loss = loss + CONFIG.reg_weight * F.mse_loss(logits[len(raw) :], target)
        self.theta.grads.zero_()
        loss.backward()
        with torch.no_grad():
            drift = theta - phi
            pull = self.fisher * drift
            self.theta.grads.add_(pull, alpha=2 * CONFIG.penalty_weight)
            loss = loss.detach() + CONFIG.penalty_weight * (pull @ drift)
            theta.sub_(self.theta.grads, alpha=CONFIG.lr)
            self.raw[places] = raw
            self.labels[places] = labels
            if average is not None:
                phi.lerp_(theta, average)
        if fisher is not None:
            self.fisher.lerp_(self._new_fisher(), fisher)
        return loss, logits.detach()

    def _new_fisher(self) -> Tensor:
        """(1/M) sum of p (grad log p)^2: for each layer one product of squares."""
        inputs, outputs, x = [], [], self.raw[:MEMORY]
        for layer in self.nets[1]:
            if isinstance(layer, nn.Linear):
                inputs.append(x)
                x = layer(x)
                outputs.append(x)
            else:
                x = layer(x)
        log_p = -F.cross_entropy(x, self.labels[:MEMORY], reduction="none")
        found = []
        weights = log_p.detach().exp() / MEMORY
        for a, d in zip(inputs, torch.autograd.grad(log_p.sum(), outputs), strict=True):
            squares = (d * d * weights[:, None]).T
            a = a.detach()
            found += [(squares @ (a * a)).flatten(), squares.sum(1)]
        return torch.cat(found)


def full(net_name: str, size: int) -> tuple[Synergy, list[Batch]]:
    """SYNERgy with a full memory and a Fisher information, and batches of its stream."""
    rng = torch.Generator().manual_seed(0)
    kind = NET_CLASSES.load(net_name)
    options: Any = NET_CLASSES.config_of(net_name, kind)()
    centres = torch.randn(CLASSES, size, generator=rng)

    def made(name: str) -> nn.Module:
        return build(kind, options, (size,), CLASSES, torch.Generator().manual_seed(1))

    def batch() -> Batch:
        labels = torch.randint(CLASSES, (BATCH,), generator=rng)
        raw = centres[labels] + torch.randn(BATCH, size, generator=rng)
        return Batch(raw, AS_STORED.plain(raw), labels)

    method = Synergy(CONFIG, Setting(build_net=made, view=AS_STORED, n_classes=CLASSES, seed=0))
    batches = [batch() for _ in range(STEPS)]
    for each in itertools.islice(itertools.cycle(batches), 1000):
        method.observe(each)
        if method.fisher.is_set and len(method.memory) == MEMORY:
            break
    return method, batches


def check(net_name: str, size: int) -> float:
    """Take the same steps with both, from the same decisions; the largest difference of their weights."""
    method, batches = full(net_name, size)
    floor = ByHand(method)
    for each in batches:
        now = method.decide(len(each))
        assert now.replay is not None and now.is_anchored
        average = None if now.average is None else float(now.average)
        fisher = None if now.fisher is None else float(now.fisher.weight)
        method.compute(each, now)
        floor.step(each.raw, each.labels, (now.replay.slots, now.places, average, fisher))
    pairs = ((method.theta.values, floor.theta.values), (method.phi.values, floor.phi.values))
    fishers = (method.fisher.values, floor.fisher)
    return max(float((one - other).abs().max() / one.abs().max()) for one, other in (*pairs, fishers))


def timed(call: Callable[[Batch], object], batches: list[Batch]) -> float:
    """Seconds of a step, on the processor."""
    began = time.process_time()
    for each in batches:
        call(each)
    return (time.process_time() - began) / len(batches)


def measured(net_name: str, size: int, turns: int) -> tuple[float, float, list[float]]:
    """Median microseconds of both, and the ratio in each turn."""
    method, batches = full(net_name, size)
    floor = ByHand(method)

    def own(each: Batch) -> None:
        # A run makes the view of each batch too.
        method.observe(Batch(each.raw, AS_STORED(each.raw, None), each.labels))

    def by_hand(each: Batch) -> None:
        floor.step(each.raw, each.labels, floor.decide())

    timed(own, batches), timed(by_hand, batches)
    pairs = [(timed(own, batches), timed(by_hand, batches)) for _ in range(turns)]
    first, second = (1e6 * statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    return first, second, [one / other for one, other in pairs]


def main() -> None:
    """Print a line for each network and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=60, help=f"turns of {STEPS} steps")
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    for net_name, size in itertools.product(NETS, SIZES):
        difference = check(net_name, size)
        assert difference < 1e-4, f"by hand the weights are others, by {difference:.1e}"
        first, second, ratios = measured(net_name, size, turns)
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{net_name:6s} {size} features  step {first:4.0f} us  by hand {second:4.0f} us  "
            f"ratio {middle:.2f} ({low:.2f} to {high:.2f})  at most {MOST}: {'yes' if middle <= MOST else 'NO'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
