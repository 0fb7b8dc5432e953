"""What W&B keeps of a run offline, read back from its own file."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from synergy.runs.config import build
from synergy.runs.prepare import prepare
from synergy.runs.resume import resume
from synergy.runs.session import execute

ROOT = Path(__file__).parents[3]
BLOCK, START, HEADER = 32768, 7, struct.Struct("<IHB")
"""The file is LevelDB's log: blocks of records in parts, after seven bytes of W&B's own."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")


def config_of(folder: Path, **options: Any) -> Any:
    small = {"n_tasks": 2, "max_steps_per_task": 6, "experiment_id": "one", "log": ("wandb",), "buffer_size": 40}
    return build("rot-digits", "synergy", small | {"output_dir": str(folder)} | options)


def messages(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file."""
    data, place, parts = path.read_bytes(), START, b""
    assert data[:4] == b":W&B"
    while place + HEADER.size <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER.size:
            place += left
            continue
        _, length, kind = HEADER.unpack_from(data, place)
        parts += data[place + HEADER.size : place + HEADER.size + length]
        place += HEADER.size + length
        if kind in (1, 4):  # whole, or the last part
            yield vars(wandb_internal_pb2)["Record"].FromString(parts)
            parts = b""


def files_of(folder: Path) -> list[Path]:
    wandb.teardown()  # its service writes what it has left
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


def read(path: Path) -> dict[str, Any]:
    """Id, configuration, rows, summary and exit code of a run."""
    found: dict[str, Any] = {"config": {}, "rows": [], "summary": {}, "exit": None}
    for message in messages(path):
        kind = message.WhichOneof("record_type")
        if kind == "run":
            found["id"], found["project"] = message.run.run_id, message.run.project
            found["name"] = message.run.display_name or found.get("name")
            found["config"] |= {each.key: json.loads(each.value_json) for each in message.run.config.update}
        elif kind == "history":
            items = message.history.item
            found["rows"].append({each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in items})
        elif kind == "summary":
            found["summary"] |= {
                each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in message.summary.update
            }
        elif kind == "exit":
            found["exit"] = message.exit.exit_code
    return found


def curve(rows: list[dict[str, Any]], name: str, over: str) -> list[tuple[int, float]]:
    return [(row[over], row[name]) for row in rows if name in row]


def test_options_curves_and_table_are_there(tmp_path: Path) -> None:
    record, folder = execute(prepare(config_of(tmp_path)))
    (path,) = files_of(folder)
    found = read(path)
    assert (found["name"], found["project"], found["exit"]) == ("one", "synergy", 0)
    assert found["config"]["method"]["name"] == "synergy" and found["config"]["method"]["buffer_size"] == 40
    for each in record.accuracies:
        key = f"{each.protocol}/{each.predictor}"
        rows = [[value or 0.0 for value in row[: t + 1]] for t, row in enumerate(each.matrix)]
        wanted: list[tuple[int, object]] = [(t + 1, pytest.approx(sum(row) / len(row))) for t, row in enumerate(rows)]
        assert curve(found["rows"], f"accuracy/{key}", "task") == wanted
        assert found["summary"][f"final/{key}/final_average"] == pytest.approx(each.metrics["final_average"])
    assert curve(found["rows"], "loss/loss", "step")[-1][0] == record.steps
    tables = [row["results/path"] for row in found["rows"] if "results/path" in row]
    assert len(tables) == 1
    table = json.loads((path.parent / "files" / tables[0]).read_text())
    assert table["columns"][:2] == ["predictor", "protocol"]
    assert [row[0] for row in table["data"]] == [each.predictor for each in record.accuracies]


def test_a_resumed_run_has_the_same_id_and_steps_that_go_on(tmp_path: Path) -> None:
    count = iter(range(100))
    config = config_of(tmp_path, checkpoint_every=4)
    record, folder = execute(prepare(config), None, lambda: next(count) >= 8)
    assert record.status == "interrupted"
    stopped = record.steps
    record, _ = resume(folder)
    first, second = (read(path) for path in files_of(folder))
    assert first["id"] == second["id"] and (first["exit"], second["exit"]) == (1, 0)
    steps = curve(second["rows"], "loss/loss", "step")
    assert all(step > stopped for step, _ in steps) and steps[-1][0] == record.steps
    assert all(row["_step"] >= stopped for row in second["rows"])


DIES = """
import os, sys
from pathlib import Path
from synergy.runs import records
from synergy.runs.listeners import Listener
from synergy.runs.prepare import prepare
from synergy.runs.session import execute
from tests.runs.trackers.test_wandb_log import config_of

class Kills(Listener):
    # Kills the process that writes for W&B, after the first task.
    def task_ended(self, index, evaluations):
        if index == 0:
            tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
            children = [int(child) for task in tasks for child in task.read_text().split()]
            (core,) = [each for each in children if "wandb-core" in Path(f"/proc/{each}/cmdline").read_text()]
            os.kill(core, 9)

record, folder = execute(prepare(config_of(Path(sys.argv[1]), n_tasks=4)), Kills())
assert record.status == "finished" and records.read(folder) == record
print("went on")
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="children are found in /proc")
def test_a_service_that_dies_in_the_middle_ends_no_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIES, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout == "went on\n", done.stderr
    assert done.stderr.count("UserWarning: no more logging to wandb: ") == 1
