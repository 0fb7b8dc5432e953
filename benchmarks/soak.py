"""A long stream: neither memory nor the time of a step may grow.

    OMP_NUM_THREADS=1 python benchmarks/soak.py

A learner with a tiny network sees 200,000 batches, and a label it has never seen with every 5,000th; older labels drift
out of the stream. As a service would, it is asked for its metrics and for predictions on the way, and saved ten times.
The most that was resident in the last tenth may be 2 % more than in the second, and the median step of the last tenth
may take 10 % longer, in processor time. Writes benchmarks/records/soak.json and draws docs/soak.png; a run with other
numbers than these does neither, unless it is told where.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
import tracemalloc
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synergy import Learner
from synergy.device import device_name
from synergy.nets.mlp import MLP
from synergy.release import release

HOME = Path(__file__).parent
OBSERVES, EVERY = 200_000, 5_000
FEATURES, HIDDEN, BATCH, LIVE = 8, 16, 8, 10
"""Numbers in a sample; units; samples of a batch; labels that are in the stream at a time."""
POINTS, ASK = 400, 500
"""At which the resident size is read; batches between two questions."""
WINDOWS = 40
"""Points of the line of step times, each a median over thousands of steps."""
GROWTH, SLOWDOWN = 0.02, 0.10
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Trace:
    """Of a whole stream; all arrays were there before it began."""

    seconds: Floats  # processor time of each step
    resident: Floats  # bytes, at POINTS evenly spaced
    accuracy: Floats  # percent, of the latest samples, at the same points
    classes: Floats  # at the same points


@dataclass(frozen=True)
class Verdict:
    """What is asked, in numbers."""

    observes: int
    classes: int
    resident_mb_second_tenth: float
    resident_mb_last_tenth: float
    resident_growth: float
    step_us_second_tenth: float
    step_us_last_tenth: float
    slowdown: float
    constant_memory: bool
    constant_time: bool


class Drifting:
    """Clusters, one for each label; the latest `LIVE` labels are in the stream."""

    def __init__(self, labels: int, every: int) -> None:
        self._rng = np.random.default_rng(0)
        self._centres = self._rng.normal(size=(labels, FEATURES)).astype(np.float32)
        self._every = every

    def batch(self, number: int) -> tuple[torch.Tensor, list[str]]:
        """The batch of that number: samples `[BATCH, FEATURES]`, and a text for each."""
        newest = number // self._every
        labels = self._rng.integers(max(0, newest - LIVE + 1), newest + 1, size=BATCH)
        if number % self._every == 0:
            labels[0] = newest
        noise = self._rng.normal(scale=0.3, size=(BATCH, FEATURES)).astype(np.float32)
        return torch.from_numpy(self._centres[labels] + noise), [f"label {label}" for label in labels]


def resident_bytes() -> int:
    """Of this process, now; Linux only."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(observes: int, every: int, method: str) -> Trace:
    """Let a learner see the stream."""
    stream = Drifting(-(-observes // every), every)
    net = MLP(FEATURES, 2, HIDDEN, generator=torch.Generator().manual_seed(0))
    learner = Learner(net, method, buffer_size=200, minibatch_size=8, lr=0.05)
    trace = Trace(np.zeros(observes), *(np.zeros(POINTS) for _ in range(3)))
    points = np.linspace(observes / POINTS, observes, POINTS).astype(int) - 1
    point = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(observes):
            x, y = stream.batch(number)
            began = time.process_time()  # a wait for the processor counts for nobody
            learner.observe(x, y)
            trace.seconds[number] = time.process_time() - began
            if number % ASK == 0:
                learner.predict(x)
                learner.metrics()
            if number % (observes // 10) == 0:
                learner.save(Path(folder) / "learner")
            if number == points[point]:
                trace.resident[point] = resident_bytes()
                trace.accuracy[point] = learner.metrics()["recent_accuracy"]
                trace.classes[point] = len(learner.classes)
                point += point < POINTS - 1
    return trace


def judged(trace: Trace) -> Verdict:
    """Tenths of the stream against each other."""
    tenths = np.array_split(trace.seconds, 10)
    second, last = (float(np.median(tenths[which])) for which in (1, 9))
    # The most there was in a tenth: the size goes up and down with what happens to be allocated.
    sizes = np.array_split(trace.resident, 10)
    warm, end = float(sizes[1].max()), float(sizes[9].max())
    growth, slowdown = end / warm - 1, last / second - 1
    return Verdict(
        observes=len(trace.seconds),
        classes=int(trace.classes[-1]),
        resident_mb_second_tenth=warm / 1e6,
        resident_mb_last_tenth=end / 1e6,
        resident_growth=growth,
        step_us_second_tenth=1e6 * second,
        step_us_last_tenth=1e6 * last,
        slowdown=slowdown,
        constant_memory=growth <= GROWTH,
        constant_time=slowdown <= SLOWDOWN,
    )


def smoothed(seconds: Floats) -> tuple[Floats, Floats, Floats]:
    """Lower quartile, median and upper quartile of the steps of each window, microseconds `[WINDOWS]`."""
    quartiles = [np.percentile(part, (25, 50, 75)) for part in np.array_split(1e6 * seconds, WINDOWS)]
    low, median, high = np.array(quartiles).T
    return low, median, high


def draw(trace: Trace, verdict: Verdict, path: Path) -> None:
    """Step time, resident size, and how well the stream is predicted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    time_panel, size_panel, learned_panel = figure.subplots(3, 1, sharex=True)
    observes = len(trace.seconds)
    observed = np.linspace(observes / POINTS, observes, POINTS)
    middles = (np.arange(WINDOWS) + 0.5) * observes / WINDOWS
    low, median, high = smoothed(trace.seconds)
    time_panel.fill_between(middles, low, high, color="tab:blue", alpha=0.2, linewidth=0, label="middle half of steps")
    time_panel.plot(middles, median, linewidth=2, label=f"median of {observes // WINDOWS:,} steps")
    time_panel.set_ylabel("processor time\nof a step, µs")
    time_panel.legend(loc="lower left", frameon=False, fontsize=8, ncols=2)
    size_panel.plot(observed, trace.resident / 1e6, linewidth=2)
    size_panel.set_ylabel("resident size, MB")
    panels = (
        (time_panel, float(median.max()), "median step", verdict.slowdown, SLOWDOWN),
        (size_panel, float(trace.resident.max()) / 1e6, "most in memory", verdict.resident_growth, GROWTH),
    )
    for panel, highest, what, change, limit in panels:
        panel.set_ylim(0, 1.35 * highest)
        text = f"{what}, last tenth against second tenth: {change:+.1%} (allowed: {limit:+.0%})"
        panel.text(0.99, 0.93, text, transform=panel.transAxes, ha="right", va="top", fontsize=9)
    learned_panel.plot(observed, trace.accuracy, linewidth=1.5)
    learned_panel.set_ylabel("accuracy before\nlearning, %", color="tab:blue")
    learned_panel.set_ylim(0, 104)
    labels = learned_panel.twinx()
    labels.step(observed, trace.classes, where="post", color="tab:gray", linewidth=1)
    labels.set_ylabel("labels seen", color="tab:gray")
    labels.set_ylim(bottom=0)
    learned_panel.set_xlabel("batches")
    learned_panel.xaxis.set_major_formatter("{x:,.0f}")
    figure.suptitle(f"{verdict.observes:,} batches, a new label every {verdict.observes // verdict.classes:,}")
    figure.savefig(path, dpi=110)


def record(verdict: Verdict, method: str, started: datetime, seconds: float) -> dict[str, Any]:
    """The verdict and where it comes from."""
    names = ("synergy-cl", "torch", "numpy")
    versions = {"python": sys.version.split()[0], **{name: release(name) for name in names}}
    return {
        "command": "python benchmarks/soak.py",
        "method": method,
        **asdict(verdict),
        "wall_s": round(seconds, 1),
        "device": device_name(torch.device("cpu")),
        "versions": versions,
        "started_at": started.isoformat(timespec="seconds"),
    }


def growth_by_line(observes: int, every: int, method: str) -> None:
    """Print where Python's own memory grew most while the stream was seen a second time."""
    tracemalloc.start(10)
    run(observes, every, method)  # fills all caches
    gc.collect()
    before = tracemalloc.take_snapshot()
    run(observes, every, method)
    gc.collect()
    for statistic in tracemalloc.take_snapshot().compare_to(before, "lineno")[:15]:
        print(statistic)


def main() -> None:
    """Print the verdict; exit code 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observes", type=int, default=OBSERVES, help=f"batches (default: {OBSERVES})")
    parser.add_argument("--every", type=int, default=EVERY, help=f"batches between two new labels (default: {EVERY})")
    parser.add_argument("--method", default="synergy", help="that learns (default: synergy)")
    parser.add_argument("--record", type=Path, help="file for the numbers")
    parser.add_argument("--picture", type=Path, help="file for the picture")
    parser.add_argument("--trace", action="store_true", help="only show which lines of Python keep memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.trace:
        growth_by_line(options.observes, options.every, options.method)
        return
    whole = (options.observes, options.every, options.method) == (OBSERVES, EVERY, "synergy")
    to_record = options.record or (HOME / "records" / "soak.json" if whole else None)
    to_picture = options.picture or (HOME.parent / "docs" / "soak.png" if whole else None)
    started, began = datetime.now(UTC), time.perf_counter()
    trace = run(options.observes, options.every, options.method)
    verdict = judged(trace)
    content = json.dumps(record(verdict, options.method, started, time.perf_counter() - began), indent=1)
    print(content)
    if to_record is not None:
        to_record.write_text(content + "\n", encoding="utf-8")
    if to_picture is not None:
        draw(trace, verdict, to_picture)
    sys.exit(0 if verdict.constant_memory and verdict.constant_time else 1)


if __name__ == "__main__":
    main()
