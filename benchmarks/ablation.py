"""What each part of SYNERgy adds: runs without consistency, without consolidation, without both, and ER.

    SYNERGY_DATA=folder OMP_NUM_THREADS=1 python -m benchmarks.ablation [--only rot-mnist] [--minutes 60]
    python -m benchmarks.ablation --print           # only the table of what is recorded

Run it from the root of the repository. Every variant takes the tuned values of the whole method and sets one weight, or
both, to 0. ER takes its own tuned values and the same buffer. A seed gives every variant the same stream, so the
differences are paired. Rotated MNIST has the angles of `table_mnist.py` in every run.

A run that is recorded in `benchmarks/records/ablation/` is not repeated, so the table can be filled bit by bit.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.table_mnist import ANGLES
from synergy.runs.config import PresetChoice, build
from synergy.runs.prepare import prepare
from synergy.runs.records import Record
from synergy.runs.session import execute

FOLDER = Path("runs/ablation")
"""Whole records go here. The table needs only the lines below."""
RECORDS = Path(__file__).parent / "records" / "ablation"

WITHOUT_CONSISTENCY = {"reg_weight": 0.0}
WITHOUT_CONSOLIDATION = {"penalty_weight": 0.0, "fisher_update_freq": 0.0}
"""With a weight of 0 nothing reads the Fisher information. Leaving its pass out saves time and changes no bit."""
VARIANTS: dict[str, tuple[str, dict[str, float]]] = {
    "both": ("synergy", {}),
    "without consistency": ("synergy", WITHOUT_CONSISTENCY),
    "without consolidation": ("synergy", WITHOUT_CONSOLIDATION),
    "without both": ("synergy", WITHOUT_CONSISTENCY | WITHOUT_CONSOLIDATION),
    "ER": ("er", {}),
}
"""Name: method, and the options that differ from its tuned values."""
SEEDS = {
    "rot-digits": 5,
    "seq-digits": 5,
    "perm-digits": 5,
    "seq-mnist": 3,
    "mnist-360": 3,
    "rot-mnist": 3,
    "perm-mnist": 3,
}
"""Seeds of each scenario, the quickest first."""
SIZES = (500, 200)
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Number of seeds: the 97.5 % quantile of Student's t with one degree of freedom less."""

Line = dict[str, Any]


class Job(NamedTuple):
    """One run."""

    scenario: str
    buffer_size: int
    seed: int
    variant: str


def jobs(only: str | None, sizes: Sequence[int] = SIZES) -> Iterator[Job]:
    """Every run of the table, one buffer size after the other."""
    for size in sizes:
        for scenario, seeds in SEEDS.items():
            if only in (None, scenario):
                yield from (Job(scenario, size, seed, variant) for seed in range(seeds) for variant in VARIANTS)


def run(job: Job) -> Line:
    """Make one run and keep what the table and its reader need."""
    method, changes = VARIANTS[job.variant]
    given: dict[str, Any] = {"seed": job.seed, "buffer_size": job.buffer_size, "output_dir": str(FOLDER), **changes}
    if job.scenario == "rot-mnist":
        given["rotation_angles"] = ANGLES
    record, _ = execute(prepare(build(job.scenario, method, given, PresetChoice(wanted=True))))
    return {**job._asdict(), **outcome(record)}


def outcome(record: Record) -> Line:
    """What a line keeps of a run's record: accuracies by answer and protocol, options, time and machine."""
    answers = {
        f"{each.predictor}, {each.protocol}": {name: round(value, 3) for name, value in each.metrics.items()}
        for each in record.accuracies
    }
    return {
        "status": record.status,
        "answers": answers,
        "batch_size": record.config["training"]["batch_size"],
        "method": record.config["method"],
        "wall_s": round(record.measured.wall_s, 1),
        "complete": record.source["complete"],
        "device": record.device,
        "versions": record.versions,
    }


def place(scenario: str) -> Path:
    """The file of a scenario's lines."""
    return RECORDS / f"{scenario}.jsonl"


def recorded(scenario: str) -> list[Line]:
    """The runs of a scenario so far."""
    path = place(scenario)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table() -> str:
    """Markdown: accuracies, and paired differences from the whole method with their 95 % intervals."""
    text = [
        "| scenario | buffer | variant | answering, % | minus both, points | working, % | minus both, points | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for scenario in SEEDS:
        lines = recorded(scenario)
        for size in SIZES:
            of_size = [line for line in lines if line["buffer_size"] == size]
            whole = _by_seed(of_size, "both")
            for variant in VARIANTS:
                if both := _by_seed(of_size, variant):
                    text.append(_row(f"| {scenario} | {size} | {variant} |", both, whole))
    return "\n".join(text)


def _by_seed(lines: list[Line], variant: str) -> dict[int, tuple[float, float]]:
    """Seed: final average of the network that answers and of the working one, under the first protocol."""
    found = {}
    for line in (line for line in lines if line["variant"] == variant and line["status"] == "finished"):
        answering, protocol = next(iter(line["answers"])).split(", ")
        names = (f"{answering}, {protocol}", f"working, {protocol}")
        first, second = (line["answers"][name]["final_average"] for name in names)
        found[line["seed"]] = (first, second)
    return found


def _row(start: str, values: dict[int, tuple[float, float]], whole: dict[int, tuple[float, float]]) -> str:
    cells = []
    for index in (0, 1):
        accuracies = [pair[index] for pair in values.values()]
        differences = [values[seed][index] - whole[seed][index] for seed in values.keys() & whole.keys()]
        cells += [spread(accuracies), "" if values == whole else interval(differences)]
    return f"{start} {' | '.join(cells)} | {len(values)} |"


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def interval(differences: Sequence[float]) -> str:
    """Mean difference and its 95 % interval by Student's t; in bold where the interval leaves out 0."""
    if len(differences) not in T_95:
        return "-"
    mean = statistics.mean(differences)
    half = T_95[len(differences)] * statistics.stdev(differences) / math.sqrt(len(differences))
    text = f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"
    return f"**{text}**" if abs(mean) > half else text


def main() -> None:
    """Run what is missing within the time given, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="SCENARIO", choices=SEEDS)
    parser.add_argument("--buffer_size", type=int, nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--minutes", type=float, default=60.0, help="start no run after this time")
    parser.add_argument("--print", action="store_true", help="run nothing")
    parsed = parser.parse_args()
    until = time.monotonic() + 60 * parsed.minutes
    for job in [] if parsed.print else jobs(parsed.only, parsed.buffer_size):
        if time.monotonic() > until:
            break
        if job not in [Job(*(line[name] for name in Job._fields)) for line in recorded(job.scenario)]:
            line = run(job)
            RECORDS.mkdir(parents=True, exist_ok=True)
            with place(job.scenario).open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(*job, line["wall_s"], {name: answer["final_average"] for name, answer in line["answers"].items()})
    print(table())


if __name__ == "__main__":
    main()
