"""Draw the figure at the head of docs/results.md from the records of its tables: `python -m docs.draw_results`."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "benchmarks" / "records" / "mnist.jsonl"
PICTURE = ROOT / "docs" / "results.png"
PANELS = {"rot-mnist": "domain-IL", "perm-mnist": "domain-IL", "seq-mnist": "class-IL", "mnist-360": "general"}
"""Scenario -> the protocol that the figure shows."""
BUFFER = 500
MARKED = {"synergy": "#d95f02", "sgd": "#7f7f7f", "joint": "#7f7f7f"}


def main() -> None:
    """One panel for each scenario, one row for each method, best first."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    for axes, (scenario, protocol) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        rows = sorted(finals(scenario, protocol).items(), key=lambda row: statistics.mean(row[1]))
        for height, (method, values) in enumerate(rows):
            spread = statistics.stdev(values) if len(values) > 1 else 0
            colour = MARKED.get(method, "#1b6ca8")
            axes.errorbar(statistics.mean(values), height, xerr=spread, fmt="o", markersize=4, capsize=2, color=colour)
        axes.set_yticks(range(len(rows)), [method for method, _ in rows], fontsize=8)
        axes.set_title(f"{scenario}, {protocol}", fontsize=10)
        axes.set_xlabel("final average, %")
        axes.set_xlim(0, 100)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(PICTURE, dpi=110)


def finals(scenario: str, protocol: str) -> dict[str, list[float]]:
    """Method -> final average of its recommended answer, over seeds; with the tuned values only."""
    found: dict[str, list[float]] = defaultdict(list)
    for text in RECORDS.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        wanted = line["scenario"] == scenario and line["buffer_size"] in (None, BUFFER)
        if wanted and line.get("tuned", True) and line["status"] == "finished":
            answers = [value for name, value in line["answers"].items() if name.endswith(f", {protocol}")]
            found[line["method"]].extend(answer["final_average"] for answer in answers[:1])
    return {method: values for method, values in found.items() if values}


if __name__ == "__main__":
    main()
