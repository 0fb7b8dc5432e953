"""What a checkpoint costs: `python benchmarks/checkpoint.py [--scenario rot-mnist] [--method synergy] [--folder .]`.

Takes the tuned values for a memory of 500, trains until the memory is full and there is a Fisher information, and then
in turn trains 500 steps and writes checkpoints into `--folder`, which should be on the disk that is asked about. Prints
the median time of each, and the share of a checkpoint every 500 steps in the time of a run. A checkpoint is taken as a
run takes it: the losses are looked at, the state is collected, written, synced and renamed, and an old one is removed.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from synergy.device import device_name, exactness
from synergy.runs.config import PresetChoice, build
from synergy.runs.prepare import prepare
from synergy.runs.session import Session
from synergy.runs.training import Stopped

STEPS = 500
ROUNDS = 3
CHECKPOINTS = 9
"""In each round."""


def advance(session: Session, steps: int) -> float:
    """Seconds that so many steps take, without evaluations at the end of a task."""
    asked, before = itertools.count(), session.training.train_s
    session.training.should_stop = lambda: next(asked) == steps
    try:
        session.training.run()
    except Stopped:
        return session.training.train_s - before
    raise SystemExit("the scenario is too short for this benchmark")


def save(session: Session, number: int) -> float:
    """Seconds that a checkpoint takes."""
    began = time.perf_counter()
    session.checkpoints.add(session.state_dict(), step=number, task=0)
    return time.perf_counter() - began


def measure(session: Session, precision: str) -> tuple[list[float], list[float]]:
    """Seconds of each stretch of steps, and of each checkpoint."""
    numbers = itertools.count()
    stretches, checkpoints = [], []
    with exactness(precision):
        advance(session, STEPS)
        for _ in range(ROUNDS):
            stretches.append(advance(session, STEPS))
            checkpoints += [save(session, next(numbers)) for _ in range(CHECKPOINTS)]
    return stretches, checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="rot-mnist")
    parser.add_argument("--method", default="synergy")
    parser.add_argument("--folder", default=".", help="where to write, for the time of the benchmark")
    given = parser.parse_args()
    config = build(given.scenario, given.method, {"buffer_size": 500}, PresetChoice(wanted=True))
    prepared = prepare(config)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        session = Session(prepared, Path(folder))
        stretches, checkpoints = measure(session, session.prepared.worker.means.precision)
        size = sum(file.stat().st_size for file in session.checkpoints.newest_first()[0].iterdir())
    steps, one = statistics.median(stretches), statistics.median(checkpoints)
    print(f"{given.scenario}, {given.method}, on {device_name(prepared.device)}")
    print(f"a checkpoint: {size / 1e6:.2f} MB, median {1e3 * one:.1f} ms of {len(checkpoints)}")
    print(f"  from {1e3 * min(checkpoints):.1f} to {1e3 * max(checkpoints):.1f} ms")
    print(f"{STEPS} steps: median {steps:.2f} s of {len(stretches)}")
    print(f"one checkpoint every {STEPS} steps: {100 * one / (steps + one):.2f} % of the time")


if __name__ == "__main__":
    main()
