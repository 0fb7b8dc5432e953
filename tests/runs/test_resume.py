"""A run that was stopped anywhere and goes on ends as if it had never been stopped, bit by bit."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from synergy import testing
from synergy.data.view import ImageView
from synergy.disk import checkpoint, files
from synergy.disk.encoding import TENSORS
from synergy.engine.worker import Means, Worker
from synergy.errors import UsageError
from synergy.methods import METHODS, method_class
from synergy.methods.base import make_method
from synergy.methods.er import ER
from synergy.runs import csv_log, records
from synergy.runs.config import RunConfig, build
from synergy.runs.listeners import Listener
from synergy.runs.prepare import prepare
from synergy.runs.records import Record
from synergy.runs.resume import resume
from synergy.runs.session import Session, execute
from synergy.runs.training import Schedule, Stopped, Training
from synergy.scenarios import scenario_class
from synergy.state import State, restore_fresh, same
from synergy.terminal import commands
from synergy.types import Batch, Task
from tests.commands import call
from tests.disk.test_files import posix, unprivileged

SMALL: Mapping[str, Any] = {
    "buffer_size": 20,
    "minibatch_size": 8,
    "ema_update_freq": 0.5,
    "fisher_update_freq": 0.5,
    "fitting_epochs": 1,
}
"""A memory that overflows, and both kinds of update, within a few steps."""


def training(scenario: str, method: str, **options: Any) -> Training:
    """Two tasks of two epochs, four steps each."""
    kind = method_class(method)
    known = {name: value for name, value in SMALL.items() if name in kind.Config.names()}
    stream = testing.scenario(scenario, batch_size=kind.only_batch_size or 70, options=RESCALED[scenario])
    schedule = Schedule(2, 8, 2)
    learner = make_method(kind, kind.Config(**known), testing.setting(stream), testing.budget(stream))
    return Training(Worker(learner, Means(torch.device("cpu"))), stream, schedule, seed=0, **options)


RESCALED: Mapping[str, Mapping[str, Any]] = {"seq-digits": {}, "rot-digits": {"n_tasks": 2}}


def without_times(state: State) -> State:
    return {name: value for name, value in state.items() if name not in ("train_s", "evaluate_s")}


def places(method: str, scenario: str) -> bool:
    return not method_class(method).protocols.isdisjoint(scenario_class(scenario).protocols)


PLACES = {(1, 0), (6, 0), (8, 0), (8, 1)}
"""Step and task: after the first step, within the second epoch, at the last step of a task, and between tasks."""

PAIRS = [(s, m) for m, s in itertools.product(METHODS, RESCALED) if places(m, s)]


@pytest.mark.parametrize(("scenario", "method"), PAIRS)
def test_every_method_goes_on_from_anywhere(tmp_path: Path, scenario: str, method: str) -> None:
    kept: dict[tuple[int, int], State] = {}

    def keep(loop: Training) -> None:
        if (place := (loop.steps, loop.task)) in PLACES:
            checkpoint.write(loop.state_dict(), tmp_path / "it")
            kept[place] = checkpoint.read(tmp_path / "it")

    whole = training(scenario, method, save=keep, save_every=1)
    whole.run()
    expected = without_times(whole.state_dict())
    assert kept.keys() == PLACES
    for place in PLACES:
        fresh = training(scenario, method)
        restore_fresh(fresh, kept[place], "it")
        assert same(fresh.state_dict(), kept[place])
        fresh.run()
        assert same(without_times(fresh.state_dict()), expected), place
        assert fresh.evaluations == whole.evaluations


@pytest.mark.parametrize("method", ["lwf", "pnn", "icarl", "synergy"])
def test_a_task_that_has_begun_does_not_begin_again(method: str) -> None:
    first = training("seq-digits", method)
    first.should_stop = lambda: first.task == 1
    with pytest.raises(Stopped):
        first.run()
    assert (first.begun, first.taken) == (True, 0)
    fresh, whole = training("seq-digits", method), training("seq-digits", method)
    restore_fresh(fresh, first.state_dict(), "it")
    fresh.run()
    whole.run()
    assert same(without_times(fresh.state_dict()), without_times(whole.state_dict()))


def test_augmentation_goes_on() -> None:
    """Digits are not augmented; here they are."""
    kept: list[State] = []

    def augmented(**options: Any) -> Training:
        loop = training("rot-digits", "er", **options)
        loop.scenario.view = ImageView(padding=1, flip=True)
        return loop

    whole = augmented(save=lambda loop: kept.append(loop.state_dict()), save_every=5)
    whole.run()
    fresh = augmented()
    restore_fresh(fresh, kept[0], "it")
    fresh.run()
    assert same(without_times(fresh.state_dict()), without_times(whole.state_dict()))


class Told(Listener):
    def __init__(self) -> None:
        self.begun: list[tuple[int, int, int]] = []

    def task_begins(self, task: Task, steps: int, done: int) -> None:
        self.begun.append((task.index, steps, done))


def test_what_is_done_is_told() -> None:
    kept: list[State] = []
    training("rot-digits", "er", save=lambda loop: kept.append(loop.state_dict()), save_every=11).run()
    told = Told()
    fresh = training("rot-digits", "er", listener=told)
    fresh.load_state_dict(kept[1])
    fresh.run()
    assert told.begun == [(1, 8, 3)]


def put(name: str, value: object) -> Callable[[State], None]:
    def change(state: State) -> None:
        *path, last = name.split(".")
        for step in path:
            state = state[int(step) if isinstance(state, list) else step]
        state[last] = value

    return change


NOWHERE = {
    "a task beyond the last": put("task", 3),
    "a task before the first": put("task", -1),
    "a task that was not evaluated": put("evaluations", []),
    "a step beyond the task's last": put("taken", 9),
    "a step before the first": put("taken", -1),
    "more steps in the task than in all": put("steps", 1),
    "a step less in all than in the tasks": put("steps", 10),
    "a step more in all than in the tasks": put("steps", 12),
    "a task that ended without all its steps": put("task", 0),
    "steps in a task that has not begun": put("begun", False),
    "no time": put("train_s", float("nan")),
    "no baseline": put("baseline", []),
    "a baseline of something else": put("baseline.0.protocol", "class-IL"),
    "an evaluation of something else": put("evaluations.0.0.protocol", "class-IL"),
    "an evaluation of no protocol": put("evaluations.0.0.protocol", "mine"),
    "an evaluation of no predictor": put("evaluations.0.0.predictor", 3),
    "an evaluation of fewer tasks": put("evaluations.0.0.accuracies", [1.0]),
    "an accuracy that is none": put("evaluations.0.0.accuracies", [1.0, "2"]),
    "an accuracy that is no number": put("evaluations.0.0.accuracies", [1.0, float("nan")]),
    "a class that is none": put("evaluations.0.0.per_class", {"a": 1.0}),
    "evaluations that are none": put("evaluations", 3),
    "losses that are none": put("last_losses", {"loss": "low"}),
    "a method that is none": put("method", []),
    "a method of fewer parts": put("method", {}),
}


@pytest.mark.parametrize("kind", NOWHERE)
def test_a_place_that_is_none_is_refused(kind: str) -> None:
    kept: list[State] = []
    training("rot-digits", "er", save=lambda loop: kept.append(loop.state_dict()), save_every=11).run()
    NOWHERE[kind](kept[1])
    with pytest.raises(UsageError, match=r"^it: it does not fit this run: "):
        restore_fresh(training("rot-digits", "er"), kept[1], "it")


def config_of(folder: Path, **options: Any) -> RunConfig:
    """Three tasks of six steps, a checkpoint after every four."""
    usual = {"n_tasks": 3, "max_steps_per_task": 6, "buffer_size": 40, "fisher_update_freq": 0.5, "checkpoint_every": 4}
    return build("rot-digits", "synergy", {**usual, "output_dir": str(folder), **options})


def stopped(folder: Path, after: int, **options: Any) -> Path:
    """The folder of a run that was asked to stop after so many steps."""
    asked = itertools.count()
    record, run = execute(prepare(config_of(folder, **options)), should_stop=lambda: next(asked) == after)
    assert record.status == "interrupted"
    return run


def outcome(record: Record) -> dict[str, Any]:
    """Bit by bit equal for two runs, wherever they wrote."""
    content = record.outcome()
    content["config"]["output"].pop("output_dir")
    return content


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoint").iterdir())


def final_state(run: Path) -> State:
    state = checkpoint.read(run / "checkpoint" / checkpoints(run)[-1])
    return without_times(state["training"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    """The run that nobody stopped."""
    return execute(prepare(config_of(tmp_path_factory.mktemp("whole"))))


def assert_equal(resumed: tuple[Record, Path], whole: tuple[Record, Path]) -> None:
    (record, run), (expected, untouched) = resumed, whole
    assert json.dumps(outcome(record)) == json.dumps(outcome(expected))
    assert records.read(run) == record
    assert records.read_all(run.parent) == [record]
    assert checkpoints(run)[-1] == checkpoints(untouched)[-1]
    assert same(final_state(run), final_state(untouched))


@pytest.mark.parametrize("after", [0, 1, 4, 5, 6, 11, 17])
def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path, whole: tuple[Record, Path], after: int) -> None:
    run = stopped(tmp_path, after)
    before = records.read(run).measured
    record, folder = resume(run)
    assert folder == run
    assert_equal((record, run), whole)
    assert record.measured.started_at == before.started_at
    assert record.measured.wall_s > before.wall_s
    assert record.measured.train_s >= before.train_s
    assert record.provenance["checkpoint_every"] == "flag"


def test_a_run_is_found_from_within(
    tmp_path: Path, whole: tuple[Record, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(tmp_path, 9)
    monkeypatch.chdir(run)
    resume(Path())
    assert_equal((records.read(run), run), whole)
    assert records.read(run).run_id == run.name


def test_a_run_may_be_stopped_again_and_again(tmp_path: Path, whole: tuple[Record, Path]) -> None:
    run = stopped(tmp_path, 2)
    for _ in range(4):
        asked = itertools.count()
        resume(run, should_stop=lambda asked=asked: next(asked) == 3)  # type: ignore[misc]
    assert_equal(resume(run), whole)


def test_checkpoints_change_nothing(tmp_path: Path, whole: tuple[Record, Path]) -> None:
    record, run = execute(prepare(config_of(tmp_path, checkpoint_every=None)))
    content, expected = outcome(record), outcome(whole[0])
    assert content["config"]["output"].pop("keep") == expected["config"]["output"].pop("keep")
    assert expected["config"]["output"].pop("checkpoint_every") == 4
    assert content.pop("provenance").keys() == expected.pop("provenance").keys()
    assert content == expected
    assert not (run / "checkpoint").exists()


@pytest.mark.parametrize(
    ("keep", "left"),
    [(1, ["18-3"]), (2, ["16-2", "18-3"]), (9, ["4-0", "6-1", "8-1", "12-1", "12-2", "16-2", "18-3"])],
)
def test_the_newest_checkpoints_are_kept(tmp_path: Path, keep: int, left: list[str]) -> None:
    _, run = execute(prepare(config_of(tmp_path, keep=keep)))
    names = [f"step-{int(step):08d}-task-{int(task):04d}" for step, task in (each.split("-") for each in left)]
    assert checkpoints(run) == names


def damage(run: Path, number: int = -1) -> Path:
    path = run / "checkpoint" / checkpoints(run)[number] / TENSORS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path.parent


def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, whole: tuple[Record, Path]) -> None:
    run = stopped(tmp_path, 9)
    damaged = damage(run)
    outcome = call("resume", run)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"skipped: checkpoint {damaged}: tensors.safetensors is damaged" in outcome.out
    assert "goes on after step 8, 1 of 3 tasks done: " in outcome.out
    assert_equal((records.read(run), run), whole)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        # All of the method but its last part will be in there when it is found out.
        ("nine", "it does not fit this run: 'steps' is of type str, expected of type int; use one of"),
        (8, "the method has counted 8 steps of 9"),
    ],
)
def test_one_that_is_whole_but_does_not_fit_is_skipped(
    tmp_path: Path, whole: tuple[Record, Path], steps: object, reason: str
) -> None:
    run = stopped(tmp_path, 9)
    path = run / "checkpoint" / checkpoints(run)[-1]
    state = checkpoint.read(path)
    state["training"]["method"]["steps"] = steps
    checkpoint.write(state, path)
    outcome = call("resume", run)
    assert outcome.code == 0
    assert outcome.out.count("skipped: ") == 1
    assert reason in outcome.out
    assert_equal((records.read(run), run), whole)


def test_one_of_another_name_is_skipped(tmp_path: Path, whole: tuple[Record, Path]) -> None:
    """Such as one with a forged count of steps."""
    run = stopped(tmp_path, 9)
    newest = run / "checkpoint" / checkpoints(run)[-1]
    newest.rename(newest.with_name("step-00000010-task-0001"))
    outcome = call("resume", run)
    assert outcome.code == 0 and outcome.out.count("skipped: ") == 1
    assert "it holds step 9 after 1 task, its name says step 10 after 1 task" in outcome.out
    assert_equal((records.read(run), run), whole)


@pytest.mark.parametrize("change", [Tensor.double, torch.neg])
def test_a_memory_of_other_labels_is_skipped(
    tmp_path: Path, whole: tuple[Record, Path], change: Callable[[Tensor], Tensor]
) -> None:
    run = stopped(tmp_path, 9)
    path = run / "checkpoint" / checkpoints(run)[-1]
    state = checkpoint.read(path)
    fields = state["training"]["method"]["memory"]["store"]["fields"]
    fields["labels"] = change(fields["labels"] + 1)
    checkpoint.write(state, path)
    outcome = call("resume", run)
    assert outcome.code == 0 and outcome.out.count("skipped: ") == 1
    assert "it does not fit this run: a memory w" in outcome.out
    assert_equal((records.read(run), run), whole)


def test_nothing_of_one_that_does_not_fit_remains(tmp_path: Path) -> None:
    run = stopped(tmp_path, 9, fisher_update_freq=0.0)

    def half(state: State) -> None:
        state["training"]["method"] |= {"fisher": torch.ones(17610), "steps": "nine"}

    outcome = call("resume", rewritten(run, half))
    assert outcome.out.count("skipped: ") == 1
    assert "goes on after step 8" in outcome.out
    assert final_state(run)["method"]["fisher"] is None


def test_without_any_good_checkpoint_it_starts_again(tmp_path: Path, whole: tuple[Record, Path]) -> None:
    run = stopped(tmp_path, 9)
    for number in range(2):
        damage(run, number)
    outcome = call("resume", run)
    assert outcome.code == 0
    assert outcome.out.count("skipped: ") == 2
    assert "no checkpoint that could be used: starts again from the beginning" in outcome.out
    assert_equal((records.read(run), run), whole)


def test_a_run_without_checkpoints_starts_again(tmp_path: Path) -> None:
    run = stopped(tmp_path, 9, checkpoint_every=None)
    record, _ = resume(run)
    assert (record.status, record.steps) == ("finished", 18)


def test_what_a_killed_writer_left_is_cleaned_up(tmp_path: Path, whole: tuple[Record, Path]) -> None:
    run = stopped(tmp_path, 9)
    newest = run / "checkpoint" / checkpoints(run)[-1]
    # Killed before one was complete, and between the two renames of another.
    half = newest.with_name(f".step-00000099-task-0001.{'0' * 16}.new")
    half.mkdir()
    (half / TENSORS).write_bytes(b"half")
    newest.rename(newest.with_name(f".{newest.name}.old"))
    outcome = call("resume", run)
    assert "goes on after step 9" in outcome.out
    assert_equal((records.read(run), run), whole)


def test_what_was_left_of_a_record_is_cleaned_up(tmp_path: Path) -> None:
    run = stopped(tmp_path, 9)
    (run / f".record.json.{'0' * 16}.tmp").write_text("{")
    resume(run)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint", "config.toml", "record.json"]


@posix
@pytest.mark.parametrize(
    ("place", "mode", "message"),
    [
        (".", 0o555, "cannot write to 'it': Permission denied; allow it, or make room there"),
        ("config.toml", 0o444, "cannot write to 'it/config.toml': Permission denied; allow it, or make room there"),
        ("checkpoint", 0, "cannot read 'it/checkpoint': Permission denied; allow it, or move it away"),
    ],
)
def test_what_may_not_be_used_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, mode: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = stopped(Path(), 9, experiment_id="it")
    for path in (run, *run.rglob("*")):
        path.chmod(0o777)
    (run / place).chmod(mode)
    with unprivileged():
        outcome = call("resume", run)
    (run / place).chmod(0o777)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"synergy: error: {message}\n")
    assert records.read(run).status == "interrupted"
    assert call("resume", run).code == 0


def test_a_record_that_cannot_be_written_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records, "write", full)
    with pytest.raises(UsageError, match=f"^cannot write to '{tmp_path}/it': No space left on device; allow it, or"):
        execute(prepare(config_of(tmp_path, experiment_id="it")))


def test_a_finished_run_is_refused(tmp_path: Path, whole: tuple[Record, Path]) -> None:
    shutil.copytree(whole[1].parent, tmp_path / "copy")
    run = tmp_path / "copy" / whole[1].name
    outcome = call("resume", run)
    assert outcome.code == 2
    assert outcome.err.startswith(f"synergy: error: {run}: the run is finished; see it with: synergy report ")
    assert len(records.read_all(run.parent)) == 1
    # Killed between its record and its line among all results.
    (run.parent / records.RESULTS_NAME).unlink()
    assert call("resume", run).code == 2
    assert records.read_all(run.parent) == [records.read(run)]


@pytest.mark.filterwarnings("default:.*results.jsonl")
def test_a_torn_line_among_all_results_stops_nobody(tmp_path: Path, whole: tuple[Record, Path]) -> None:
    shutil.copytree(whole[1].parent, tmp_path / "copy")
    results, run = tmp_path / "copy" / records.RESULTS_NAME, tmp_path / "copy" / whole[1].name
    torn = results.read_bytes()[:1000]
    results.write_bytes(torn)
    # Its record is in its folder.
    reported = call("report", tmp_path / "copy")
    assert reported.code == 0 and reported.out.startswith(f"{run.name}: ")
    assert reported.err.count("\n") == 1 and f"{results}: line 1 (" in reported.err
    assert "the run is finished" in call("resume", run).err
    (line,) = results.read_bytes().removeprefix(torn).splitlines()[1:]
    results.write_bytes(torn + b"\n" + line + b"\n")
    resume(stopped(tmp_path / "copy", 9, experiment_id="other"))
    with pytest.warns(UserWarning, match="line 1"):
        assert [record.run_id for record in records.read_all(results)] == [run.name, "other"]


def rows(folder: Path) -> dict[str, int]:
    """How many each CSV table has."""
    tables = folder.glob("csv/**/*.csv")
    return {path.stem: len(path.read_text().splitlines()) - 1 for path in tables}


def killed(*_: object) -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("before", ["write_csv", "append", "_add"])
def test_a_run_killed_before_it_was_in_all_tables_gets_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    execute(prepare(config_of(tmp_path, csv_log=True)))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if before == "append":
            patch.setattr(records, "append", killed)
        else:
            patch.setattr(csv_log, before, killed)
        execute(prepare(config_of(tmp_path, csv_log=True)))
    (run,) = tmp_path.glob("*-2")
    for _ in range(3):
        assert "the run is finished; see it with" in call("resume", run).err
        # Its rows equal those of the first run, which is of the same seed.
        assert rows(tmp_path) == {"semantic": 2, "working": 2}
        assert len(records.read_all(tmp_path)) == 2


def test_a_csv_row_that_was_lost_comes_back(tmp_path: Path) -> None:
    _, run = execute(prepare(config_of(tmp_path, csv_log=True)))
    (one,) = tmp_path.glob("csv/**/working.csv")
    (other,) = tmp_path.glob("csv/**/semantic.csv")
    content = one.read_bytes(), other.read_bytes()
    one.unlink()
    call("resume", run)
    assert (one.read_bytes(), other.read_bytes()) == content
    assert len(records.read_all(tmp_path)) == 1
    # A spreadsheet writes numbers and truth values in its own way.
    other.write_text(other.read_text().replace("False", "FALSE").replace(".0,", ","))
    call("resume", run)
    assert rows(tmp_path) == {"semantic": 1, "working": 1}


@pytest.mark.parametrize("name", ["nosuch", "empty", "file"])
def test_what_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    outcome = call("resume", tmp_path / name)
    assert outcome.code == 2
    assert outcome.err.startswith(
        f"synergy: error: {tmp_path / name}: not the folder of a run, it has no config.toml; "
    )
    assert "--output_dir" in outcome.err and outcome.err.count("\n") == 1


def test_resume_takes_a_run_and_nothing_else(tmp_path: Path) -> None:
    assert "error: RUN is missing" in call("resume").err
    outcome = call("resume", tmp_path, "--lr", "0.1")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "unknown flag '--lr'" in outcome.err


def rewritten(run: Path, change: Callable[[State], None]) -> Path:
    """The run with a change in its newest checkpoint."""
    path = run / "checkpoint" / checkpoints(run)[-1]
    state = checkpoint.read(path)
    change(state)
    checkpoint.write(state, path)
    return run


def test_other_data_are_refused(tmp_path: Path) -> None:
    run = rewritten(stopped(tmp_path, 9), put("run.source.train_samples", 60000))
    with pytest.raises(UsageError, match=r"made with data of train_samples 60000, given 1437; set SYNERGY_DATA to"):
        resume(run)


def without_record(run: Path) -> None:
    (run / "record.json").unlink()


def without_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoint")


@pytest.mark.parametrize("change", [without_record, without_checkpoints])
def test_another_configuration_is_refused(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Each of the two that a stopped run leaves knows what it began with."""
    run = stopped(tmp_path, 9)
    change(run)
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("buffer_size = 40", "buffer_size = 41"))
    outcome = call("resume", run)
    assert outcome.code == 2
    assert "buffer_size was 40, and is 41 in config.toml; undo the change, or begin a new run with it" in outcome.err


