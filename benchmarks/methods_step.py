"""What a step of each method costs, relative to ER at the same batch, on the MLP.

    python benchmarks/methods_step.py [--markdown]

Every method learns the same stream (permuted digits blown up to 28x28, batch 128, memory 500 and full, replay 128).
Methods take turns, a few dozen steps each, and the median over the turns counts, so that what else the machine does
hits all alike. SYNERgy runs with its published update probabilities.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from typing import Any

import torch

from synergy import presets
from synergy.data.sources import Source, SourceInfo, load
from synergy.methods import METHODS, method_class
from synergy.methods.base import Method, make_method
from synergy.scenarios.base import StreamSetting
from synergy.scenarios.permuted import PermutedConfig, PermutedMnist
from synergy.state import State
from synergy.testing import budget, setting
from synergy.types import Batch, Split, Task

BATCH, MEMORY, STEPS, TURNS = 128, 500, 30, 7
LIMITS = {
    "der": 1.3,
    "derpp": 1.9,
    "clser": 1.8,
    "agem_r": 1.5,
    "er_ace": 1.2,
    "ewc_on": 1.3,
    "si": 1.3,
    "synergy": 4.0,
    "gss": 8.0,
}


def enlarged(split: Split) -> Split:
    """Digits of 8x8 as 28x28."""
    images = torch.nn.functional.interpolate(split.raw.float(), size=28).to(torch.uint8)
    return Split(images.repeat(3, 1, 1, 1), split.labels.repeat(3), split.classes)


def stream(batch: int) -> PermutedMnist:
    """Two tasks of the shape of permuted MNIST."""
    digits = load("digits")
    info = SourceInfo("mnist", "enlarged digits", 0, 0, complete=False)
    source = Source(info, enlarged(digits.train), enlarged(digits.test))
    return PermutedMnist(PermutedConfig(n_tasks=2), StreamSetting(source, 0, batch, torch.device("cpu")))


def published(name: str) -> dict[str, Any]:
    """Tuned values for MNIST with a memory of this size, where there are any."""
    for scenario in ("rot-mnist", "seq-mnist", "mnist-360"):
        for preset in presets.available(scenario, name):
            if preset.buffer_size in (None, MEMORY):
                return dict(preset.values)
    return {}


class Contestant:
    """A method in its second task, with a full memory, and the batches it is timed on."""

    def __init__(self, name: str) -> None:
        kind = method_class(name)
        self.size = kind.only_batch_size or BATCH
        whole = stream(self.size)
        options = published(name) | {"buffer_size": MEMORY, "minibatch_size": BATCH, "lr": 0.01}
        config = kind.Config(**{key: value for key, value in options.items() if key in kind.Config.names()})
        self.method: Method[Any] = make_method(kind, config, setting(whole), budget(whole))
        first, second = whole.task(0), whole.task(1)
        self.method.begin_task(first)
        for batch in itertools.islice(self._batches(first, whole), max(8, MEMORY // self.size)):
            self.method.observe(batch)
        self.method.end_task(first)
        self.method.begin_task(second)
        self.batches = itertools.cycle(list(itertools.islice(self._batches(second, whole), STEPS)))
        self.times: list[float] = []

    @staticmethod
    def _batches(task: Task, whole: PermutedMnist) -> Any:
        return (Batch(raw, whole.view.plain(raw), labels) for raw, labels in task.batches(0))

    def turn(self) -> None:
        """Time a few steps in a row."""
        steps = STEPS if self.size == BATCH else 3
        began = time.perf_counter()
        for _ in range(steps):
            self.method.observe(next(self.batches))
        self.times.append((time.perf_counter() - began) / steps)


def state_bytes(state: State | Any) -> int:
    """Bytes of all tensors a method keeps: networks, averages, memory."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(map(state_bytes, state.values()))
    if isinstance(state, list):
        return sum(map(state_bytes, state))
    return 0


def main() -> None:
    """Print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/methods/costs.md")
    markdown = parser.parse_args().markdown
    torch.set_num_threads(1)
    contestants = {name: Contestant(name) for name in METHODS if name != "joint"}
    for _ in range(TURNS):
        for contestant in contestants.values():
            contestant.turn()
    seconds = {name: statistics.median(contestant.times) for name, contestant in contestants.items()}
    rows = []
    for name, contestant in contestants.items():
        kept = state_bytes(contestant.method.state_dict()) / 1e6
        to_sgd, to_er = seconds[name] / seconds["sgd"], seconds[name] / seconds["er"]
        rows.append((name, contestant.size, 1e3 * seconds[name], to_sgd, to_er, kept, LIMITS.get(name)))
    if markdown:
        print("| method | batch | ms per step | relative to `sgd` | relative to `er` | state, MB |")
        print("|---|---|---|---|---|---|")
    for name, size, ms, to_sgd, to_er, kept, limit in rows:
        if markdown:
            print(f"| `{name}` | {size} | {ms:.2f} | {to_sgd:.2f} | {to_er:.2f} | {kept:.1f} |")
        else:
            verdict = "" if limit is None else f"at most {limit}: {'yes' if to_er <= limit else 'NO'}"
            print(
                f"{name:<8} batch {size:<4} {ms:7.2f} ms  {to_sgd:6.2f} sgd  {to_er:6.2f} er  {kept:6.1f} MB  {verdict}"
            )


if __name__ == "__main__":
    main()
