"""Choose values for scenarios that nobody has published any for, by a small search on the validation split.

    python benchmarks/search_presets.py --out scores.jsonl [--only seq-digits,synergy]

Every candidate is trained on 90 % of the training set and judged on the other 10 % (never on the test set), with the
seeds given; the best mean of the final average of the recommended predictor under the first protocol wins. Scores are
appended as they come, so that a search goes on where it was stopped. At the end the winners are printed as entries of a
preset file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from synergy.errors import TrainingError
from synergy.runs.config import build
from synergy.runs.metrics import final_average
from synergy.runs.prepare import prepare
from synergy.runs.session import accuracies
from synergy.runs.training import Training

SEEDS = (0, 1)

Candidate = tuple[str, str, dict[str, Any]]

AVERAGING = {
    "clser": {
        "lr": (0.1, 0.2, 0.4),
        "reg_weight": (0.75, 2.0),
        "plastic_model_alpha": (0.9,),
        "stable_model_alpha": (0.95, 0.99),
        "plastic_model_update_freq": (1.0,),
        "stable_model_update_freq": (0.9,),
    },
    "synergy": {
        "lr": (0.1, 0.2, 0.4),
        "reg_weight": (0.2, 1.0),
        "penalty_weight": (0.1, 1.0),
        "ema_alpha": (0.95, 0.99),
        "ema_update_freq": (1.0,),
        "fisher_alpha": (0.99,),
        "fisher_update_freq": (0.2,),
    },
}
LEARNING_RATES = (0.03, 0.1, 0.2, 0.4)
DIGITS = ("rot-digits", "perm-digits", "seq-digits")

Grid = Mapping[str, tuple[Any, ...]]

GRIDS: Mapping[tuple[str, str], tuple[tuple[int | None, ...], Grid]] = {
    **{(d, m): ((None,), {"lr": LEARNING_RATES}) for d in DIGITS for m in ("sgd", "joint")},
    **{(d, "er"): ((200, 500), {"lr": LEARNING_RATES, "minibatch_size": (32,)}) for d in DIGITS},
    **{
        (d, "derpp"): (
            (200, 500),
            {"lr": (0.1, 0.2, 0.4), "alpha": (0.2, 0.5, 1.0), "beta": (0.5, 1.0), "minibatch_size": (32,)},
        )
        for d in DIGITS
    },
    **{(d, m): ((200, 500), {**AVERAGING[m], "minibatch_size": (32,)}) for d in DIGITS for m in AVERAGING},
    **{(d, "joint"): ((None,), {"lr": (0.03, 0.1, 0.2)}) for d in ("rot-mnist", "perm-mnist", "seq-mnist")},
    ("seq-mnist", "synergy"): (
        (200, 500),
        {
            "lr": (0.03, 0.1),
            "minibatch_size": (32, 128),
            "reg_weight": (1.0, 2.0),
            "penalty_weight": (0.1, 1.0),
            "ema_alpha": (0.99,),
            "ema_update_freq": (0.9,),
            "fisher_alpha": (0.99,),
            "fisher_update_freq": (0.1,),
        },
    ),
    ("perm-mnist", "synergy"): (
        (200, 500),
        {
            "lr": (0.2,),
            "minibatch_size": (128,),
            "reg_weight": (0.5, 1.0),
            "penalty_weight": (0.1, 1.0),
            "ema_alpha": (0.99,),
            "ema_update_freq": (1.0,),
            "fisher_alpha": (0.99,),
            "fisher_update_freq": (0.2,),
        },
    ),
}


def candidates(only: str | None) -> Iterator[Candidate]:
    """Every point of every grid."""
    for (dataset, method), (sizes, grid) in GRIDS.items():
        if only is not None and f"{dataset},{method}" != only and dataset != only:
            continue
        for size, point in itertools.product(sizes, itertools.product(*grid.values())):
            memory = {} if size is None else {"buffer_size": size}
            yield dataset, method, {**memory, **dict(zip(grid, point, strict=True))}


def score(candidate: Candidate, seed: int) -> float:
    """Final average on the validation split; 0 for a candidate whose loss does not stay finite."""
    dataset, method, values = candidate
    prepared = prepare(build(dataset, method, {**values, "seed": seed, "validation": True}))
    training = Training(prepared.worker, prepared.scenario, prepared.schedule, seed=seed)
    try:
        training.run()
    except TrainingError:
        return 0.0
    answer = accuracies(training)[0]
    return final_average(answer.matrix) or 0.0


def work(job: tuple[Candidate, int]) -> dict[str, Any]:
    """One line of the scores."""
    torch.set_num_threads(1)
    return {**_line(*job), "score": score(*job)}


def _line(candidate: Candidate, seed: int) -> dict[str, Any]:
    return {**dict(zip(("dataset", "method", "values"), candidate, strict=True)), "seed": seed}


def key(line: Mapping[str, Any]) -> str:
    """What makes two lines the same job."""
    return json.dumps([line["dataset"], line["method"], line["values"], line["seed"]])


def main() -> None:
    """Run what is missing, then print the winners."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", metavar="DATASET[,METHOD]")
    parser.add_argument("--processes", type=int, default=2)
    parsed = parser.parse_args()
    text = parsed.out.read_text(encoding="utf-8") if parsed.out.exists() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    done = {key(line) for line in lines}
    every = [(candidate, seed) for candidate in candidates(parsed.only) for seed in SEEDS]
    jobs = [job for job in every if key(_line(*job)) not in done]
    with (
        multiprocessing.get_context("spawn").Pool(parsed.processes) as pool,
        parsed.out.open("a", encoding="utf-8") as out,
    ):
        for line in pool.imap_unordered(work, jobs):
            out.write(json.dumps(line) + "\n")
            out.flush()
            lines.append(line)
    print(entries(lines))


def entries(lines: list[dict[str, Any]]) -> str:
    """The best point of each grid and memory size, as entries of a preset file."""
    scores: dict[tuple[str, str, int | None], dict[str, list[float]]] = {}
    for line in lines:
        place = (line["dataset"], line["method"], line["values"].get("buffer_size"))
        scores.setdefault(place, {}).setdefault(json.dumps(line["values"]), []).append(line["score"])
    text = []
    for (dataset, method, size), points in sorted(scores.items(), key=str):
        best, of_best = max(points.items(), key=lambda item: sum(item[1]) / len(item[1]))
        values = {name: value for name, value in json.loads(best).items() if name != "buffer_size"}
        mean = sum(of_best) / len(of_best)
        how = f"best of {len(points)} points of a grid by final average on the validation split, seeds 0 and 1"
        inline = ", ".join(f"{name} = {value}" for name, value in values.items())
        memory = "" if size is None else f"buffer_size = {size}\n"
        text.append(
            f'# {dataset}\n[[preset]]\nmethod = "{method}"\n{memory}source = "chosen here: {how} ({mean:.2f} %)"\n'
            f"values = {{ {inline} }}\n"
        )
    return "\n".join(text)


if __name__ == "__main__":
    main()
