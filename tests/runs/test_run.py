"""Runs: the same twice from one seed, one stream for all methods, and what is left however a run ends."""

from __future__ import annotations

import errno
import itertools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from synergy.device import OUT_OF_MEMORY
from synergy.disk import files
from synergy.errors import TrainingError, UsageError
from synergy.methods import METHODS, method_class
from synergy.methods.er import ER
from synergy.runs import csv_log, records
from synergy.runs.config import RunConfig, build
from synergy.runs.config_file import from_toml
from synergy.runs.fitting import check_compatible
from synergy.runs.listeners import Listener
from synergy.runs.prepare import prepare
from synergy.runs.records import Record
from synergy.runs.session import execute, run
from synergy.scenarios import SCENARIOS, scenario_class
from synergy.state import State, same
from synergy.types import Batch, Split, Step

BRIEF: Mapping[str, Any] = {"max_tasks": 2, "max_steps_per_task": 8}
SMALL: Mapping[str, Any] = {"buffer_size": 20, "minibatch_size": 8, "ema_update_freq": 0.5, "fisher_update_freq": 0.5}
"""A memory that overflows, and both kinds of update, within a few steps."""


def config_of(scenario: str, method: str, output_dir: Path, **options: Any) -> RunConfig:
    """A brief run of a small memory; options that the method does not have are left out."""
    known = method_class(method).Config.names()
    small = {name: value for name, value in SMALL.items() if name in known}
    return build(scenario, method, {**BRIEF, **small, "output_dir": str(output_dir), **options})


def outcome(record: Record) -> dict[str, Any]:
    """All that two equal runs have in common, wherever they write and whoever gave their values."""
    content = record.outcome()
    del content["config"]["output"]["output_dir"], content["provenance"]
    return content


def executed(config: RunConfig) -> tuple[Record, State]:
    prepared = prepare(config)
    record, _ = execute(prepared)
    return record, prepared.method.state_dict()


def test_forward_transfer_is_left_out_where_no_answer_can_be_right(tmp_path: Path) -> None:
    """On split digits every trained network has 0 % on a class before its task, under class-IL."""
    for method in ("sgd", "er"):
        record, _ = executed(config_of("seq-digits", method, tmp_path))
        of_protocol = {each.protocol: each for each in record.accuracies}
        assert [row[1] for row in of_protocol["class-IL"].matrix][:1] == [0.0]
        assert "backward_transfer" in of_protocol["class-IL"].metrics
        assert "forward_transfer" not in of_protocol["class-IL"].metrics
        assert "forward_transfer" in of_protocol["task-IL"].metrics


@pytest.mark.parametrize("scenario", ["rot-digits", "seq-digits"])
@pytest.mark.parametrize("method", ["synergy", "clser", "agem_r"])
def test_one_seed_gives_one_result(tmp_path: Path, scenario: str, method: str) -> None:
    record, state = executed(config_of(scenario, method, tmp_path / "one"))
    again, same_state = executed(config_of(scenario, method, tmp_path / "two"))
    assert same(state, same_state)
    assert outcome(record) == outcome(again)
    other, other_state = executed(config_of(scenario, method, tmp_path / "three", seed=1))
    assert not same(state["net"], other_state["net"])
    assert outcome(record)["accuracies"] != outcome(other)["accuracies"]


def test_the_seed_decides_the_stream_and_the_weights(tmp_path: Path) -> None:
    first, again, other = (prepare(config_of("rot-digits", "sgd", tmp_path, seed=seed)) for seed in (0, 0, 1))
    streams = [next(prepared.scenario.task(0).batches(0)) for prepared in (first, again, other)]
    assert same(streams[0], streams[1])
    assert not same(streams[0], streams[2])
    nets = [prepared.method.setting.build_net("net").state_dict() for prepared in (first, again, other)]
    assert same(nets[0], nets[1])
    assert not same(nets[0], nets[2])
    assert not same(nets[0], first.method.setting.build_net("second").state_dict())


