"""The published tables: exact columns, a row per run, and nothing lost when runs differ."""

from __future__ import annotations

import csv
import errno
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from synergy.errors import UsageError
from synergy.runs.csv_log import write_csv
from synergy.runs.metrics import summary
from synergy.runs.records import Record, Status
from tests.runs.test_records import RECORD, SEMANTIC

ARGUMENTS = "dataset,batch_size,class_order_seed,model,lr,buffer_size,n_epochs,seed,tensorboard"
HEADER = "task1,task2,forward_transfer,backward_transfer,forgetting," + ARGUMENTS
ROW = "90.0,70.0,,-30.0,30.0,seq-digits,32,3,synergy,0.1,200,1,0,False"


def with_matrix(record: Record, matrix: tuple[tuple[float, ...], ...]) -> Record:
    baseline = (10.0,) * len(matrix[0])
    metrics = summary(matrix, baseline)
    return replace(record, accuracies=(replace(SEMANTIC, matrix=matrix, baseline=baseline, metrics=metrics),))


def configured(record: Record, section: str, **options: object) -> Record:
    return replace(record, config=record.config | {section: record.config.get(section, {}) | options})


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def the_one(record: Record, folder: Path) -> Path:
    (path,) = write_csv(record, folder)
    return path


def test_one_file_for_each_protocol_and_predictor(tmp_path: Path) -> None:
    paths = write_csv(RECORD, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "csv/class-IL/seq-digits/synergy/semantic.csv",
        "csv/task-IL/seq-digits/synergy/semantic.csv",
        "csv/class-IL/seq-digits/synergy/working.csv",
    ]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*paths, tmp_path / "csv" / ".lock"}


def test_columns_are_the_published_ones(tmp_path: Path) -> None:
    for path in write_csv(RECORD, tmp_path):
        assert path.read_bytes().decode() == f"{HEADER}\r\n{ROW}\r\n"


def test_each_file_holds_its_own_accuracies(tmp_path: Path) -> None:
    masked = replace(SEMANTIC, protocol="task-IL", matrix=((99.0, 50.0), (97.0, 95.0)), metrics={"forgetting": 2.0})
    class_il, task_il = write_csv(replace(RECORD, accuracies=(SEMANTIC, masked)), tmp_path)
    assert [(row["task2"], row["forgetting"]) for row in table(class_il)] == [("70.0", "30.0")]
    assert [(row["task2"], row["forgetting"]) for row in table(task_il)] == [("96.0", "2.0")]


def test_a_second_run_is_a_second_row(tmp_path: Path) -> None:
    write_csv(RECORD, tmp_path)
    path = write_csv(configured(RECORD, "training", seed=1), tmp_path)[0]
    second = ROW.replace(",1,0,False", ",1,1,False")
    assert path.read_bytes().decode() == f"{HEADER}\r\n{ROW}\r\n{second}\r\n"


def test_a_run_with_other_columns_gets_those_of_both(tmp_path: Path) -> None:
    first = with_matrix(RECORD, ((90.0, 0.0), (60.0, 80.0)))
    second = with_matrix(configured(RECORD, "method", alpha=0.5), tuple((t * 1.0,) * 11 for t in range(11)))
    del second.config["method"]["buffer_size"]
    the_one(first, tmp_path)
    rows = table(the_one(second, tmp_path))
    tasks = [f"task{number}" for number in range(1, 12)]
    transfers = ["forward_transfer", "backward_transfer", "forgetting"]
    assert list(rows[0]) == [*tasks, *transfers, *ARGUMENTS.split(","), "alpha"]
    assert [rows[0]["task2"], rows[0]["task11"], rows[0]["buffer_size"], rows[0]["alpha"]] == ["70.0", "", "200", ""]
    assert [rows[1]["task2"], rows[1]["task11"], rows[1]["buffer_size"], rows[1]["alpha"]] == ["1.0", "10.0", "", "0.5"]
    assert rows[0]["forgetting"] == "30.0"
    again = table(the_one(first, tmp_path))
    assert list(again[0]) == list(rows[0])
    assert again[:2] == rows
    assert again[2] == rows[0]


