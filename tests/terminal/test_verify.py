"""`synergy verify` makes a run again and tells the truth about it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands import BRIEF, call, run


def test_a_run_made_again_is_identical_to_the_bit(tmp_path: Path) -> None:
    assert run(tmp_path, "seq-digits", "er", *BRIEF, "--experiment_id", "it", "--checkpoint_every", "2").code == 0
    outcome = call("verify", tmp_path / "it")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[1:] == ["identical to the bit"]


def test_another_result_is_told_with_the_versions_that_differ(tmp_path: Path) -> None:
    assert run(tmp_path, "seq-digits", "er", *BRIEF, "--experiment_id", "it").code == 0
    path = tmp_path / "it" / "record.json"
    record = json.loads(path.read_text())
    record["accuracies"][0]["matrix"][0][0] += 1.5
    record["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(record))
    outcome = call("verify", path)
    assert outcome.code == 1
    assert "different: accuracies by up to 1.5 percentage points" in outcome.out
    assert "  torch: was 1.0, is " in outcome.out


def test_only_a_finished_run_can_be_verified(tmp_path: Path) -> None:
    assert run(tmp_path, "seq-digits", "er", *BRIEF, "--experiment_id", "it", "--lr", "1e30").code == 1
    outcome = call("verify", tmp_path / "it")
    assert outcome.code == 2 and "the run is failed" in outcome.err
