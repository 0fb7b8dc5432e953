"""Readings of eight sensors on a machine whose behaviour drifts: slowly, then at once, and then back to what it was.

Each batch is predicted, then learned. The machine stays in one state for hours, then in the next, so the labels come in
long runs. Plain gradient descent learns the same stream for comparison.

    python examples/tabular_drift.py
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch import nn

from synergy import Learner

STATES = ["normal", "leak", "overheating", "blocked"]
SENSORS = 8
BATCH = 16
ROUNDS = 3
"""Passes through all states in a phase. The machine stays in a state for a twelfth of a phase, at least one batch."""
PHASES = {
    "steady": "nothing changes",
    "gradual drift": "sensors age: what they say shifts a little with every batch",
    "abrupt drift": "two sensors are exchanged, one is mounted the wrong way round",
    "repaired": "all is as in the first phase again",
}


Rows = np.ndarray[Any, np.dtype[np.float64]]


class Machine:
    """The sensor readings of a machine in a given state. The seed decides all of them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.typical = self.rng.normal(0, 1.1, (len(STATES), SENSORS))
        self.ageing = self.rng.normal(0, 1.5, SENSORS)

    def batch(self, state: int, phase: str, progress: float) -> Rows:
        """Readings `[16, 8]` in a state. `progress` goes from 0 to 1 through the phase."""
        centre = self.typical[state].copy()
        if phase == "gradual drift":
            centre += progress * self.ageing
        readings: Rows = centre + self.rng.normal(0, 1.0, (BATCH, SENSORS))
        if phase == "abrupt drift":
            readings = readings[:, [1, 0, 2, 3, 4, 5, 6, 7]] * np.array([1, 1, -1, 1, 1, 1, 1, 1])
        return readings

    def test(self, phase: str, n: int = 20) -> tuple[Rows, list[str]]:
        """Readings as they are at the end of a phase, the same number of each state."""
        parts = [self.batch(state, phase, 1.0) for state in range(len(STATES)) for _ in range(n)]
        return np.concatenate(parts), [name for name in STATES for _ in range(n * BATCH)]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(SENSORS, 64), nn.ReLU(), nn.Linear(64, len(STATES)))


def main() -> None:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, formatter_class=shown)
    parser.add_argument("--steps", type=int, default=1920, help="number of batches (default 1920)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the machine (default 0)")
    arguments = parser.parse_args()
    if arguments.steps < len(PHASES):
        parser.error(f"--steps: given {arguments.steps}; allowed: whole numbers from {len(PHASES)} on, one a phase")
    if arguments.seed < 0:
        parser.error(f"--seed: given {arguments.seed}; allowed: whole numbers from 0 on")

    machine = Machine(arguments.seed)
    learners = {
        "synergy": Learner(network(), method="synergy", buffer_size=200, lr=0.05, ema_alpha=0.95),
        "sgd": Learner(network(), method="sgd", lr=0.05),
    }
    print("                 before learning, %   all states at the end of the phase, %")
    print("phase            SYNERgy   plain SGD   SYNERgy   plain SGD")
    for number, phase in enumerate(PHASES):
        per_phase = (arguments.steps + number) // len(PHASES)  # the phases add up to --steps
        stays = min(ROUNDS * len(STATES), per_phase)
        hits = dict.fromkeys(learners, 0)
        for step in range(per_phase):
            state = step * stays // per_phase % len(STATES)
            x, y = machine.batch(state, phase, step / per_phase), [STATES[state]] * BATCH
            for name, learner in learners.items():
                if learner.classes:
                    hits[name] += sum(given == said for given, said in zip(y, learner.predict(x), strict=True))
                learner.observe(x, y)
        before = [f"{100 * hits[name] / (per_phase * BATCH):7.1f}" for name in learners]
        after = [f"{next(iter(learner.evaluate(*machine.test(phase)).values())):7.1f}" for learner in learners.values()]
        print(f"{phase:15s}  {before[0]}   {before[1]}     {after[0]}   {after[1]}")
    for phase, meaning in PHASES.items():
        print(f"  {phase}: {meaning}")
    print(
        "The first two columns judge the predictions of each batch before it was learned. A state lasts, so repeating\n"
        "the last answer is often right. The last two columns weigh all four states equally, as an alarm must."
    )


if __name__ == "__main__":
    main()
