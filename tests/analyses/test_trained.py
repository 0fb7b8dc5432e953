"""A finished run opened again is the run that ended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synergy.analyses.trained import TrainedRun, trained_run
from synergy.errors import UsageError
from tests.analyses.runs import finished


def test_its_accuracies_are_those_of_the_record_to_the_bit(split_run: TrainedRun, rotated_run: TrainedRun) -> None:
    for run in (split_run, rotated_run):
        for name in run.predictors:
            judged = run.record.find(name, run.protocol)
            assert run.scores(name) == list(judged.matrix[-1])
            assert run.average(run.scores(name)) == judged.metrics["final_average"]


def test_under_task_il_other_classes_do_not_count(tmp_path: Path) -> None:
    run = trained_run(finished(tmp_path, "seq-digits", "pnn", max_steps_per_task=5))
    assert run.protocol == "task-IL"
    assert run.scores("columns") == list(run.record.answer().matrix[-1])


def test_a_method_that_trains_to_answer_answers_alike(tmp_path: Path) -> None:
    run = trained_run(finished(tmp_path, "seq-digits", "gdumb", max_steps_per_task=3, max_tasks=2, fitting_epochs=2))
    assert run.scores("fitted") == list(run.record.answer().matrix[-1])


def test_every_task_whose_checkpoint_is_kept_comes_back(split_run: TrainedRun) -> None:
    assert [done for done, _ in split_run.after_tasks()] == [1, 2, 3, 4, 5]


def test_what_cannot_be_opened_is_said_in_one_line(tmp_path: Path, split_run: TrainedRun) -> None:
    bare = finished(tmp_path, "seq-digits", "er", checkpoint_every=None, max_tasks=1)
    with pytest.raises(UsageError, match=r"no checkpoint of its end; make one with: .* --checkpoint_every"):
        trained_run(bare)
    copy = tmp_path / split_run.folder.name
    shutil.copytree(split_run.folder, copy)
    record = (copy / "record.json").read_text()
    (copy / "record.json").write_text(record.replace('"status": "finished"', '"status": "interrupted"'))
    with pytest.raises(UsageError, match="is interrupted; allowed: a finished run"):
        trained_run(copy)
    value = split_run.record.answer().matrix[0][0]
    (copy / "record.json").write_text(record.replace(f"{value}", "12.5", 1))
    with pytest.raises(UsageError, match="other accuracies than its record"):
        trained_run(copy)
    last = max((copy / "checkpoint").iterdir())
    (last / "state.json").write_bytes(b"{}")
    with pytest.raises(UsageError, match="checkpoint"):
        trained_run(copy)
