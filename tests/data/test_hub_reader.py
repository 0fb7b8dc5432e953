"""Any image classification data set that `datasets` can load, here from folders: Parquet files and `imagefolder`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from synergy.data import hub, sources
from synergy.data.hub import HubReader
from synergy.data.labelled import HeldOut
from synergy.data.sources import Source
from synergy.errors import UsageError
from tests.data import own_images
from tests.data.parquet_files import pictures, png, write_parquet, write_split

pytestmark = pytest.mark.slow


def read(folder: Path, **options: Any) -> Source:
    reader = HubReader(str(folder), "birds", True, HeldOut(0.2, 0), **options)
    return sources.read(reader, folder.parent / "cache")


def refused(folder: Path, *parts: str, **options: Any) -> None:
    own_images.refused(partial(read, folder, **options), folder.parent / "cache", *parts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "birds"


def test_parquet_files(folder: Path) -> None:
    images = pictures(20, 5, 5, 3)
    write_split(folder / "train-0.parquet", images[:15], [number % 3 for number in range(15)])
    write_split(folder / "test-0.parquet", images[15:], [0, 1, 2, 0, 1])
    source = read(folder)
    assert torch.equal(source.train.raw, torch.from_numpy(images[:15]).permute(0, 3, 1, 2))
    assert source.test.labels.tolist() == [0, 1, 2, 0, 1] and source.info.classes == ("0", "1", "2")
    assert source.info.origin.startswith("folder of datasets, its test split or else 20 %")


def test_parquet_files_without_a_test_split(folder: Path) -> None:
    images = pictures(15, 5, 5)
    write_split(folder / "train-0.parquet", images, [("hawk", "owl", "jay")[number % 3] for number in range(15)])
    source = read(folder)
    assert source.info.classes == ("hawk", "jay", "owl")
    assert torch.bincount(source.test.labels).tolist() == [1, 1, 1] and len(source.train) == 12
    found = {raw.numpy().tobytes() for split in (source.train, source.test) for raw in split.raw}
    assert found == {image.tobytes() for image in images}


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "validation")])
def test_imagefolder(folder: Path, parts: tuple[str, ...]) -> None:
    for seed, part in enumerate(parts):
        own_images.write(folder / part, {"hawk": 4 - seed, "owl": 3 - seed})
    source = read(folder)
    assert source.info.classes == ("hawk", "owl")
    assert torch.bincount(source.train.labels).tolist() == [4, 3]
    assert torch.bincount(source.test.labels).tolist() == [3, 2]


def test_the_cache_needs_no_datasets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_images.write(folder / "train", {"hawk": 4, "owl": 4})
    first = read(folder)
    monkeypatch.setattr(hub, "require_datasets", lambda: pytest.fail("it was read again"))
    assert read(folder).info == first.info


def test_sizes_are_brought_to_one(folder: Path) -> None:
    own_images.write(folder / "train", {"hawk": 4}, 9, 6)
    own_images.write(folder / "train", {"owl": 4}, 5, 5)
    assert read(folder, size=4).train.raw.shape[1:] == (1, 4, 4)
    with pytest.raises(UsageError, match="give --image_size"):
        read(folder)


class TestRefused:
    def test_no_data(self, folder: Path) -> None:
        folder.mkdir()
        refused(folder, "cannot be loaded", "allowed: the name of a data set of the hub, OWNER/NAME, or a folder")

    def test_a_hub_that_does_not_answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def silent() -> None:
            raise ConnectionError("no answer")

        monkeypatch.setattr(hub, "require_hub", silent)
        with pytest.raises(UsageError, match=r"split:hf:me/birds: cannot be loaded \(ConnectionError: no answer\)"):
            sources.read(HubReader("me/birds", "birds", False, HeldOut(0.2, 0)), tmp_path)

    def test_datasets_is_missing(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)
        refused(folder, "the package 'datasets' is missing: pip install 'synergy-cl[hub]'")

    def test_a_column_that_is_missing(self, folder: Path) -> None:
        write_split(folder / "train-0.parquet", pictures(6, 5, 5), [0, 1] * 3)
        refused(folder, "unknown column in", "'labl'; did you mean 'label'?", label="labl")
        refused(folder, "unknown column in", "'camera'", domains="camera")

    def test_an_image_that_is_missing(self, folder: Path) -> None:
        images = [png(pictures(1, 5, 5)[0])] * 5
        write_parquet(folder / "train-0.parquet", [*images, None], [0, 1] * 3)
        refused(folder, "row 5 of train has no image")

    def test_an_image_that_is_unreadable(self, folder: Path) -> None:
        images = [png(pictures(1, 5, 5)[0])] * 5
        write_parquet(folder / "train-0.parquet", [*images, b"none"], [0, 1] * 3)
        refused(folder, "row 5 of train is not a readable image")

    @pytest.mark.parametrize("label", [None, -1])
    def test_a_label_that_is_missing(self, folder: Path, label: int | None) -> None:
        write_split(folder / "train-0.parquet", pictures(6, 5, 5), [0, 1, 0, 1, 0, label])
        refused(folder, "row 5 has no 'label'; allowed: one in every row")

    def test_no_images(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "train.csv").write_text("a,label\n1,0\n2,1\n")
        refused(folder, "has no column of images among a, label; allowed: one")
