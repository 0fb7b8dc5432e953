"""Tables of features and a class: what is read, and what is refused, with row and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from synergy.data import sources
from synergy.data.labelled import HeldOut
from synergy.data.sources import Source
from synergy.data.tables import TableReader
from synergy.data.view import FeatureView
from synergy.errors import UsageError

ROWS = [
    (0.5, 1, "oak"),
    (1.5, -2, "ash"),
    (2.5, 3, "oak"),
    (1e3, 4, "ash"),
    (4.5, 5, "oak"),
    (5.5, 6, "elm"),
    (6, 7, "elm"),
]
"""Width, height and tree."""


def csv(path: Path, rows: list[Any], heading: str = "width,height,tree", delimiter: str = ",") -> Path:
    lines = [heading, *(delimiter.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(file: Path, held_out: HeldOut | None = None, **options: Any) -> Source:
    return sources.read(TableReader(file, "trees", held_out or HeldOut(0.3, 0), **options), file.parent / "cache")


def refused(file: Path, *parts: str, **options: Any) -> None:
    with pytest.raises(UsageError) as caught:
        read(file, **options)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)
    assert not (file.parent / "cache").exists()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return csv(tmp_path / "trees.csv", ROWS)


def test_rows_become_features_and_labels(file: Path) -> None:
    source = read(file)
    assert source.info.classes == ("ash", "elm", "oak")
    assert source.info.origin == "CSV file, 30 % of each class held out by seed 0 as test set"
    assert source.train.raw.dtype == torch.float32 and source.train.raw.shape == (4, 2)
    rows = {(*raw, source.info.classes[label]) for s in (source.train, source.test) for raw, label in pairs(s)}
    assert rows == set(ROWS)
    assert torch.bincount(source.test.labels).tolist() == [1, 1, 1]


def pairs(split: Any) -> zip[tuple[list[float], int]]:
    return zip(split.raw.tolist(), split.labels.tolist(), strict=True)


def test_parquet_gives_the_same(file: Path) -> None:
    table = pa.table({name: [row[place] for row in ROWS] for place, name in enumerate(("width", "height", "tree"))})
    parquet.write_table(table, file.with_suffix(".parquet"))
    one, other = read(file), read(file.with_suffix(".parquet"))
    assert torch.equal(one.train.raw, other.train.raw) and one.info.classes == other.info.classes
    assert other.info.origin.startswith("Parquet file, ")
    assert one.info.checksum == other.info.checksum


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    heading = delimiter.join(("width", "height", "tree"))
    assert read(csv(tmp_path / "t.csv", ROWS, heading, delimiter)).train.raw.shape == (4, 2)


def test_the_column_of_the_classes(tmp_path: Path) -> None:
    rows = [(number % 2, number, number % 3) for number in range(12)]
    file = csv(tmp_path / "t.csv", rows, "label,value,kind")
    assert read(file).info.classes == ("0", "1")
    assert read(file, label="kind").info.classes == ("0", "1", "2")
    assert read(csv(tmp_path / "u.csv", rows, "a,b,c")).info.classes == ("0", "1", "2")


def test_domains(tmp_path: Path) -> None:
    rows = [(number % 2, number, ("b", "a")[number % 3 > 0], number % 4 // 2) for number in range(24)]
    source = read(csv(tmp_path / "t.csv", rows, "one,two,camera,label"), domains="camera")
    assert source.domains is not None and source.domains.names == ("a", "b")
    assert source.train.raw.shape[1] == 2
    cameras = [("b", "a")[int(raw[1]) % 3 > 0] for raw in source.train.raw]
    assert [source.domains.names[number] for number in source.domains.train] == cameras


def test_truth_values_and_whole_numbers_are_features(tmp_path: Path) -> None:
    rows = [("true", 2**40, number % 2) for number in range(6)]
    raw = read(csv(tmp_path / "t.csv", rows, "yes,large,label")).train.raw
    assert raw[0].tolist() == [1, 2**40]


def test_features_are_standardised_over_the_training_set() -> None:
    features = torch.from_numpy(np.random.default_rng(0).normal(5, 3, (50, 4)).astype(np.float32))
    features[:, 2] = 7
    plain = FeatureView.of(features).plain(features)
    assert plain.mean(0).abs().max() < 1e-5
    assert torch.allclose(plain.std(0, correction=0), torch.tensor([1.0, 1, 0, 1]), atol=1e-5)


class TestRefused:
    @pytest.mark.parametrize("cell", ["", "NaN", "NA", "null"])
    def test_a_missing_value(self, tmp_path: Path, cell: str) -> None:
        file = csv(tmp_path / "t.csv", [*ROWS[:3], (cell, 4, "ash"), *ROWS[4:]])
        refused(file, "row 4, column 'width' is missing; allowed: numbers")

    @pytest.mark.parametrize(("cell", "shown"), [("inf", "inf"), ("1e300", "1e+300"), ("-1e39", "-1e+39")])
    def test_a_number_beyond_float32(self, tmp_path: Path, cell: str, shown: str) -> None:
        refused(csv(tmp_path / "t.csv", [(cell, 4, "ash"), *ROWS]), f"row 1, column 'width' is {shown}; allowed")

    @pytest.mark.parametrize("cell", ["wide", "1;5", "2020-01-01"])
    def test_text_in_a_feature(self, tmp_path: Path, cell: str) -> None:
        refused(
            csv(tmp_path / "t.csv", [*ROWS, (cell, 4, "ash")]), f"row 8, column 'width' is '{cell}'; allowed: numbers"
        )

    def test_a_day_in_a_feature(self, tmp_path: Path) -> None:
        rows = [("2020-01-01", 4, "ash")] * 4
        refused(csv(tmp_path / "t.csv", rows), "row 1, column 'width' is '2020-01-01'; allowed: numbers")

    def test_a_missing_class(self, tmp_path: Path) -> None:
        refused(csv(tmp_path / "t.csv", [*ROWS, (1, 2, "")]), "row 8, column 'tree' is missing")

    def test_a_number_that_is_no_class(self, tmp_path: Path) -> None:
        rows = [(1, 2, 3.0), (1, 2, 3.25)]
        refused(csv(tmp_path / "t.csv", rows), "row 2, column 'tree' is 3.25; allowed: classes", "--label")

    def test_a_column_that_is_missing(self, file: Path) -> None:
        refused(
            file, "unknown column in trees.csv 'tre'; did you mean 'tree'? allowed: height, tree, width", label="tre"
        )
        refused(file, "unknown column in trees.csv 'camera'", domains="camera")

    def test_nothing_but_classes(self, tmp_path: Path) -> None:
        refused(csv(tmp_path / "t.csv", [("oak",), ("ash",)], "tree"), "allowed: features beside 'tree'")

    def test_one_class(self, tmp_path: Path) -> None:
        refused(csv(tmp_path / "t.csv", [(1, 2, "oak")] * 3), "has one class, 'oak'; allowed: at least two")

    def test_a_class_of_one_row(self, tmp_path: Path) -> None:
        refused(csv(tmp_path / "t.csv", [*ROWS, (1, 2, "yew")]), "class 'yew' has no test samples")

    def test_no_heading(self, tmp_path: Path) -> None:
        refused(csv(tmp_path / "t.csv", [(1, 2, 0), (3, 4, 1)], "5,6,1"), "its first line holds numbers, 5, 6, 1")

    def test_no_rows(self, tmp_path: Path) -> None:
        refused(csv(tmp_path / "t.csv", []), "holds no rows below its heading")

    def test_two_columns_of_one_name(self, tmp_path: Path) -> None:
        refused(csv(tmp_path / "t.csv", ROWS, "width,width,tree"), "two columns are called 'width'")

    def test_a_row_that_is_too_short(self, tmp_path: Path) -> None:
        refused(csv(tmp_path / "t.csv", [*ROWS, (1, 2)]), "cannot be read as a table: CSV parse error: Row #9")

    @pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
    def test_what_is_no_table(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"\xff\xfe\x00\xff")
        refused(tmp_path / name, "cannot be read as a table" if name == "t.parquet" else name)
