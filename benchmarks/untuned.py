"""A first try: SYNERgy, CLS-ER, ESMER and ER with their defaults, as `synergy run` makes them.

    SYNERGY_DATA=folder OMP_NUM_THREADS=1 python -m benchmarks.untuned [--only rot-mnist] [--minutes 60]
    python -m benchmarks.untuned --print           # only the table of what is recorded

Run it from the root of the repository. No tuned value is used; buffer and learning rate are the defaults too. A seed
gives every method the same stream, so the differences from ER are paired. Rotated MNIST has the angles of
`table_mnist.py` in every run.

A run that is recorded in `benchmarks/records/untuned.jsonl` is not repeated, so the table can be filled bit by bit.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.ablation import Line, interval, outcome, spread
from benchmarks.table_mnist import ANGLES
from synergy.runs.config import build
from synergy.runs.prepare import prepare
from synergy.runs.session import execute

FOLDER = Path("runs/untuned")
"""Whole records go here. The table needs only the lines below."""
RECORDS = Path(__file__).parent / "records" / "untuned.jsonl"
SCENARIOS = ("seq-digits", "rot-digits", "seq-mnist", "rot-mnist")
METHODS = ("er", "synergy", "clser", "esmer")
SEEDS = 3


class Job(NamedTuple):
    """One run."""

    scenario: str
    seed: int
    method: str


def jobs(only: str | None) -> Iterator[Job]:
    """Every run of the table."""
    for scenario in SCENARIOS:
        if only in (None, scenario):
            yield from (Job(scenario, seed, method) for seed in range(SEEDS) for method in METHODS)


def run(job: Job) -> Line:
    """Make one run and keep what the table and its reader need."""
    given: dict[str, Any] = {"seed": job.seed, "output_dir": str(FOLDER)}
    if job.scenario == "rot-mnist":
        given["rotation_angles"] = ANGLES
    record, _ = execute(prepare(build(job.scenario, job.method, given)))
    return {**job._asdict(), **outcome(record)}


def recorded() -> list[Line]:
    """The runs so far."""
    return [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()] if RECORDS.exists() else []


def table(lines: list[Line]) -> str:
    """Markdown: final averages under the first protocol, and the paired difference of the answer from ER."""
    text = [
        "| scenario | method | the answer | answering, % | minus ER, points | working, % | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for scenario in SCENARIOS:
        er = {line["seed"]: _final(line, "working") for line in lines if _at(line) == (scenario, "er")}
        for method in METHODS:
            if of_method := [line for line in lines if _at(line) == (scenario, method)]:
                text.append(_row(scenario, method, of_method, er))
    return "\n".join(text)


def _at(line: Line) -> tuple[str, str]:
    return line["scenario"], line["method"]["name"]


def _row(scenario: str, method: str, lines: list[Line], er: dict[int, float]) -> str:
    answer = next(iter(lines[0]["answers"])).split(", ")[0]
    answering = spread([_final(line, answer) for line in lines])
    working = spread([_final(line, "working") for line in lines])
    both = [_final(line, answer) - er[line["seed"]] for line in lines if line["seed"] in er]
    ahead = "" if method == "er" else interval(both)
    return f"| {scenario} | {method} | {answer} | {answering} | {ahead} | {working} | {len(lines)} |"


def _final(line: Line, predictor: str) -> float:
    """Final average under the first protocol."""
    protocol = next(iter(line["answers"])).split(", ")[1]
    final: float = line["answers"][f"{predictor}, {protocol}"]["final_average"]
    return final


def main() -> None:
    """Run what is missing within the time given, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="SCENARIO", choices=SCENARIOS)
    parser.add_argument("--minutes", type=float, default=60.0, help="start no run after this time")
    parser.add_argument("--print", action="store_true", help="run nothing")
    parsed = parser.parse_args()
    until = time.monotonic() + 60 * parsed.minutes
    for job in [] if parsed.print else jobs(parsed.only):
        if time.monotonic() > until:
            break
        if job not in [Job(line["scenario"], line["seed"], line["method"]["name"]) for line in recorded()]:
            line = run(job)
            RECORDS.parent.mkdir(exist_ok=True)
            with RECORDS.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(*job, line["wall_s"], {name: answer["final_average"] for name, answer in line["answers"].items()})
    print(table(recorded()))


if __name__ == "__main__":
    main()
