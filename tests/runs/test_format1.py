"""Checkpoints, records and learners that an earlier version wrote are still read.

`format1/` was written at commit 031d09c: ER on two tasks of rot-digits, four steps each, stopped after six (`stopped`)
and left alone (`whole`, of which only the line in `results.jsonl` is kept); SYNERgy as a `Learner` after six batches.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from synergy import Learner
from synergy.disk import checkpoint
from synergy.runs import records
from synergy.runs.resume import resume
from synergy.state import same
from tests.commands import call

WRITTEN = Path(__file__).parent / "format1"


def test_a_checkpoint_comes_back_and_is_written_with_the_same_bits(tmp_path: Path) -> None:
    (path,) = (WRITTEN / "runs" / "stopped" / "checkpoint").iterdir()
    state = checkpoint.read(path)
    checkpoint.write(state, tmp_path / "again")
    assert same(checkpoint.read(tmp_path / "again"), state)
    for name in ("tensors.safetensors", "state.json"):
        assert (tmp_path / "again" / name).read_bytes() == (path / name).read_bytes()


def test_records_are_read_and_reported() -> None:
    (whole,) = records.read_all(WRITTEN / "runs")
    stopped = records.read(WRITTEN / "runs" / "stopped")
    assert (whole.run_id, stopped.status, stopped.config["output"]["notes"]) == ("whole", "interrupted", "naïve €")
    outcome = call("report", WRITTEN / "runs")
    assert (outcome.code, outcome.err) == (0, "")
    assert "rot-digits (domain-IL), percent, mean ± 95 % interval over n seeds" in outcome.out
    assert call("report", WRITTEN / "runs" / "stopped").out.startswith("stopped: er on rot-digits, seed 0 (")


@pytest.mark.filterwarnings("default:begun with")
def test_a_run_goes_on(tmp_path: Path) -> None:
    shutil.copytree(WRITTEN / "runs", tmp_path / "runs")
    (whole,) = records.read_all(WRITTEN / "runs")
    record, _ = resume(tmp_path / "runs" / "stopped")
    assert (record.status, record.steps) == ("finished", 8)
    # Other processors and releases of torch have other last bits.
    assert record.final_losses == pytest.approx(whole.final_losses, rel=1e-3)
    metrics = dict(record.answer().metrics)
    # The tasks before the checkpoint were not counted then.
    assert metrics.pop("online_accuracy", None) is None or len(record.online) < len(record.answer().matrix)
    assert metrics == pytest.approx(whole.answer().metrics, abs=2)
    assert records.read_all(tmp_path / "runs") == [whole, record]


def test_a_learner_goes_on() -> None:
    expected = json.loads((WRITTEN / "learner.json").read_text(encoding="utf-8"))
    learner = Learner.load(WRITTEN / "learner", nn.Linear(4, 2))
    probe = torch.linspace(0, 1, 12).reshape(3, 4)
    assert learner.classes == expected["classes"]
    torch.testing.assert_close(learner.scores(probe), torch.tensor(expected["scores"]))
    learner.observe(probe, ["low", "high", "high"])
    assert not torch.equal(learner.scores(probe), torch.tensor(expected["scores"]))
