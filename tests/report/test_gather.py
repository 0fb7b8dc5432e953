"""Records are found at any depth, each once; what cannot be read is counted and named."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from synergy.errors import UsageError
from synergy.report.gather import gather
from synergy.runs import records
from tests.report.runs import made


def test_folders_at_any_depth_and_files(tmp_path: Path) -> None:
    deep, other, listed = made(seed=0), made(seed=1), made(seed=2)
    records.write(deep, tmp_path / "study" / "er" / "200" / deep.run_id)
    records.write(other, tmp_path / "other" / other.run_id)
    records.append(other, tmp_path / "other")  # a finished run is in both
    records.append(listed, tmp_path / "other")
    found = gather([tmp_path, tmp_path / "other", tmp_path / "other" / "results.jsonl"])
    assert sorted(record.seed for record in found.records) == [0, 1, 2]
    folders = {run.record.seed: run.folder for run in found.runs}
    assert folders == {
        0: tmp_path / "study" / "er" / "200" / deep.run_id,
        1: tmp_path / "other" / other.run_id,
        2: None,
    }
    assert gather([tmp_path / "other" / other.run_id / "record.json"]).records == [other]


def test_runs_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    later = replace(made(), measured=replace(made().measured, wall_s=9.0))
    records.write(made(), tmp_path / "a" / "run")
    records.write(later, tmp_path / "b" / "run")
    assert gather([tmp_path]).records == [made(), later]


def test_what_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    records.write(made(), tmp_path / "good")
    for number in range(7):
        (tmp_path / f"torn{number}").mkdir()
        (tmp_path / f"torn{number}" / "record.json").write_text("{")
    old = asdict(made(seed=1)) | {"schema_version": 0}
    nameless = asdict(made(seed=2)) | {"config": {}}
    (tmp_path / "more.jsonl").write_text(f'{json.dumps(old)}\n{{"method": "er"}}\n{json.dumps(nameless)}\n')
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "config.toml").write_text("")
    found = gather([tmp_path, tmp_path / "more.jsonl"])
    assert found.records == [made()] and found.open == (tmp_path / "open",)
    assert len(found.damaged) == 7 + 3
    reasons = ["schema_version: given 0", "not a record: it has no field 'schema_version'", "without method.name"]
    assert all(reason in text for reason, text in zip(reasons, found.damaged[7:], strict=True))
    warning = found.warning()
    assert warning.startswith(f"10 records cannot be read and are left out: {tmp_path}/torn0/record.json: not strict")
    assert warning.endswith("; and 5 more") and "\n" not in warning


def test_an_old_record_without_a_newer_field_is_read(tmp_path: Path) -> None:
    old = asdict(made())
    del old["source_labels"], old["online"], old["config"]["net"]
    (tmp_path / "old.jsonl").write_text(json.dumps(old) + "\n")
    assert gather([tmp_path / "old.jsonl"]).damaged == ()


def test_nothing_to_report_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no record\.json and no runs; name the folder of a run"):
        gather([tmp_path])
    for number in range(2):
        (tmp_path / f"run{number}").mkdir()
        (tmp_path / f"run{number}" / "config.toml").write_text("")
    with pytest.raises(UsageError, match=r"run0 and 1 more run have not ended"):
        gather([tmp_path])
    with pytest.raises(UsageError, match=r"run1: the run has not ended.*synergy resume"):
        gather([tmp_path / "run1"])
