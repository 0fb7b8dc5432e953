"""Is every method between fine-tuning and joint training? Small streams, three seeds.

    SYNERGY_DATA=folder python benchmarks/sanity.py

On split digits and on five tasks of rotated MNIST with 2,000 images, memory 200: every replay method should beat `sgd`
by a clear margin, and none should beat `joint` by more than noise. Tuned values where the package has some for the
scenario, otherwise the method's defaults; the table is for finding what is broken, not for ranking.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from typing import Any

import torch

from synergy import presets
from synergy.data.sources import Source, load
from synergy.engine.worker import Means, Worker
from synergy.errors import TrainingError, UsageError
from synergy.methods import METHODS, method_class
from synergy.methods.base import make_method
from synergy.runs.fitting import check_compatible
from synergy.runs.session import accuracies
from synergy.runs.training import Schedule, Training
from synergy.scenarios import scenario_class
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.testing import budget, setting

BUFFER, SEEDS, MARGIN, NOISE = 200, 3, 5.0, 2.0
"""Samples in memory; seeds; percentage points that are a clear margin, and that are noise."""
SETTINGS: dict[str, tuple[dict[str, Any], int | None, int, int]] = {
    "seq-digits": ({}, None, 10, 5),
    "rot-mnist": ({"n_tasks": 5, "rotation_angles": (0.0, 40.0, 80.0, 120.0, 160.0)}, 2000, 10, 1),
}
"""Scenario: options, training images (None: all), batch size, epochs."""


def build(name: str, seed: int, batch_size: int) -> AnyScenario:
    """The scenario, on the first images of its source if it is to be small."""
    options, images, _, _ = SETTINGS[name]
    kind = scenario_class(name)
    source = load(kind.dataset)
    if images is not None:
        first = torch.arange(images)
        source = Source(source.info, source.train.select(first), source.test.select(first))
    return kind(kind.Config(**options), StreamSetting(source, seed, batch_size, torch.device("cpu")))


def options_of(scenario: str, method: str) -> dict[str, Any]:
    """Tuned values of the method's own options, or a middling learning rate and a draw of 32."""
    names = method_class(method).Config.names()
    found = [p for p in presets.available(scenario, method) if p.buffer_size in (None, BUFFER)]
    values: dict[str, Any] = dict(found[0].values) if found else {"minibatch_size": 32}
    values = {"lr": 0.1, "buffer_size": BUFFER, **values}
    return {name: value for name, value in values.items() if name in names}


def final(name: str, method: str, seed: int, **changes: Any) -> float:
    """Final average of the recommended predictor, under the first of its protocols; `changes` replace options."""
    _, _, batch_size, epochs = SETTINGS[name]
    kind = method_class(method)
    scenario = build(name, seed, kind.only_batch_size or batch_size)
    config = kind.Config(**(options_of(name, method) | changes))
    learner = make_method(kind, config, setting(scenario, seed), replace(budget(scenario), n_epochs=epochs))
    training = Training(Worker(learner, Means(torch.device("cpu"))), scenario, Schedule(epochs), seed=seed)
    training.run()
    return accuracies(training)[0].metrics["final_average"]


def main() -> None:
    """Print a line for each method, with a word where it is not where it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    for name in SETTINGS:
        print(f"\n{name}\n\n| method | final average, % | |\n|---|---|---|")
        results: dict[str, list[float]] = {}
        for method in ("sgd", "joint", *(m for m in METHODS if m not in ("sgd", "joint"))):
            try:
                check_compatible(method, method_class(method), name, scenario_class(name))
                results[method] = [final(name, method, seed) for seed in range(SEEDS)]
            except (UsageError, TrainingError) as error:
                print(f"| {method} | - | {error} |", flush=True)
                continue
            mean, spread = statistics.mean(results[method]), statistics.stdev(results[method])
            bottom, top = statistics.mean(results["sgd"]), statistics.mean(results.get("joint", [100.0]))
            replays = "buffer_size" in method_class(method).Config.names()
            word = "does not beat sgd" if replays and mean < bottom + MARGIN else ""
            word = "beats joint" if mean > top + NOISE and method != "joint" else word
            print(f"| {method} | {mean:.2f} ± {spread:.2f} | {word} |", flush=True)


if __name__ == "__main__":
    main()
