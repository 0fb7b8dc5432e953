"""Streams of tables, one sample at a time: the faces of the learner beside river's own models.

    OMP_NUM_THREADS=1 python benchmarks/streams.py

The classification sets that river ships and two streams with drift that it generates, at most 5,000 samples of each.
Every model predicts a sample, then learns it, behind river's StandardScaler. The scikit-learn face predicts and learns
batches of 16. The cost is the processor time of both, with the scaler. Models that draw run with three seeds. Writes
benchmarks/records/streams.json; `python -m docs.generate` makes the tables of docs/streams.md from it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synergy import SynergyClassifier
from synergy.device import device_name
from synergy.release import release

try:
    from river import compose, datasets, forest, linear_model, multiclass, preprocessing, tree
except ImportError as error:
    sys.exit(f"{error}; install what this benchmark needs with: pip install 'synergy-cl[river]'")

from synergy.stream.faces.river import RiverClassifier

RECORD = Path(__file__).parent / "records" / "streams.json"
MOST, BATCH, SEEDS = 5_000, 16, (0, 1, 2)

Sample = tuple[dict[Any, Any], Any]


@dataclass(frozen=True)
class Result:
    """One pass of a model over a stream.

    Attributes:
        accuracy: percent of all samples, each predicted before it was learned.
        microseconds: processor time for each sample, prediction and learning.
    """

    accuracy: float
    microseconds: float


def drifting() -> Iterator[Sample]:
    """Four classes around centres that move all the time."""
    return iter(
        datasets.synth.RandomRBFDrift(
            0, 0, n_classes=4, n_features=10, n_centroids=20, change_speed=0.001, n_drift_centroids=20
        )
    )


def abrupt() -> Iterator[Sample]:
    """SEA: the rule changes after 2,500 samples; one label in ten is wrong."""
    drift = datasets.synth.ConceptDriftStream(
        datasets.synth.SEA(variant=0, noise=0.1, seed=0),
        datasets.synth.SEA(variant=2, noise=0.1, seed=1),
        position=MOST // 2,
        width=50,
        seed=0,
    )
    return iter(drift)


SHIPPED: Any = datasets  # their classes have no annotations
STREAMS: Mapping[str, Callable[[], Iterator[Sample]]] = {
    "ImageSegments": lambda: iter(SHIPPED.ImageSegments()),
    "Phishing": lambda: iter(SHIPPED.Phishing()),
    "Bananas": lambda: iter(SHIPPED.Bananas()),
    "Shuttle": lambda: iter(SHIPPED.Shuttle()),
    "RandomRBFDrift": drifting,
    "SEA, abrupt": abrupt,
}


def of_river(make: Callable[[int], Any]) -> Callable[[list[Sample], int], Result]:
    """Measures a model of river that `make` builds from a seed."""

    def measure(samples: list[Sample], seed: int) -> Result:
        model = compose.Pipeline(preprocessing.StandardScaler(), make(seed))
        right, began = 0, time.process_time()
        for x, y in samples:
            right += model.predict_one(x) == y
            model.learn_one(x, y)
        return _result(right, len(samples), began)

    return measure


def scikit_learn(samples: list[Sample], seed: int) -> Result:
    """The scikit-learn face, in batches, behind the same scaler."""
    scaler: Any = preprocessing.StandardScaler()
    model = SynergyClassifier(random_state=seed)
    names = sorted(samples[0][0])
    right, began = 0, time.process_time()
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        rows = []
        for x, _ in batch:
            scaler.learn_one(x)
            scaled = scaler.transform_one(x)
            rows.append([scaled[name] for name in names])
        labels = np.array([y for _, y in batch])
        if start:
            right += int((model.predict(np.array(rows)) == labels).sum())
        model.partial_fit(np.array(rows), labels)
    return _result(right, len(samples), began)


def _result(right: int, n: int, began: float) -> Result:
    return Result(accuracy=100 * right / n, microseconds=1e6 * (time.process_time() - began) / n)


MODELS: Mapping[str, tuple[Callable[[list[Sample], int], Result], bool]] = {
    "RiverClassifier, synergy": (of_river(lambda seed: RiverClassifier("synergy", seed=seed)), True),
    "RiverClassifier, er": (of_river(lambda seed: RiverClassifier("er", seed=seed)), True),
    "RiverClassifier, sgd": (of_river(lambda seed: RiverClassifier("sgd", seed=seed)), True),
    "SynergyClassifier, batches of 16": (scikit_learn, True),
    "river: logistic regression": (
        of_river(lambda seed: multiclass.OneVsRestClassifier(linear_model.LogisticRegression())),
        False,
    ),
    "river: Hoeffding tree": (of_river(lambda seed: tree.HoeffdingTreeClassifier()), False),
    "river: adaptive random forest": (of_river(lambda seed: forest.ARFClassifier(seed=seed)), True),
}
"""Name -> what measures it, and whether it draws."""


def measured(most: int) -> dict[str, Any]:
    """Every model on every stream; prints a line for each."""
    streams: dict[str, Any] = {}
    for name, stream in STREAMS.items():
        samples = list(itertools.islice(stream(), most))
        classes = len({y for _, y in samples})
        rows = {}
        for model, (measure, draws) in MODELS.items():
            results = [measure(samples, seed) for seed in (SEEDS if draws else SEEDS[:1])]
            accuracies = [each.accuracy for each in results]
            cost = statistics.median(each.microseconds for each in results)
            rows[model] = {"accuracy": [round(each, 3) for each in accuracies], "microseconds": round(cost, 1)}
            print(f"{name:16} {model:34} {statistics.mean(accuracies):6.2f} %  {cost:7.0f} µs a sample", flush=True)
        streams[name] = {"samples": len(samples), "features": len(samples[0][0]), "classes": classes, "models": rows}
    return streams


def main() -> None:
    """Measure, print, and write the record of a whole run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=MOST, help=f"most samples of a stream (default: {MOST})")
    parser.add_argument("--record", type=Path, help="file for the numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    streams = measured(options.samples)
    names = ("synergy-cl", "torch", "numpy", "river", "scikit-learn")
    content = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/streams.py",
        "seeds": list(SEEDS),
        "device": device_name(torch.device("cpu")),
        "versions": {"python": sys.version.split()[0], **{name: release(name) for name in names}},
        "streams": streams,
    }
    target = options.record or (RECORD if options.samples == MOST else None)
    if target is not None:
        target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
