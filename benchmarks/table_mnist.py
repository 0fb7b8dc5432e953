"""The table of results on the MNIST scenarios: every allowed method, two memory sizes, three seeds.

    SYNERGY_DATA=folder python benchmarks/table_mnist.py [--only rot-mnist,synergy] [--seeds 3] [--minutes 60]
    python benchmarks/table_mnist.py --print           # only the table of what is recorded

Every run uses the tuned values that the package ships for its scenario, method and memory size, or, where there are
none for the method, its defaults, and the table says so. A run that is recorded in `benchmarks/records/mnist.jsonl` is
not made again, so the table can be filled bit by bit. Rotated MNIST has the same twenty angles in every run, since the
angles decide much of the accuracy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synergy import presets
from synergy.errors import UsageError
from synergy.methods import METHODS, method_class
from synergy.runs.config import PresetChoice, build
from synergy.runs.fitting import check_compatible
from synergy.runs.prepare import prepare
from synergy.runs.records import Record
from synergy.runs.session import execute
from synergy.scenarios import scenario_class

FOLDER = Path("runs/table_mnist")
"""Where the whole records go; what the table needs of them is kept in the file below."""
RECORDS = Path(__file__).parent / "records" / "mnist.jsonl"
SCENARIOS = ("rot-mnist", "perm-mnist", "seq-mnist", "mnist-360")
SIZES = (500, 200)
ANGLES = (
    *(166.6, 159.1, 161.3, 113.6, 81.8, 46.5, 69.9, 70.6, 114.3, 158.8),
    *(15.8, 61.5, 24.5, 134.3, 30.7, 12.3, 82.7, 51.2, 104.1, 108.5),
)

Job = tuple[str, str, int | None]
Line = dict[str, Any]


def jobs(only: str | None, wanted: tuple[int, ...] = SIZES) -> Iterator[Job]:
    """Scenario, method and memory size of every cell of the table."""
    for scenario in SCENARIOS:
        for method in METHODS:
            if only is not None and only not in (scenario, method, f"{scenario},{method}"):
                continue
            try:
                check_compatible(method, method_class(method), scenario, scenario_class(scenario))
            except UsageError:
                continue
            yield from ((scenario, method, size) for size in (None, *wanted) if size in _sizes(scenario, method))


def _sizes(scenario: str, method: str) -> set[int | None]:
    """Those that have tuned values; where there are none for the method at all, those of the table."""
    if tuned := {preset.buffer_size for preset in presets.available(scenario, method)}:
        return tuned
    return set(SIZES) if "buffer_size" in method_class(method).Config.names() else {None}


def run(job: Job, seed: int) -> Line:
    """Make one run and keep what the table and its reader need of it."""
    scenario, method, size = job
    given: dict[str, Any] = {"seed": seed} | ({} if size is None else {"buffer_size": size})
    if scenario == "rot-mnist":
        given["rotation_angles"] = ANGLES
    tuned = bool(presets.available(scenario, method))
    config = build(scenario, method, given | {"output_dir": str(FOLDER)}, PresetChoice(wanted=tuned))
    record, _ = execute(prepare(config))
    return {**_key(job, seed), "tuned": tuned, **_outcome(record)}


def _key(job: Job, seed: int) -> Line:
    return {"scenario": job[0], "method": job[1], "buffer_size": job[2], "seed": seed}


def _outcome(record: Record) -> Line:
    answers = {
        f"{each.predictor}, {each.protocol}": {name: round(value, 3) for name, value in each.metrics.items()}
        for each in record.accuracies
    }
    measured = record.measured
    return {
        "status": record.status,
        "error": record.error,
        "answers": answers,
        "source": record.source,
        "method_options": record.config["method"],
        "wall_s": round(measured.wall_s, 1),
        "peak_memory_mb": round(measured.peak_memory_mb),
        "device": record.device,
        "versions": record.versions,
        "started_at": measured.started_at,
    }


def recorded() -> list[Line]:
    """What was run so far."""
    return [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()] if RECORDS.exists() else []


def table(lines: list[Line]) -> str:
    """Markdown: mean and standard deviation of the final average over seeds, a table for each scenario."""
    text = []
    for scenario in SCENARIOS:
        cells: dict[tuple[str, int | None, str], list[Line]] = {}
        for line in (line for line in lines if line["scenario"] == scenario):
            for answer in line["answers"]:
                cells.setdefault((line["method"], line["buffer_size"], answer), []).append(line)
        rows = [_row(place, of_cell) for place, of_cell in sorted(cells.items(), key=lambda item: _order(item[0]))]
        text += [
            f"### {scenario}",
            "",
            "| method | buffer | answer | final average, % | over time, % | seeds |",
        ]
        text += ["|---|---|---|---|---|---|", *rows, ""]
        missing = [f"{m} {s or ''}".strip() for _, m, s in jobs(scenario) if not any(k[:2] == (m, s) for k in cells)]
        text += [f"Not run: {', '.join(missing)}.", ""] if missing else []
    return "\n".join(text)


def _order(place: tuple[str, int | None, str]) -> tuple[int, int]:
    return list(METHODS).index(place[0]), place[1] or 0


def _row(place: tuple[str, int | None, str], lines: list[Line]) -> str:
    method, size, answer = place
    method += "" if lines[0].get("tuned", True) else " (defaults)"
    failed = [line for line in lines if line["status"] != "finished"]
    if failed:
        return f"| {method} | {size or '-'} | {answer} | {failed[0]['error']} | | {len(lines)} |"
    final, over_time = (
        _spread([line["answers"][answer].get(name) for line in lines])
        for name in ("final_average", "average_over_time")
    )
    return f"| {method} | {size or '-'} | {answer} | {final} | {over_time} | {len(lines)} |"


def _spread(values: list[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    spread = f" ± {statistics.stdev(numbers):.2f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.2f}{spread}"


def main() -> None:
    """Run what is missing within the time given, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="SCENARIO[,METHOD]")
    parser.add_argument("--buffer_size", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60.0, help="start no run after this time")
    parser.add_argument("--print", action="store_true", help="run nothing")
    parsed = parser.parse_args()
    until = time.monotonic() + 60 * parsed.minutes
    every = (
        []
        if parsed.print
        else [(job, seed) for seed in range(parsed.seeds) for job in jobs(parsed.only, tuple(parsed.buffer_size))]
    )
    for job, seed in every:
        if time.monotonic() > until:
            break
        if not any(_same(line, _key(job, seed)) for line in recorded()):
            line = run(job, seed)
            RECORDS.parent.mkdir(exist_ok=True)
            with RECORDS.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(*job, seed, line["wall_s"], line["answers"], flush=True)
    print(table(recorded()))


def _same(line: Line, key: Mapping[str, Any]) -> bool:
    return all(line[name] == value for name, value in key.items())


if __name__ == "__main__":
    main()