def stream(scenario: str, method: str, output_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Raw samples, inputs and labels of all batches as the method sees them, one sample after the other."""
    seen: list[Batch] = []
    kind = method_class(method)
    observe: Callable[[Any, Batch], Step] = kind.observe

    def watched(self: Any, batch: Batch) -> Step:
        seen.append(Batch(batch.raw.clone(), batch.inputs.clone(), batch.labels.clone()))
        return observe(self, batch)

    # Enough steps for a method that takes one sample at a time, few enough for those that are slow.
    steps = 32 if kind.only_batch_size == 1 else 4
    prepared = prepare(config_of(scenario, method, output_dir, max_tasks=1, max_steps_per_task=steps))
    with monkeypatch.context() as patch:
        patch.setattr(kind, "observe", watched)
        execute(prepared)
    return [torch.cat(parts) for parts in zip(*((b.raw, b.inputs, b.labels) for b in seen), strict=True)]


WITHOUT_BOUNDARIES = [name for name in METHODS if not method_class(name).needs_boundaries]


@pytest.mark.parametrize("method", [name for name in WITHOUT_BOUNDARIES if name != "sgd"])
@pytest.mark.parametrize("scenario", ["rot-digits", "seq-digits"])
def test_the_stream_is_the_same_for_every_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, method: str
) -> None:
    if method_class(method).protocols.isdisjoint(scenario_class(scenario).protocols):
        pytest.skip("the method does not answer there")
    reference = stream(scenario, "sgd", tmp_path, monkeypatch)
    seen = stream(scenario, method, tmp_path, monkeypatch)
    n = min(len(reference[0]), len(seen[0]))
    assert n >= 32
    assert all(torch.equal(one[:n], other[:n]) for one, other in zip(reference, seen, strict=True))


def test_a_configuration_file_runs_again(tmp_path: Path) -> None:
    config = config_of("seq-digits", "synergy", tmp_path / "one", notes="as it was")
    record, folder = execute(prepare(config))
    content = from_toml(folder / "config.toml")
    given = {"output_dir": str(tmp_path / "two")}
    again = run(build(content.scenario_name, content.method_name, given, from_file=content.values))
    assert outcome(again) == outcome(record)
    assert again.provenance["lr"] == "configuration file"


def test_the_record_says_what_was_run(tmp_path: Path) -> None:
    config = config_of("seq-digits", "synergy", tmp_path)
    prepared = prepare(config)
    record, folder = execute(prepared)
    assert record == records.read(folder)
    assert [record] == records.read_all(tmp_path)
    assert (record.status, record.error, record.partial, record.steps) == ("finished", None, True, 16)
    assert record.config == prepared.config.as_mapping()
    assert record.provenance == config.provenance
    assert record.source["name"] == "digits"
    assert record.source["complete"] is True
    assert record.task_classes == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
    assert record.n_parameters == sum(p.numel() for p in prepare(config).method.setting.build_net("net").parameters())
    assert {"python", "torch", "numpy", "synergy-cl"} <= record.versions.keys()
    assert record.device.startswith("cpu (")
    keys = [(each.predictor, each.protocol) for each in record.accuracies]
    assert keys == list(itertools.product(("semantic", "working"), ("class-IL", "task-IL")))
    assert all(len(each.matrix) == len(each.matrix[0]) == len(each.baseline) == 2 for each in record.accuracies)
    assert all("final_average" in each.metrics for each in record.accuracies)
    assert record.answer().predictor == "semantic"
    assert record.measured.wall_s > record.measured.train_s > 0
    assert record.measured.steps_per_s == pytest.approx(16 / record.measured.train_s)


def test_a_full_run_is_not_partial(tmp_path: Path) -> None:
    record = run(build("rot-digits", "sgd", {"n_tasks": 1, "output_dir": str(tmp_path)}))
    assert not record.partial
    assert record.steps == 90


def test_validation_holds_out_a_part_of_the_training_set(tmp_path: Path) -> None:
    record = run(config_of("rot-digits", "sgd", tmp_path, validation=True))
    source = record.source
    assert (source["train_samples"], source["test_samples"], source["complete"]) == (1293, 144, False)


def test_a_method_that_answers_at_the_end_only(tmp_path: Path) -> None:
    record = run(build("rot-digits", "joint", {"n_tasks": 2, "max_steps_per_task": 1, "output_dir": str(tmp_path)}))
    (answer,) = record.accuracies
    assert answer.matrix[0] == (None, None)
    assert None not in answer.matrix[1]
    assert answer.metrics.keys() == {"final_average", "stability"}


def test_folders_are_numbered_where_they_exist_already(tmp_path: Path) -> None:
    config = config_of("rot-digits", "er", tmp_path)
    folders = [execute(prepare(config))[1].name for _ in range(3)]
    name = "rot-digits-er-buffer20-minibatch_size8-max_steps_per_task8-max_tasks2-seed0"
    assert folders == [name, f"{name}-2", f"{name}-3"]
    assert [record.run_id for record in records.read_all(tmp_path)] == folders
    assert (tmp_path / name / "config.toml").read_text() == prepare(config).config.to_toml()


def test_a_run_has_the_name_it_was_given(tmp_path: Path) -> None:
    folder = execute(prepare(config_of("rot-digits", "sgd", tmp_path, experiment_id="mine")))[1]
    assert folder == tmp_path / "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["config.toml", "record.json"]
    assert execute(prepare(config_of("rot-digits", "sgd", tmp_path)))[1].name.startswith("rot-digits-sgd-max_")


class Closing(Listener):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_run_that_fails_keeps_its_record_and_no_result(tmp_path: Path) -> None:
    listener = Closing()
    record, folder = execute(prepare(config_of("rot-digits", "sgd", tmp_path, lr=1e6)), listener)
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.startswith("the loss became nan at step ")
    assert record.final_losses == {"loss": None}
    assert record.accuracies == ()
    assert records.read(folder) == record
    assert not (tmp_path / records.RESULTS_NAME).exists()
    assert listener.closed == 1


def test_a_run_that_is_stopped_keeps_its_record_and_no_result(tmp_path: Path) -> None:
    config = config_of("rot-digits", "sgd", tmp_path, csv_log=True)
    asked = itertools.count()
    record, folder = execute(prepare(config), should_stop=lambda: next(asked) == 11)
    assert (record.status, record.error, record.steps) == ("interrupted", "stopped after step 11", 11)
    assert len(record.answer().matrix) == 1
    assert record.measured.steps_per_s > 0
    assert records.read(folder) == record
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name]


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_running_out_of_memory_is_a_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def too_much(self: object, batch: Batch) -> NoReturn:
        raise error("too much")

    monkeypatch.setattr(ER, "observe", too_much)
    record = run(config_of("rot-digits", "er", tmp_path))
    assert (record.status, record.error) == ("failed", OUT_OF_MEMORY)


def test_a_memory_larger_than_the_machine_is_a_failed_run(tmp_path: Path) -> None:
    record = run(config_of("rot-digits", "er", tmp_path, buffer_size=10**13))
    assert (record.status, record.error) == ("failed", OUT_OF_MEMORY)


def test_data_that_do_not_fit_the_device_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, device: torch.device) -> NoReturn:
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(Split, "to", full)
    with pytest.raises(TrainingError, match=r"^out of memory; lower "):
        prepare(config_of("rot-digits", "er", tmp_path))


def test_a_defect_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, batch: Batch) -> NoReturn:
        raise ZeroDivisionError("a defect")

    listener = Closing()
    monkeypatch.setattr(ER, "observe", broken)
    with pytest.raises(ZeroDivisionError):
        execute(prepare(config_of("rot-digits", "er", tmp_path)), listener)
    assert listener.closed == 1
    assert not list(tmp_path.glob("*/record.json"))


def test_csv_tables_of_every_predictor(tmp_path: Path) -> None:
    run(config_of("seq-digits", "synergy", tmp_path, csv_log=True))
    tables = sorted(path.relative_to(tmp_path / "csv" / "partial") for path in tmp_path.glob("csv/**/*.csv"))
    assert [str(path) for path in tables] == [
        f"{protocol}/seq-digits/synergy/{predictor}.csv"
        for protocol in ("class-IL", "task-IL")
        for predictor in ("semantic", "working")
    ]


def test_a_damaged_table_is_told_before_training(tmp_path: Path) -> None:
    config = config_of("seq-digits", "er", tmp_path, csv_log=True)
    run(config)
    (path,) = tmp_path.glob("csv/partial/class-IL/seq-digits/er/*.csv")
    path.write_bytes(path.read_bytes()[:-20])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="not a table of runs"):
        prepare(config)
    assert sorted(tmp_path.rglob("*")) == before
    prepare(config_of("seq-digits", "sgd", tmp_path, csv_log=True))


def test_tensorboard_events_hold_losses_and_accuracies(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

    record, folder = execute(prepare(config_of("rot-digits", "synergy", tmp_path, tensorboard=True)))
    events = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    names = {"loss/loss", "loss/ce", "accuracy/domain-IL/semantic", "accuracy/domain-IL/working"}
    assert names <= set(tags)
    losses = events.Scalars("loss/loss")
    assert losses[-1].step == 16
    assert losses[-1].value == pytest.approx(record.final_losses["loss"])
    accuracies = [(event.step, event.value) for event in events.Scalars("accuracy/domain-IL/semantic")]
    first, second = record.answer().matrix
    assert None not in (*first, *second)
    expected = [(1, first[0]), (2, sum(value or 0 for value in second) / 2)]
    assert accuracies == [(step, pytest.approx(value)) for step, value in expected]


def test_tensorboard_that_is_not_installed_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'synergy-cl\[tensorboard\]'"):
        prepare(config_of("rot-digits", "sgd", tmp_path / "runs", tensorboard=True))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_output_folder_that_is_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"output_dir: cannot write to .*; name another folder"):
        run(config_of("rot-digits", "sgd", tmp_path / "file" / below))
    assert (tmp_path / "file").read_text() == "mine"


def full_disk(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_no_folder_is_left_where_the_configuration_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "write_atomically", full_disk)
    with pytest.raises(UsageError, match="No space left on device"):
        run(config_of("rot-digits", "sgd", tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "name"), [(records, "write"), (records, "append"), (csv_log, "write_csv")])
def test_a_disk_that_is_full_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    monkeypatch.setattr(module, name, full_disk)
    with pytest.raises(UsageError, match="No space left on device"):
        run(config_of("rot-digits", "sgd", tmp_path, csv_log=True))


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=rf"device: given {device}, which this machine does not have; available: cpu$"):
        prepare(config_of("rot-digits", "sgd", tmp_path, device=device))


def test_a_batch_larger_than_every_task(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"batch_size: given 500; allowed: at most 286, the samples of the smallest task"
    ):
        prepare(config_of("seq-digits", "sgd", tmp_path, batch_size=500))
    assert prepare(config_of("rot-digits", "sgd", tmp_path, batch_size=5000)).scenario.setting.batch_size == 5000


def test_a_method_of_one_batch_size_refuses_another(tmp_path: Path) -> None:
    name, only = next((n, k.only_batch_size) for n in METHODS if (k := method_class(n)).only_batch_size is not None)
    with pytest.raises(UsageError, match=rf"batch_size: given 7; allowed for {name}: {only}"):
        prepare(config_of("seq-digits", name, tmp_path, batch_size=7))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_methods_are_refused_exactly_where_they_cannot_learn(scenario: str) -> None:
    for method in METHODS:
        check_refusal(method, scenario)


def check_refusal(method: str, scenario: str) -> None:
    kind, stream_kind = method_class(method), scenario_class(scenario)
    boundaries = stream_kind.boundaries or not kind.needs_boundaries
    protocol = any(protocol in kind.protocols for protocol in stream_kind.protocols)
    if boundaries and protocol:
        check_compatible(method, kind, scenario, stream_kind)
        return
    reason = f"{method} answers under .* only; {scenario}" if boundaries else f"{method} needs task boundaries"
    with pytest.raises(UsageError, match=reason):
        check_compatible(method, kind, scenario, stream_kind)


def test_records_are_strict_json(tmp_path: Path) -> None:
    _, folder = execute(prepare(config_of("rot-digits", "sgd", tmp_path, lr=1e6)))

    def refuse(constant: str) -> NoReturn:
        pytest.fail(f"{constant} is no JSON")

    json.loads((folder / "record.json").read_text(), parse_constant=refuse)