def test_data_with_another_content_are_refused(tmp_path: Path) -> None:
    run = rewritten(stopped(tmp_path, 9), put("run.source.checksum", "sha256 0"))
    with pytest.raises(UsageError, match=r"made with other data, their checksum differs; put those data back, or"):
        resume(run)


def test_data_without_a_checksum_are_taken(tmp_path: Path) -> None:
    """The first release took none."""
    record, _ = resume(rewritten(stopped(tmp_path, 9), put("run.source.checksum", "")))
    assert record.status == "finished"


def test_other_data_than_the_record_has_are_refused(tmp_path: Path) -> None:
    run = stopped(tmp_path, 9, checkpoint_every=None)
    content = json.loads((run / "record.json").read_text())
    content["source"]["test_samples"] = 10000
    (run / "record.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"record.json: made with data of test_samples 10000, given 360; set SYN"):
        resume(run)


def test_a_record_without_options_is_refused(tmp_path: Path) -> None:
    run = stopped(tmp_path, 9, checkpoint_every=None)
    content = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps(content | {"config": {"scenario": 3}}))
    with pytest.raises(UsageError, match=r"record.json: it has no configuration; move it away, or train again"):
        resume(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("run.versions.torch", "1.0"), r"begun with torch 1.0 on cpu .*, goes on with torch .* may differ"),
        (put("run.device", "cpu (Other, 9 threads)"), r"begun with torch .* on cpu \(Other, 9 threads\), goes on with"),
    ],
)
def test_another_version_or_machine_is_warned_about(
    tmp_path: Path, change: Callable[[State], None], message: str
) -> None:
    run = rewritten(stopped(tmp_path, 9), change)
    with pytest.warns(UserWarning, match=message):
        resume(run)


