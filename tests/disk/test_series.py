"""A series of checkpoints keeps the newest, removes nothing else, and writes through no link."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from synergy.disk import checkpoint, files
from synergy.disk.encoding import STATE
from synergy.disk.series import Series
from synergy.errors import UsageError
from tests.disk.test_checkpoint import names, posix


def test_a_series_keeps_the_newest(tmp_path: Path) -> None:
    series = Series(tmp_path / "checkpoint", keep=2)
    assert series.newest_first() == []
    for step, task in ((5, 0), (10, 0), (10, 0), (10, 1), (100_000_000, 1)):
        series.add({"step": step, "task": task}, step=step, task=task)
    assert [path.name for path in series.newest_first()] == ["step-100000000-task-0001", "step-00000010-task-0001"]
    assert checkpoint.read(series.newest_first()[0]) == {"step": 100_000_000, "task": 1}


def test_one_that_could_not_be_used_and_lies_ahead_does_not_push_out_a_good_one(tmp_path: Path) -> None:
    first = Series(tmp_path, keep=1)
    first.add({"a": 1}, step=90, task=0)
    (tmp_path / "step-00000090-task-0000" / STATE).write_text("damaged")
    resumed = Series(tmp_path, keep=1)
    resumed.add({"a": 2}, step=80, task=0)
    resumed.add({"a": 3}, step=85, task=0)
    assert names(tmp_path) == ["step-00000085-task-0000", "step-00000090-task-0000"]
    resumed.add({"a": 4}, step=90, task=0)
    assert names(tmp_path) == ["step-00000090-task-0000"]
    assert checkpoint.read(tmp_path / "step-00000090-task-0000") == {"a": 4}


def test_a_series_removes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    other = tmp_path / "step-00000001-task-0000"
    other.mkdir()
    (other / "mine").write_text("mine")
    series = Series(tmp_path, keep=1)
    series.add({}, step=2, task=0)
    series.clean()
    assert names(tmp_path) == ["mine", "step-00000001-task-0000", "step-00000002-task-0000"]
    assert names(other) == ["mine"]


def add_file(folder: Path) -> None:
    (folder / "mine").write_text("mine")


def add_link(folder: Path) -> None:
    shutil.move(folder / STATE, folder.parent.parent / "elsewhere.json")
    (folder / STATE).symlink_to(folder.parent.parent / "elsewhere.json")


def add_folder(folder: Path) -> None:
    (folder / STATE).unlink()
    (folder / STATE).mkdir()
    (folder / STATE / "mine").write_text("mine")


def make_link(folder: Path) -> None:
    shutil.move(folder, folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def everything(folder: Path) -> dict[Path, object]:
    """All below a folder: what links say, what files hold."""
    there = sorted(folder.rglob("*"))
    return {p: p.readlink() if p.is_symlink() else p.read_bytes() if p.is_file() else None for p in there}


OLD = "step-00000001-task-0000"


@posix
@pytest.mark.parametrize("change", [add_file, add_link, add_folder, make_link])
@pytest.mark.parametrize("name", [OLD, f".{OLD}.old", f".{OLD}.{'0' * 16}.new"])
def test_a_folder_with_anything_else_and_a_link_stay_as_they_are(
    tmp_path: Path, change: Callable[[Path], None], name: str
) -> None:
    series = Series(tmp_path / "checkpoint", keep=1)
    series.add({"a": 1}, step=1, task=0)
    place = series.folder / name
    (series.folder / OLD).rename(place)
    change(place)
    before = everything(tmp_path)
    series.clean()
    series.add({"a": 2}, step=2, task=0)
    series.add({"a": 3}, step=3, task=0)
    if name != OLD:
        checkpoint.write({"a": 4}, series.folder / OLD)
    after = everything(tmp_path)
    assert {path: after.get(path) for path in before} == before


@posix
def test_a_series_writes_through_no_link(tmp_path: Path) -> None:
    checkpoint.write({"a": 1}, tmp_path / "elsewhere")
    series = Series(tmp_path / "checkpoint", keep=1)
    series.folder.mkdir()
    (series.folder / OLD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="there is a link of that name; move it away"):
        series.add({"a": 2}, step=1, task=0)
    assert checkpoint.read(tmp_path / "elsewhere") == {"a": 1}


@posix
def test_a_folder_whose_files_are_none_is_not_replaced(tmp_path: Path) -> None:
    checkpoint.write({}, tmp_path / "it")
    add_folder(tmp_path / "it")
    before = everything(tmp_path)
    with pytest.raises(UsageError, match="there is something else of that name"):
        checkpoint.write({"a": 1}, tmp_path / "it")
    assert everything(tmp_path) == before


def test_what_only_looks_like_a_leftover_stays(tmp_path: Path) -> None:
    for name in (".mine.old", f".mine.{'0' * 16}.new"):
        (tmp_path / name).mkdir()
    Series(tmp_path, keep=1).clean()
    assert names(tmp_path) == [f".mine.{'0' * 16}.new", ".mine.old"]


def test_nothing_is_removed_before_the_new_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = Series(tmp_path, keep=1)
    series.add({"a": 1}, step=1, task=0)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(files, "write_synced", full)
        series.add({"a": 2}, step=2, task=0)
    assert names(tmp_path) == ["step-00000001-task-0000"]
    # What failed is tried again.
    series.add({"a": 2}, step=2, task=0)
    assert names(tmp_path) == ["step-00000002-task-0000"]