def test_a_stream_with_one_split_has_a_column_for_each_task_and_empty_transfers(tmp_path: Path) -> None:
    (row,) = table(the_one(with_matrix(RECORD, ((10.0,), (20.0,))), tmp_path))
    assert [row["task1"], row["task2"], row["forgetting"], row["backward_transfer"]] == ["10.0", "20.0", "", ""]


def test_options_of_one_name_are_told_apart(tmp_path: Path) -> None:
    record = configured(configured(RECORD, "scenario", seed=7), "method", forgetting=1, task1=2, nested={"depth": 3})
    (row, *_) = table(write_csv(record, tmp_path)[0])
    assert "seed" not in row
    assert [row["scenario.seed"], row["training.seed"]] == ["7", "0"]
    assert [row["forgetting"], row["method.forgetting"]] == ["30.0", "1"]
    assert [row["task1"], row["method.task1"]] == ["90.0", "2"]
    assert row["depth"] == "3"


def test_any_text_and_list_survives(tmp_path: Path) -> None:
    text = 'a,"b"\r\nc\rd\ne;ü'
    record = configured(RECORD, "output", notes=text, widths=["100", 50])
    write_csv(record, tmp_path)
    rows = table(write_csv(record, tmp_path)[0])
    assert [(row["notes"], row["widths"]) for row in rows] == [(text, '["100", 50]')] * 2


def test_a_file_that_went_through_a_spreadsheet_can_be_added_to(tmp_path: Path) -> None:
    path = write_csv(RECORD, tmp_path)[0]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    write_csv(RECORD, tmp_path)
    assert path.read_bytes().decode() == f"{HEADER}\r\n{ROW}\r\n{ROW}\r\n"


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_did_not_finish_has_no_row(tmp_path: Path, status: Status) -> None:
    assert write_csv(replace(RECORD, status=status), tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_partial_run_has_a_table_of_its_own(tmp_path: Path) -> None:
    path = write_csv(replace(RECORD, partial=True), tmp_path)[0]
    assert path == tmp_path / "csv" / "partial" / "class-IL" / "seq-digits" / "synergy" / "semantic.csv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first line must name"),
        (b"a,b\r\n1,2\r\n", "its first line must name"),
        (f"{HEADER},lr\r\n".encode(), "no column twice"),
        (f"{HEADER}\r\n{ROW}\r\n1,2\r\n".encode(), "row 2 has 2 cells for 14 columns"),
        (f"{HEADER}\r\n\xff".encode("latin-1"), "not a table of runs"),
        (f'{HEADER}\r\n"'.encode(), "not a table of runs"),
        (f'{HEADER}\r\n"90"{ROW}\r\n'.encode(), "not a table of runs"),
    ],
)
def test_another_file_in_its_place_is_left_alone(tmp_path: Path, content: bytes, message: str) -> None:
    path = write_csv(RECORD, tmp_path)[0]
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        write_csv(RECORD, tmp_path)
    assert str(caught.value).startswith(f"{path}: not a table of runs: ") and message in str(caught.value)
    assert path.read_bytes() == content


def test_a_failed_write_keeps_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(RECORD, tmp_path)[0]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="space"):
        patch.setattr(os, "fsync", full)
        write_csv(RECORD, tmp_path)
    assert path.read_bytes().decode() == f"{HEADER}\r\n{ROW}\r\n"


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    path = write_csv(RECORD, tmp_path)[0]
    left, other = path.with_name(f".{path.name}.{'0' * 16}.tmp"), path.with_name(f".mine.csv.{'0' * 16}.tmp")
    for each in (left, other):
        each.write_text("half", encoding="utf-8")
    write_csv(RECORD, tmp_path)
    assert not left.exists() and other.exists()


def test_a_configuration_names_scenario_and_method(tmp_path: Path) -> None:
    for section in ("scenario", "method"):
        config = {name: options for name, options in RECORD.config.items() if name != section}
        with pytest.raises(UsageError, match=rf"without {section}\.name"):
            write_csv(replace(RECORD, config=config), tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_runs_that_finish_at_the_same_time_all_get_their_rows(tmp_path: Path) -> None:
    runs = [configured(with_matrix(RECORD, ((50.0,),)), "training", seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        (path,) = {the_path for paths in pool.map(lambda run: write_csv(run, tmp_path), runs) for the_path in paths}
    assert sorted(int(row["seed"]) for row in table(path)) == list(range(12))