LONG = "x" * 100_000


@pytest.mark.filterwarnings("default:begun with")
@pytest.mark.parametrize(
    "change",
    [
        put("run.source.name", LONG),
        put("run.config.method.lr", LONG),
        put(f"run.config.method.{LONG}", 1),
        put("run.device", LONG),
        put(f"training.method.{LONG}", 1),
    ],
)
def test_messages_quote_no_more_than_is_read(tmp_path: Path, change: Callable[[State], None]) -> None:
    run = stopped(tmp_path, 9)
    outcome = call("resume", rewritten(run, change))
    assert max(map(len, (outcome.out + outcome.err).splitlines())) < 2000
    assert outcome.code == (2 if outcome.err.startswith("synergy: error") else 0)


@pytest.mark.parametrize("change", [put("run", 3), put("run.config", {"method": 3}), lambda state: state.pop("run")])
def test_a_checkpoint_of_something_else_is_skipped(
    tmp_path: Path, whole: tuple[Record, Path], change: Callable[[State], None]
) -> None:
    run = rewritten(stopped(tmp_path, 9), change)
    assert_equal(resume(run), whole)


HOLDING = """
import sys, time
from pathlib import Path
from synergy.runs.folder import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = stopped(tmp_path, 9)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    try:
        outcome = call("resume", run)
        assert outcome.code == 2
        assert outcome.err == (f"synergy: error: {run}: another process is running it; wait for its end, or stop it\n")
    finally:
        other.kill()
        other.communicate()
    # The lock is gone with the process.
    assert call("resume", run).code == 0


def test_a_run_holds_its_folder_while_it_runs(tmp_path: Path) -> None:
    refused = []

    class Trying(Listener):
        def task_ended(self, index: int, evaluations: object) -> None:
            (run,) = tmp_path.iterdir()
            with pytest.raises(UsageError, match="another process is running it"):
                resume(run)
            refused.append(index)

    execute(prepare(config_of(tmp_path)), Trying())
    assert refused == [0, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    observe = ER.observe

    def interrupted(self: ER, batch: Batch) -> Any:
        signal.raise_signal(number)
        return observe(self, batch)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(ER, "observe", interrupted)
        arguments = ("--dataset", "rot-digits", "--model", "er", "--max_tasks", 1, "--max_steps_per_task", 5)
        outcome = call("run", *arguments, "--checkpoint_every", 100, "--output_dir", tmp_path)
    (run,) = tmp_path.iterdir()
    assert outcome.code == 130
    assert outcome.err == (f"synergy: error: run interrupted: stopped after step 1; go on with: synergy resume {run}\n")
    assert checkpoints(run) == ["step-00000001-task-0000"]
    assert signal.getsignal(number) is before
    assert call("resume", run).code == 0
    assert records.read(run).steps == 5


@pytest.mark.skipif(sys.platform == "win32", reason="of another system")
@pytest.mark.parametrize("name", ["-dash", "two  spaces", "new\nline", "it's\n\\$HOME\t\x1bü", "~", "$HOME"])
def test_the_command_to_go_on_works_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    asked = itertools.count()
    config = config_of(Path(name), experiment_id="i")
    with monkeypatch.context() as patch:
        patch.setattr(commands, "stopping_on_interrupt", lambda: nullcontext(lambda: next(asked) == 9))
        patch.setattr(commands, "run_config", lambda arguments: config)
        outcome = call("run")
    hint = outcome.err.removesuffix("\n").partition("; go on with: synergy ")[2]
    assert words(hint) == ["resume", str(Path(".", name, "i")) if name != "-dash" else "./-dash/i"]
    assert call(*words(hint)).code == 0
    hint = call(*words(hint)).err.removesuffix("\n").partition("; see it with: synergy ")[2]
    assert call(*words(hint)).code == 0


def words(command: str) -> list[str]:
    """As the shell hands them over."""
    told = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    return told.stdout.split("\0")[:-1]


def filling(patch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> None:
    """Let files of checkpoints, counted from 0, fail in the middle."""
    write, count = files.write_synced, itertools.count()

    def half(path: Path, data: bytes) -> None:
        if path.parent.parent.name != "checkpoint" or not fails(next(count)):
            return write(path, data)
        path.write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(files, "write_synced", half)


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[Record, Path]
) -> None:
    # Three files each: the third checkpoint fails in its first file, the next ones in their second and third.
    filling(monkeypatch, {6, 8, 11}.__contains__)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        record, run = execute(prepare(config_of(tmp_path)))
    assert [str(each.message) for each in told] == [
        f"no checkpoint after step {step}: cannot write to '{run / 'checkpoint'}': "
        "No space left on device; training goes on"
        for step in (8, 12, 12)
    ]
    assert outcome(record) == outcome(whole[0])
    assert checkpoints(run) == checkpoints(whole[1])


def test_the_last_good_one_stays_when_no_more_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stopped(tmp_path, 9, keep=1)
    before = checkpoints(run)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="training goes on"):
        filling(patch, lambda number: True)
        asked = itertools.count()
        resume(run, should_stop=lambda: next(asked) == 5)
    assert checkpoints(run) == before
    record, _ = resume(run)
    assert record.status == "finished"


def test_no_checkpoint_of_a_run_that_has_diverged(tmp_path: Path) -> None:
    config = build("rot-digits", "sgd", {"lr": 1e6, "checkpoint_every": 1, "keep": 99, "output_dir": str(tmp_path)})
    record, run = execute(prepare(config))
    assert record.status == "failed"
    for name in checkpoints(run):
        state = checkpoint.read(run / "checkpoint" / name)
        assert all(abs(loss) < float("inf") for loss in state["training"]["last_losses"].values())


def test_events_continue(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

    run = stopped(tmp_path, 9, tensorboard=True)
    shutil.rmtree(run / "checkpoint" / checkpoints(run)[-1])
    resume(run)
    events = event_accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("loss/loss")]
    assert steps == sorted(set(steps))
    assert {4, 6, 8, 12, 18} <= set(steps)
    assert 9 not in steps


def test_a_session_is_of_its_run_alone(tmp_path: Path) -> None:
    prepared = prepare(config_of(tmp_path))
    session = Session(prepared, tmp_path)
    other = Session(prepare(config_of(tmp_path, buffer_size=50)), tmp_path)
    with pytest.raises(UsageError, match="the saved memory has 40 slots, this one 50"):
        restore_fresh(other, session.state_dict(), "it")
