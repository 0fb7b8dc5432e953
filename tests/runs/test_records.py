"""Records come back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.errors import UsageError
from synergy.runs import metrics, records
from synergy.runs.records import Accuracies, Measured, Record
from synergy.types import ProtocolName

MATRIX = ((90.0, None), (60.0, 80.0))
SEMANTIC = Accuracies(
    predictor="semantic",
    protocol="class-IL",
    matrix=MATRIX,
    baseline=(10.0, 12.0),
    per_class={"0": 55.0, "1": 65.0},
    calibration_error=7.5,
    metrics=metrics.summary(MATRIX, (10.0, 12.0)),
)
RECORD = Record(
    schema_version=records.SCHEMA_VERSION,
    run_id="seq-digits-synergy-0",
    status="finished",
    error=None,
    partial=False,
    config={
        "scenario": {"name": "seq-digits", "batch_size": 32, "class_order_seed": 3},
        "method": {"name": "synergy", "lr": 0.1, "buffer_size": 200},
        "training": {"n_epochs": 1, "seed": 0},
        "output": {"tensorboard": False},
    },
    provenance={"lr": "preset: Table 1", "seed": "default"},
    source={"name": "digits", "origin": "bundled", "train_samples": 1437, "test_samples": 360, "complete": True},
    task_classes=((0, 1), (2, 3)),
    n_parameters=17_610,
    steps=90,
    versions={"python": "3.12.1", "torch": "2.6.0"},
    device="cpu",
    seed=0,
    accuracies=(
        SEMANTIC,
        replace(SEMANTIC, protocol="task-IL"),
        replace(SEMANTIC, predictor="working"),
    ),
    measured=Measured("2025-01-31T12:00:00+00:00", 10.5, 20.0, 8.0, 2.0, 120.0, 11.25),
    final_losses={"loss": 0.5, "replay": 0.25},
)

# What a run may hold: any text, any finite number, whatever TOML and JSON both can express.
texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**63)
values = st.recursive(
    texts | numbers | integers | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
matrices = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[st.none() | numbers] * width), max_size=3).map(tuple)
)
accuracies = st.builds(
    Accuracies,
    predictor=texts,
    protocol=st.sampled_from(["class-IL", "task-IL", "domain-IL", "general"]),
    matrix=matrices,
    baseline=st.lists(numbers, max_size=3).map(tuple),
    per_class=st.dictionaries(texts, numbers, max_size=3),
    calibration_error=st.none() | numbers,
    metrics=st.dictionaries(texts, numbers, max_size=3),
)
measurements = st.builds(Measured, texts, numbers, numbers, numbers, numbers, numbers, numbers)
record_strategy = st.builds(
    Record,
    schema_version=st.just(records.SCHEMA_VERSION),
    run_id=texts,
    status=st.sampled_from(["finished", "failed", "interrupted"]),
    error=st.none() | texts,
    partial=st.booleans(),
    config=st.dictionaries(texts, values, max_size=3),
    provenance=st.dictionaries(texts, texts, max_size=3),
    source=st.dictionaries(texts, values, max_size=3),
    task_classes=st.lists(st.lists(integers, max_size=3).map(tuple), max_size=3).map(tuple),
    n_parameters=integers,
    steps=integers,
    versions=st.dictionaries(texts, texts, max_size=3),
    device=texts,
    seed=integers,
    accuracies=st.lists(accuracies, max_size=2).map(tuple),
    measured=measurements,
    final_losses=st.dictionaries(texts, st.none() | numbers, max_size=3),
    source_labels=st.lists(integers, max_size=3).map(tuple),
)


@settings(deadline=None)  # a busy disk is no failure
@given(st.lists(record_strategy, min_size=1, max_size=2))
def test_records_come_back_as_they_were(several: list[Record]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for record in several:
            path = records.write(record, folder / "run")
            records.append(record, folder)
            assert records.read(path) == record
        assert records.read_all(folder) == several


def test_a_record_of_before_a_field_with_a_default_is_read(tmp_path: Path) -> None:
    path = records.write(RECORD, tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["source_labels"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert records.read(path) == RECORD


def test_files_are_where_the_design_puts_them(tmp_path: Path) -> None:
    assert records.append(RECORD, tmp_path / "runs") == tmp_path / "runs" / "results.jsonl"
    assert records.write(RECORD, tmp_path / "runs" / "1") == tmp_path / "runs" / "1" / "record.json"
    assert records.read(tmp_path / "runs" / "1") == RECORD
    assert records.read_all(tmp_path / "runs") == records.read_all(tmp_path / "runs" / "results.jsonl") == [RECORD]
    text = (tmp_path / "runs" / "1" / "record.json").read_text()
    assert text.startswith('{\n  "schema_version": 1,\n') and text.endswith("}\n")


def test_types_survive_not_only_values(tmp_path: Path) -> None:
    whole = replace(RECORD, measured=replace(RECORD.measured, wall_s=10))
    back = records.read(records.write(whole, tmp_path))
    assert isinstance(back.measured.wall_s, float)
    assert isinstance(back.accuracies, tuple) and isinstance(back.accuracies[0].matrix[0], tuple)
    assert type(back.source["complete"]) is bool and type(back.config["training"]["seed"]) is int


def test_what_is_not_finite_is_stored_as_null(tmp_path: Path) -> None:
    matrix = ((90.0, math.nan), (math.inf, 80.0))
    strange = replace(SEMANTIC, matrix=matrix, calibration_error=math.nan)
    record = replace(
        RECORD, status="failed", error="the loss is not finite", accuracies=(strange,), final_losses={"loss": math.nan}
    )
    assert record.answer().matrix == ((90.0, None), (None, 80.0))
    assert record.answer().calibration_error is None
    assert record.final_losses == {"loss": None}
    path = records.write(record, tmp_path)
    assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()
    assert records.read(path) == record


def test_a_number_that_must_be_finite_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    record = replace(RECORD, measured=replace(RECORD.measured, steps_per_s=math.inf))
    with pytest.raises(ValueError, match="JSON"):
        records.write(record, tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        records.append(record, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_matrix_is_rectangular() -> None:
    with pytest.raises(UsageError, match="rows of different lengths"):
        replace(SEMANTIC, matrix=((1.0,), (1.0, 2.0)))


def test_the_outcome_leaves_out_what_equal_runs_do_not_share() -> None:
    again = replace(RECORD, run_id="another", measured=replace(RECORD.measured, wall_s=99.0))
    assert again.outcome() == RECORD.outcome()
    assert again.outcome().keys() == vars(RECORD).keys() - {"run_id", "measured"}
    assert replace(RECORD, seed=1).outcome() != RECORD.outcome()
    RECORD.outcome()["config"]["training"]["seed"] = 5
    assert RECORD.config["training"]["seed"] == 0


def test_accuracies_are_found_by_predictor_and_protocol() -> None:
    assert RECORD.find("semantic", "task-IL") is RECORD.accuracies[1]
    assert RECORD.find("working", "class-IL") is RECORD.accuracies[2]
    assert RECORD.answer() is RECORD.accuracies[0]


def test_accuracies_that_are_not_there_are_the_users_mistake() -> None:
    with pytest.raises(UsageError, match=r"unknown predictor of run .* 'semantics'; did you mean 'semantic'"):
        RECORD.find("semantics", "class-IL")
    with pytest.raises(UsageError, match=r"unknown protocol of predictor 'working' .*'task-IL'.*allowed: class-IL$"):
        RECORD.find("working", "task-IL")
    with pytest.raises(UsageError, match=r"\(interrupted\) has no accuracies"):
        replace(RECORD, status="interrupted", accuracies=()).answer()


def edited(tmp_path: Path, edit: Callable[[Any], None]) -> Path:
    """A record with its JSON changed by `edit`."""
    path = records.write(RECORD, tmp_path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def setter(*keys: str | int, value: object) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edit


DAMAGES: list[tuple[tuple[str | int, ...], object, str]] = [
    (("schema_version",), 2, "schema_version: given 2, written by a newer release; allowed: up to 1; upgrade"),
    (("schema_version",), 0, "schema_version: given 0; allowed: from 1 to 1"),
    (("schema_version",), "1", "schema_version: given '1'; allowed: a whole number"),
    (("schema_version",), True, "schema_version: given True; allowed: a whole number"),
    (("schema_version",), 10**4000, "schema_version: given 1000"),
    (("schema_version",), -(10**4000), "schema_version: given -1000"),
    (("run_id",), None, "run_id: given None; allowed: a text"),
    (("run_id",), "x" * 100_000, "run_id: given 'xxx"),
    (("provenance", "x" * 100_000), 1, "provenance['xxx"),
    (("status",), "done", "status: given 'done'; allowed: one of finished, failed, interrupted"),
    (("error",), 3, "error: given 3; allowed: a text"),
    (("partial",), 0, "partial: given 0; allowed: true or false"),
    (("config",), [], "config: given []; allowed: an object"),
    (("provenance", "lr"), 1, "provenance['lr']: given 1; allowed: a text"),
    (("task_classes", 1, 0), 2.0, "task_classes[1][0]: given 2.0; allowed: a whole number"),
    (("task_classes",), {}, "task_classes: given {}; allowed: a list"),
    (("steps",), True, "steps: given True; allowed: a whole number"),
    (("accuracies", 2), "x", "accuracies[2]: given 'x'; allowed: an object"),
    (("accuracies", 1, "matrix", 0, 0), "90", "accuracies[1].matrix[0][0]: given '90'; allowed: a number"),
    (("accuracies", 1, "matrix", 0), [90.0], "accuracies[1].matrix: given rows of different lengths"),
    (("accuracies", 0, "baseline", 0), None, "accuracies[0].baseline[0]: given None; allowed: a number"),
    (("accuracies", 0, "metrics", "forgetting"), False, "accuracies[0].metrics['forgetting']: given False; allowed:"),
    (("accuracies", 0, "protocol"), "class-il", "accuracies[0].protocol: given 'class-il'; allowed: one of class-IL,"),
    (("measured", "wall_s"), None, "measured.wall_s: given None; allowed: a number"),
    (("measured", "wall_s"), 10**400, "measured.wall_s: given 1000000"),
    (("measured", "wall"), 1.0, "unknown field of measured 'wall'; did you mean 'wall_s'?"),
    (("seeds",), 1, "unknown field of a record 'seeds'; did you mean 'seed'?"),
    (("two\nlines",), 1, "unknown field of a record 'two\\nlines'"),
]


@pytest.mark.parametrize(("keys", "value", "message"), DAMAGES)
def test_a_damaged_field_is_named_with_its_file(
    tmp_path: Path, keys: tuple[str | int, ...], value: object, message: str
) -> None:
    path = edited(tmp_path, setter(*keys, value=value))
    with pytest.raises(UsageError) as caught:
        records.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < len(str(path)) + 400


@pytest.mark.parametrize("field", ["seed", "error", "measured"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    path = edited(tmp_path, lambda content: content.pop(field))
    with pytest.raises(UsageError, match=f"{field}: this field is missing"):
        records.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not strict JSON"),
        ('{"schema_version": 1', "not strict JSON"),
        ('{"schema_version": NaN}', "NaN is not a finite number"),
        ('{"schema_version": 1e999}', "1e999 is not a finite number"),
        ('{"schema_version": ' + "1" * 100_000 + ".0e999}", ".0e999 is not a finite number"),
        ("[" * 100_000, "not strict JSON"),
        ("[]", "not a record: it has no field 'schema_version'"),
        ('["schema_version"]', "not a record: it has no field 'schema_version'"),
        ("{}", "not a record: it has no field 'schema_version'"),
        ("\udcff", "not strict JSON"),
    ],
)
def test_what_is_no_record_is_not_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError) as caught:
        records.read(tmp_path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.data())
def test_no_damage_is_more_than_a_usage_error(data: st.DataObject) -> None:
    """Replace any one value by any other: the record is refused in one line, or is a good one."""
    with TemporaryDirectory() as name:
        path = records.write(RECORD, Path(name))
        content = json.loads(path.read_text())
        here, key = content, data.draw(st.sampled_from(sorted(content)))
        while isinstance(here[key], dict | list) and here[key] and data.draw(st.booleans()):
            here = here[key]
            key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        here[key] = data.draw(values | st.none())
        path.write_text(json.dumps(content))
        try:
            record = records.read(path)
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert records.read(records.write(record, Path(name))) == record


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r": holds no record\.json; name the folder of a run"):
        records.read(tmp_path)
    with pytest.raises(UsageError, match=r": holds no results\.jsonl; name the folder of a run"):
        records.read_all(tmp_path)


def write_lines(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "results.jsonl"
    path.write_bytes(content.encode(errors="surrogateescape"))
    return path


def line() -> str:
    with TemporaryDirectory() as name:
        return records.append(RECORD, Path(name)).read_text()


def test_a_torn_line_is_left_out_wherever_it_is(tmp_path: Path) -> None:
    whole = line()
    torn = whole[:-20]
    for content, number in [
        (whole + torn, 2),
        (torn + "\n" + whole, 1),
        (whole[20:] + whole, 1),
        (torn + whole + whole, 1),  # what an older release appended to it
        ("\n" + torn + "\n\n" + whole, 2),
    ]:
        with pytest.warns(UserWarning, match=rf"results\.jsonl: line {number} \(.*cannot be read; left out$"):
            assert records.read_all(write_lines(tmp_path, content)) == [RECORD]


def test_every_place_a_line_can_tear_at_is_noticed(tmp_path: Path) -> None:
    whole = line()
    for end in range(1, len(whole) - 1, 97):
        with pytest.warns(UserWarning, match=r"line 1 \("):
            assert records.read_all(write_lines(tmp_path, whole[:end] + "\n" + whole)) == [RECORD]


def test_many_damaged_lines_are_one_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"line 5 \(.* and 95 more cannot be read") as told:
        assert records.read_all(write_lines(tmp_path, line()[:50] + "\n" + "x\n" * 99 + line())) == [RECORD]
    assert len(told) == 1 and len(str(told[0].message)) < 1000


def test_a_last_line_that_only_lacks_its_end_is_read(tmp_path: Path) -> None:
    assert records.read_all(write_lines(tmp_path, line() + line().rstrip("\n"))) == [RECORD, RECORD]


def test_a_line_that_is_no_record_is_left_out_with_its_reason(tmp_path: Path) -> None:
    newer = line().replace('"schema_version": 1', '"schema_version": 2')
    for content, reason in [
        ("{}\n" + line(), "it has no field 'schema_version'"),
        (newer + line(), "written by a newer release"),
        (line() + "\udcff\n", "not strict JSON"),
    ]:
        with pytest.warns(UserWarning, match=rf"line \d \(.*{reason}"):
            assert records.read_all(write_lines(tmp_path, content)) == [RECORD]


def test_an_empty_file_has_no_records_and_gives_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert records.read_all(write_lines(tmp_path, "")) == []
        assert records.read_all(write_lines(tmp_path, "\n")) == []


@pytest.mark.parametrize("protocol", ["class-IL", "task-IL", "domain-IL", "general"])
def test_all_protocols_can_be_stored(tmp_path: Path, protocol: ProtocolName) -> None:
    record = replace(RECORD, accuracies=(replace(SEMANTIC, protocol=protocol),))
    assert records.read(records.write(record, tmp_path)).answer().protocol == protocol


def test_a_class_has_the_name_that_the_data_give_it() -> None:
    named = replace(RECORD, source={**RECORD.source, "classes": ["zero", "one"]})
    assert [named.class_name(number) for number in ("0", "1", "7")] == ["zero", "one", "7"]
    assert replace(named, source_labels=(1, 0)).class_name("0") == "one"
    assert replace(RECORD, source={"name": "cifar10"}).class_name("3") == "cat"
    assert RECORD.class_name("3") == "3"


def test_runs_on_other_content_of_the_same_name_are_kept_apart() -> None:
    def of(seed: int, checksum: str | None) -> Record:
        source = RECORD.source if checksum is None else {**RECORD.source, "checksum": checksum}
        return replace(RECORD, run_id=f"{seed}", seed=seed, source=source)

    def seeds(*runs: Record) -> list[list[int]]:
        return [[each.seed for each in group] for group in records.repetitions(runs)]

    assert seeds(of(0, "a"), of(1, "a"), of(2, None)) == [[0, 1, 2]], "the first release took no checksum"
    assert seeds(of(0, "a"), of(1, "b"), of(2, "a")) == [[0, 2]]
