"""`synergy analyse` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from synergy.runs import findings
from tests.analyses.runs import finished
from tests.commands import BRIEF, call, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("runs"), "seq-digits", "synergy", fisher_update_freq=0.2)


@pytest.fixture
def copied(tmp_path: Path, folder: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "runs" / "one"))


def test_a_finding_is_printed_and_kept(copied: Path) -> None:
    outcome = call("analyse", "recency", copied)
    assert (outcome.code, outcome.err) == (0, "")
    assert "task-recency bias (probability mass, %)" in outcome.out and "share of the samples" in outcome.out
    path = copied / "analyses" / "recency.json"
    assert f"in {path}" in outcome.out
    first = path.read_bytes()
    assert call("analyse", "recency", copied).out == outcome.out and path.read_bytes() == first


def test_all_leaves_every_finding_that_the_run_allows(copied: Path) -> None:
    other = finished(copied.parent, "rot-digits", "er", n_tasks=2)
    outcome = call("analyse", "all", copied.parent)
    assert outcome.code == 0
    assert "left out: recency: given rot-digits" in outcome.out
    here = {path.stem for path in (copied / "analyses").iterdir()}
    there = {path.stem for path in (other / "analyses").iterdir()}
    assert here - there == {"recency"} and {"stability", "calibration", "confusion"} <= there
    assert findings.read(copied / "analyses" / "confusion.json").protocol == "class-IL"


def test_a_mistake_is_one_line(copied: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("recencie", copied), "unknown analysis 'recencie'; did you mean 'recency'?"),
        (("recency",), "RUN is missing"),
        ((), "NAME is missing"),
        (("recency", tmp_path / "none"), "cannot be read"),
        (("recency", copied, "--draw", "3"), "unknown flag '--draw'"),
        (("calibration", copied, "--device", "gpu"), "device"),
    ):
        outcome = call("analyse", *arguments)
        assert outcome.code == 2 and message in outcome.err, outcome.err
        assert len(outcome.err.splitlines()) == 1
    shutil.rmtree(copied / "checkpoint")
    outcome = call("analyse", "recency", copied)
    assert outcome.code == 2 and "it has no checkpoint of its end" in outcome.err
    (copied / "record.json").unlink()
    outcome = call("analyse", "recency", copied)
    assert outcome.code == 2 and "the run has not ended" in outcome.err


def test_an_ablation_needs_records_alone(tmp_path: Path) -> None:
    for seed in (0, 1):
        for name, options in {"whole": (), "plain": ("--beta", "0"), "mild": ("--alpha", "0.1")}.items():
            given = (*BRIEF, "--seed", seed, "--experiment_id", f"{name}-{seed}", *options)
            assert run(tmp_path, "seq-digits", "derpp", *given).code == 0
    outcome = call("analyse", "ablation", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "(reference)" in outcome.out and "derpp alpha=0.5 beta=0" in outcome.out
    content = json.loads((tmp_path / "analyses" / "ablation.json").read_text())
    (of,) = content["ablations"]
    assert of["reference"] == "derpp alpha=0.5 beta=1" and len(of["changes"]) == 2
    assert call("analyse", "ablation", tmp_path).out == outcome.out, "the file is no run"
    single = call("analyse", "ablation", *(tmp_path / f"{name}-0" for name in ("whole", "plain")))
    assert single.code == 0 and "(reference)" in single.out and not (tmp_path / "whole-0" / "analyses").exists()
    outcome = call("analyse", "ablation", tmp_path / "whole-0")
    assert outcome.code == 2 and "no method has variants" in outcome.err


def test_help_names_every_analysis() -> None:
    outcome = call("analyse", "--help")
    assert outcome.code == 0 and "recency" in outcome.out and "does it answer with the classes" in outcome.out
