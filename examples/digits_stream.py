"""A stream of handwritten digits: new digits appear, two at a time, and the old ones stay away for a long while.

The learner does not know how many digits there are, or when new ones begin. Half-way it is saved, and a learner loaded
from the folder takes its place. Plain gradient descent on the same stream shows what is forgotten.

    python examples/digits_stream.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from synergy import Learner

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
BATCH = 16

images, digits = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
is_test = np.arange(len(digits)) % 5 == 0


def stream(steps_per_pair: int, seed: int = 0) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Batches of images `[16, 64]` and names, without end: zeros and ones, then twos and threes, ..., then again."""
    rng = np.random.default_rng(seed)
    while True:
        for first in range(0, 10, 2):
            rows = np.flatnonzero(~is_test & (digits // 2 * 2 == first))
            for _ in range(steps_per_pair):
                chosen = rng.choice(rows, BATCH)
                yield images[chosen], NAMES[digits[chosen]].tolist()


def network() -> nn.Module:
    """Two outputs. The learner adds one for each further label."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 2))


def held_out_accuracy(learner: Learner) -> float:
    """Percent right over the test images of all digits seen so far."""
    seen = is_test & np.isin(NAMES[digits], np.array(learner.classes))
    answers = np.array(learner.predict(images[seen]))
    return 100 * float((answers == NAMES[digits[seen]]).mean())


def main() -> None:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, formatter_class=shown)
    parser.add_argument("--steps", type=int, default=1000, help="number of batches (default 1000)")
    steps = parser.parse_args().steps
    if steps < 1:
        parser.error(f"--steps: given {steps}; allowed: whole numbers from 1 on")
    per_pair = max(steps // 5, 1)

    # For a stream of some thousand samples the semantic network must follow sooner than by default.
    synergy = Learner(network(), method="synergy", buffer_size=200, lr=0.1, ema_alpha=0.95)
    sgd = Learner(network(), method="sgd", lr=0.1)

    print("batches  newest        before learning   held-out images of all digits so far")
    print("                       (recent), %       SYNERgy, %   plain SGD, %")
    for step, (x, y) in enumerate(stream(per_pair), start=1):
        synergy.observe(x, y)
        sgd.observe(x, y)
        if step == max(steps // 2, 1):
            synergy = saved_and_loaded(synergy)
        if step % per_pair == 0:
            recent = synergy.metrics()["recent_accuracy"]
            before = "-" if recent is None else f"{recent:.1f}"  # the first batch has none
            print(
                f"{step:7d}  {' '.join(map(str, synergy.classes[-2:])):12s}  {before:>15s}   "
                f"{held_out_accuracy(synergy):10.1f}   {held_out_accuracy(sgd):12.1f}"
            )
        if step == steps:
            break
    print("In memory:", synergy.memory.summary()["per_class"])


def saved_and_loaded(learner: Learner) -> Learner:
    with tempfile.TemporaryDirectory() as folder:
        learner.save(Path(folder) / "learner")
        loaded = Learner.load(Path(folder) / "learner", network())
    same = torch.equal(loaded.scores(images), learner.scores(images))
    print(f"         saved, and another learner loaded from there goes on; same answers: {'yes' if same else 'NO'}")
    return loaded


if __name__ == "__main__":
    main()
