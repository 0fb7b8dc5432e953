"""How long `synergy report` takes for many records: read, group, print a table.

    python benchmarks/report.py [RECORDS]

The records are copies of one real run of 20 tasks, with other seeds, methods and streams, in one `results.jsonl` and in
folders of their own. Each report is a process of its own, with the time that Python and torch take to start.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from synergy.runs import records
from synergy.runs.config import PresetChoice, build
from synergy.runs.records import Record
from synergy.runs.session import run

SEEDS, STREAMS = 10, 20


def copies(record: Record, count: int) -> list[Record]:
    """Records of as many runs, `SEEDS` for each method on each of `STREAMS` streams."""
    made = []
    for number in range(count):
        group, seed = divmod(number, SEEDS)
        method, stream = divmod(group, STREAMS)
        config = {**record.config, "method": {**record.config["method"], "name": f"method{method}"}}
        config["scenario"] = {**config["scenario"], "name": f"stream{stream}"}
        run_id = f"stream{stream}-method{method}-{seed}"
        made.append(dataclasses.replace(record, run_id=run_id, seed=seed, config=config))
    return made


def seconds(*arguments: object) -> float:
    """Of `synergy report` as a process."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "synergy.terminal.cli", "report", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - began


def main() -> None:
    """Print the times."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = {"buffer_size": 200, "output_dir": str(folder / "one")}
        record = run(build("rot-digits", "synergy", given, PresetChoice(wanted=True)))
        made = copies(record, count)
        lines = [json.dumps(dataclasses.asdict(each), allow_nan=False) for each in made]
        (folder / "all.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for each, line in zip(made, lines, strict=True):
            place = folder / "runs" / each.run_id
            place.mkdir(parents=True)
            (place / records.RECORD_NAME).write_text(line, encoding="utf-8")
        print(f"{count} records of {len(lines[0]) / 1000:.1f} kB")
        print(f"one file:         {seconds(folder / 'all.jsonl'):.1f} s")
        print(f"folders of runs:  {seconds(folder / 'runs'):.1f} s")


if __name__ == "__main__":
    main()
