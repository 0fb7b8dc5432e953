from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
from PIL import ExifTags, Image
from pyarrow import parquet as pq

from synergy.data import cache, hub, parquet
from synergy.data.published import Published
from synergy.data.sources import Source, SourceInfo, hold_out, load
from synergy.errors import UsageError
from synergy.types import Split
from tests.data.parquet_files import Pixels, pictures, png, write_parquet, write_split

REAL_DATA = os.environ.get("SYNERGY_DATA", "")
N_TRAIN, N_TEST = 7, 4


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has a cache of its own, no data folder, and a hub that fails the test."""
    monkeypatch.delenv("SYNERGY_DATA", raising=False)
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "load_dataset", refuse("the hub was asked"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def refuse(what: str) -> Callable[..., NoReturn]:
    def called(*_: object, **__: object) -> NoReturn:
        pytest.fail(what)

    return called


def write_mnist(data: Path) -> tuple[Pixels, Pixels]:
    """A small MNIST: the images of its training and test set, labels 0, 1, 2, …"""
    train, test = pictures(N_TRAIN, 28, 28), pictures(N_TEST, 28, 28, seed=1)
    write_split(data / "mnist" / "train-00000-of-00001.parquet", train, list(range(N_TRAIN)))
    write_split(data / "mnist" / "test-00000-of-00001.parquet", test, list(range(N_TEST)))
    return train, test


def channels_first(images: Pixels) -> torch.Tensor:
    """`[N, H, W]` or `[N, H, W, C]` as `[N, C, H, W]`."""
    tensor = torch.from_numpy(images)
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)


def equal(one: Source, other: Source) -> bool:
    pairs = ((one.train, other.train), (one.test, other.test))
    same = all(torch.equal(a.raw, b.raw) and torch.equal(a.labels, b.labels) for a, b in pairs)
    return same and one.info == other.info


def facts(source: Source) -> SourceInfo:
    """What is said of a source, without its checksum and the names of its classes."""
    return replace(source.info, classes=(), checksum="")


def error_of(name: str, data_dir: Path | None) -> str:
    with pytest.raises(UsageError) as caught:
        load(name, data_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message


@contextmanager
def verbose_datasets(bars_off: bool) -> Iterator[None]:
    """Within, `datasets` logs errors and shows bars or not; at the end both settings must be the same."""
    before = (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity())
    switch = {True: datasets.disable_progress_bars, False: datasets.enable_progress_bars}
    switch[bars_off]()
    datasets.logging.set_verbosity(datasets.logging.ERROR)
    try:
        yield
        assert datasets.are_progress_bars_disabled() is bars_off
        assert datasets.logging.get_verbosity() == datasets.logging.ERROR
    finally:
        switch[before[0]]()
        datasets.logging.set_verbosity(before[1])


class TestFolder:
    def test_round_trip_of_grey_images(self, data: Path) -> None:
        train, test = write_mnist(data)
        source = load("mnist", data)
        assert source.train.raw.dtype == torch.uint8
        assert source.train.labels.dtype == torch.int64
        assert torch.equal(source.train.raw, channels_first(train))
        assert torch.equal(source.test.raw, channels_first(test))
        assert source.train.labels.tolist() == list(range(N_TRAIN))
        assert source.test.labels.tolist() == list(range(N_TEST))
        assert source.train.classes == source.test.classes == tuple(range(10))
        assert facts(source) == SourceInfo("mnist", "folder", N_TRAIN, N_TEST, complete=False)

    @pytest.mark.parametrize(
        ("name", "size", "n_classes", "image", "label", "test_split"),
        [
            ("cifar10", 32, 10, "img", "label", "test"),
            ("cifar100", 32, 100, "img", "fine_label", "test"),
            ("tiny-imagenet", 64, 200, "image", "label", "valid"),
        ],
    )
    def test_round_trip_of_colour_images(
        self, data: Path, name: str, size: int, n_classes: int, image: str, label: str, test_split: str
    ) -> None:
        train, test = pictures(5, size, size, 3), pictures(3, size, size, 3, seed=1)
        write_split(data / name / "train-0.parquet", train, [0, 1, 2, 3, n_classes - 1], image, label)
        write_split(data / name / f"{test_split}-0.parquet", test, [2, 1, 0], image, label)
        source = load(name, data)
        assert torch.equal(source.train.raw, channels_first(train))
        assert torch.equal(source.test.raw, channels_first(test))
        assert source.train.labels.tolist() == [0, 1, 2, 3, n_classes - 1]
        assert source.test.classes == tuple(range(n_classes))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_images_are_turned_by_their_exif_orientation(self, data: Path, orientation: int) -> None:
        _, test = write_mnist(data)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        encoded = png(test[0], exif)
        write_parquet(data / "mnist" / "train-00000-of-00001.parquet", [encoded], [0])
        turned = datasets.Image().decode_example({"bytes": encoded, "path": None})
        assert torch.equal(load("mnist", data).train.raw[0, 0], torch.from_numpy(np.array(turned)))

    def test_broken_exif_data_are_an_image_that_cannot_be_read(self, data: Path) -> None:
        _, test = write_mnist(data)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        write_parquet(data / "mnist" / "train-00000-of-00001.parquet", [png(test[0], exif.tobytes()[:12])], [0])
        assert "row 0 of train-00000-of-00001.parquet is not a readable image" in error_of("mnist", data)

    def test_files_are_joined_in_name_order(self, data: Path) -> None:
        _, test = write_mnist(data)
        later = pictures(2, 28, 28, seed=2)
        write_split(data / "mnist" / "test-00001-of-00001.parquet", later, [8, 9])
        source = load("mnist", data)
        assert torch.equal(source.test.raw, channels_first(np.concatenate([test, later])))
        assert source.test.labels.tolist() == [*range(N_TEST), 8, 9]

    def test_more_rows_than_are_read_at_a_time(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parquet, "_ROWS", 3)
        train, _ = write_mnist(data)
        source = load("mnist", data)
        assert torch.equal(source.train.raw, channels_first(train))
        assert source.train.labels.tolist() == list(range(N_TRAIN))

    def test_grey_images_among_colour_ones_are_converted(self, data: Path) -> None:
        colour, grey = pictures(1, 64, 64, 3), pictures(1, 64, 64)
        folder = data / "tiny-imagenet"
        write_parquet(folder / "train-0.parquet", [png(grey[0]), png(colour[0])], [0, 1])
        write_parquet(folder / "valid-0.parquet", [png(grey[0])], [0])
        source = load("tiny-imagenet", data)
        assert torch.equal(source.train.raw[0], channels_first(grey)[0].expand(3, -1, -1))
        assert torch.equal(source.train.raw[1], channels_first(colour)[0])

    def test_what_the_file_says_about_its_columns_does_not_matter(self, data: Path) -> None:
        """The hub's own files carry feature types, class names and further columns, which are ignored."""
        train, _ = write_mnist(data)
        path = data / "mnist" / "train-00000-of-00001.parquet"
        table = pq.read_table(path).append_column("coarse", pa.array(["x"] * N_TRAIN))
        pq.write_table(table.replace_schema_metadata({"huggingface": "{not JSON"}), path)
        assert torch.equal(load("mnist", data).train.raw, channels_first(train))

    def test_the_sets_own_test_split_comes_first(self, data: Path) -> None:
        write_mnist(data)
        write_split(data / "mnist" / "valid-0.parquet", pictures(1, 28, 28), [0])
        assert len(load("mnist", data).test) == N_TEST

    def test_valid_serves_where_there_is_no_test(self, data: Path) -> None:
        write_mnist(data)
        (data / "mnist" / "test-00000-of-00001.parquet").rename(data / "mnist" / "valid-0.parquet")
        assert len(load("mnist", data).test) == N_TEST

    def test_environment_names_the_folder(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_mnist(data)
        monkeypatch.setenv("SYNERGY_DATA", str(data))
        assert load("mnist").info.origin == "folder"

    def test_argument_comes_before_environment(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_mnist(data)
        monkeypatch.setenv("SYNERGY_DATA", str(data / "nowhere"))
        assert load("mnist", data).info.origin == "folder"

    def test_folder_name_with_pattern_characters(self, tmp_path: Path) -> None:
        write_mnist(tmp_path / "my [data] *?")
        assert len(load("mnist", tmp_path / "my [data] *?").train) == N_TRAIN

    def test_no_network(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_mnist(data)
        attempts: list[object] = []

        def attempted(*address: object, **_: object) -> NoReturn:
            attempts.append(address)
            raise OSError("no network in this test")

        monkeypatch.setattr(socket, "getaddrinfo", attempted)
        monkeypatch.setattr(socket.socket, "connect", attempted)
        load("mnist", data)
        assert attempts == []

    @pytest.mark.parametrize("bars_off", [True, False])
    def test_datasets_is_silent_and_left_as_it_was(
        self, data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], bars_off: bool
    ) -> None:
        write_mnist(data)
        with verbose_datasets(bars_off):
            load("mnist", data)
        assert capfd.readouterr() == ("", "")

    def test_datasets_need_not_be_installed(self, data: Path) -> None:
        write_mnist(data)
        program = (
            "import sys; from pathlib import Path; from synergy.data.sources import load;"
            "sys.modules['datasets'] = None;"
            f"print(len(load('mnist', Path({str(data)!r})).train), len(load('digits').test))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == (f"{N_TRAIN} 360\n", "")

    def test_nothing_is_left_outside_the_cache(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_mnist(data)
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hugging face"))
        load("mnist", data)
        assert list(scratch.iterdir()) == []
        assert not (tmp_path / "hugging face").exists()


class TestCache:
    @pytest.fixture
    def decoded(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """A list that grows by one name for each data set that is decoded from the files in `data`."""
        write_mnist(data)
        names: list[str] = []
        from_files = parquet.from_files

        def counted(published: Published, files: parquet.Files) -> cache.Decoded:
            names.append(published.name)
            return from_files(published, files)

        monkeypatch.setattr(parquet, "from_files", counted)
        return names

    @staticmethod
    def folder(tmp_path: Path) -> Path:
        (folder,) = (tmp_path / "cache").iterdir()
        return folder

    def test_second_load_reads_the_cache(self, data: Path, decoded: list[str]) -> None:
        first = load("mnist", data)
        second = load("mnist", data)
        assert decoded == ["mnist"]
        assert equal(first, second)
        assert second.train.classes == tuple(range(10))

    def test_cached_images_can_be_written_without_changing_the_cache(self, data: Path, decoded: list[str]) -> None:
        first = load("mnist", data)
        load("mnist", data).train.raw.fill_(0)
        assert equal(first, load("mnist", data))
        assert decoded == ["mnist"]

    def test_datasets_is_not_imported_for_cached_images(self, data: Path, tmp_path: Path) -> None:
        write_mnist(data)
        load("mnist", data)
        program = (
            "import sys; from pathlib import Path; from synergy.data.sources import load;"
            f"load('mnist', Path({str(data)!r}));"
            "sys.exit(', '.join({'datasets', 'pyarrow', 'sklearn'} & set(sys.modules)) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_the_checksum_is_that_of_the_arrays(self, data: Path, tmp_path: Path) -> None:
        write_mnist(data)
        first, second = (load("mnist", data).info.checksum for _ in range(2))
        (tmp_path / "a file").write_text("")
        with pytest.warns(UserWarning, match="is not cached"):
            uncached = load("mnist", data, tmp_path / "a file")
        assert first == second == uncached.info.checksum
        assert len(first) == len("sha256 ") + 64
        write_split(data / "mnist" / "test-00000-of-00001.parquet", pictures(N_TEST, 28, 28, seed=9), [0, 1, 2, 3])
        assert load("mnist", data).info.checksum != first
        cifar = np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1, np.int64)
        named = cache.Decoded(*cifar, *cifar, classes=("frog", "ship"))
        assert cache.checksum(named) != cache.checksum(named._replace(classes=("ship", "frog")))

    def test_a_cache_from_before_images_were_turned_is_rebuilt(self, data: Path, tmp_path: Path) -> None:
        """Version 1 had the same folder; what it holds may lie on its side."""
        write_mnist(data)
        load("mnist", data)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cache, "_FORMAT_VERSION", 1)
            load("mnist", data)  # written by the version before
        assert json.loads((self.folder(tmp_path) / "manifest.json").read_text())["format_version"] == 1
        load("mnist", data)
        assert json.loads((self.folder(tmp_path) / "manifest.json").read_text())["format_version"] == 2

    def test_layout(self, data: Path, tmp_path: Path) -> None:
        train, _ = write_mnist(data)
        info = load("mnist", data).info
        folder = self.folder(tmp_path)
        files = ["manifest.json", "test-labels.npy", "test.npy", "train-labels.npy", "train.npy"]
        assert sorted(path.name for path in folder.iterdir()) == files
        manifest = json.loads((folder / "manifest.json").read_text())
        assert info.checksum == f"sha256 {cache._hash_of([[], [], manifest['sha256']])}"
        assert manifest["shapes"]["train.npy"] == [N_TRAIN, 1, 28, 28]
        assert folder.name == f"mnist-{manifest['fingerprint'][:16]}"
        assert np.array_equal(np.load(folder / "train.npy")[:, 0], train)
        assert str(tmp_path) not in (folder / "manifest.json").read_text()

    @pytest.mark.parametrize("change", ["content", "time", "new file"])
    def test_changed_source_is_decoded_again(self, data: Path, decoded: list[str], change: str) -> None:
        load("mnist", data)
        path = data / "mnist" / "test-00000-of-00001.parquet"
        if change == "content":
            write_split(path, pictures(1, 28, 28), [0])
        elif change == "time":
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        else:
            write_split(path.with_name("test-00001-of-00001.parquet"), pictures(1, 28, 28), [0])
        count = {"content": 1, "time": N_TEST, "new file": N_TEST + 1}[change]
        assert len(load("mnist", data).test) == count
        assert len(decoded) == 2

    @staticmethod
    def flip(path: Path, position: int) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    @staticmethod
    def edit(folder: Path, *keys: str, value: object) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        inner = manifest
        for key in keys[:-1]:
            inner = inner[key]
        assert inner[keys[-1]] != value
        inner[keys[-1]] = value
        (folder / "manifest.json").write_text(json.dumps(manifest))

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda f: TestCache.flip(f / "train.npy", -1), id="flipped bit in an image"),
            pytest.param(lambda f: TestCache.flip(f / "test.npy", 20), id="flipped bit in a header"),
            pytest.param(lambda f: TestCache.flip(f / "test-labels.npy", -8), id="flipped bit in a label"),
            pytest.param(lambda f: os.truncate(f / "train.npy", 1000), id="truncated images"),
            pytest.param(lambda f: os.truncate(f / "train-labels.npy", 0), id="empty labels"),
            pytest.param(lambda f: (f / "train.npy").unlink(), id="no images"),
            pytest.param(lambda f: (f / "test-labels.npy").unlink(), id="no labels"),
            pytest.param(lambda f: (f / "manifest.json").unlink(), id="no manifest"),
            pytest.param(lambda f: os.truncate(f / "manifest.json", 40), id="truncated manifest"),
            pytest.param(lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"), id="manifest is not text"),
            pytest.param(lambda f: (f / "manifest.json").write_text("[]"), id="manifest is a list"),
            pytest.param(lambda f: (f / "manifest.json").write_text("{}"), id="manifest is empty"),
            pytest.param(lambda f: TestCache.edit(f, "format_version", value=0), id="other version"),
            pytest.param(lambda f: TestCache.edit(f, "fingerprint", value="0"), id="other fingerprint"),
            pytest.param(lambda f: TestCache.edit(f, "sha256", "train.npy", value="0"), id="other checksum"),
            pytest.param(lambda f: TestCache.edit(f, "shapes", "train.npy", value=[1]), id="other shape"),
            pytest.param(lambda f: TestCache.edit(f, "classes", value=["0"]), id="other names"),
        ],
    )
    def test_damage_is_repaired_in_silence(
        self,
        data: Path,
        tmp_path: Path,
        decoded: list[str],
        caplog: pytest.LogCaptureFixture,
        damage: Callable[[Path], None],
    ) -> None:
        caplog.set_level(logging.INFO)
        first = load("mnist", data)
        folder = self.folder(tmp_path)
        damage(folder)
        assert equal(first, load("mnist", data))
        assert len(decoded) == 2
        assert equal(first, load("mnist", data))
        assert len(decoded) == 2
        assert self.folder(tmp_path) == folder  # and nothing beside it
        ((level, message),) = {(level, message) for _, level, message in caplog.record_tuples}
        assert level == logging.INFO
        assert message.startswith(f"the cache {folder} is damaged and will be rebuilt (")

    def test_pickled_objects_are_never_loaded(self, data: Path, tmp_path: Path, decoded: list[str]) -> None:
        """Refused even with the right checksum."""
        first = load("mnist", data)
        folder = self.folder(tmp_path)
        np.save(folder / "train.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
        self.edit(folder, "sha256", "train.npy", value=cache._sha256(folder / "train.npy"))
        assert equal(first, load("mnist", data))
        assert len(decoded) == 2

    @pytest.mark.parametrize("damaged", [False, True])
    def test_two_at_once(self, data: Path, tmp_path: Path, decoded: list[str], damaged: bool) -> None:
        if damaged:
            load("mnist", data)
            self.flip(self.folder(tmp_path) / "train.npy", -1)
            decoded.clear()
        both = threading.Barrier(2)
        from_files = parquet.from_files

        def together(published: Published, files: parquet.Files) -> cache.Decoded:
            result = from_files(published, files)
            both.wait(timeout=30)
            return result

        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
            patch.setattr(parquet, "from_files", together)
            first, second = pool.map(lambda _: load("mnist", data), range(2))
        assert equal(first, second)
        assert equal(first, load("mnist", data))
        assert len(decoded) == 2
        self.folder(tmp_path)

    def test_good_cache_of_another_process_stays(self, data: Path, tmp_path: Path) -> None:
        write_mnist(data)
        load("mnist", data)
        folder = self.folder(tmp_path)
        before = (folder / "train.npy").stat().st_ino
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cache, "read", once(None, cache.read))  # as if it came while this process decoded
            load("mnist", data)
        assert (folder / "train.npy").stat().st_ino == before

    def test_folder_that_cannot_be_made(self, data: Path, tmp_path: Path) -> None:
        train, _ = write_mnist(data)
        (tmp_path / "cache").write_text("a file, not a folder")
        for _ in range(2):
            with pytest.warns(
                UserWarning, match=r"^decoded mnist is not cached: .*cache cannot be written \(.*\)"
            ) as w:
                source = load("mnist", data)
            assert len(w) == 1
            assert "\n" not in str(w[0].message)
            assert torch.equal(source.train.raw, channels_first(train))

    def test_full_disk(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> NoReturn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        train, _ = write_mnist(data)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match=r"No space left on device"):
            source = load("mnist", data)
        assert torch.equal(source.train.raw, channels_first(train))
        assert list((tmp_path / "cache").iterdir()) == []

    def test_what_a_killed_writer_left_is_swept(self, data: Path, tmp_path: Path) -> None:
        write_mnist(data)
        first = load("mnist", data)
        folder = self.folder(tmp_path)
        left = folder.with_name(f".{folder.name}.{'0' * 16}.new")
        left.mkdir()
        (left / "train.npy").write_bytes(b"half")
        self.flip(folder / "train.npy", -1)
        assert equal(first, load("mnist", data))
        assert self.folder(tmp_path) == folder  # and nothing beside it

    def test_a_folder_with_something_else_is_left_alone(self, data: Path, tmp_path: Path) -> None:
        write_mnist(data)
        first = load("mnist", data)
        folder = self.folder(tmp_path)
        (folder / "mine").write_text("mine", encoding="utf-8")
        self.flip(folder / "train.npy", -1)
        with pytest.warns(UserWarning, match="decoded mnist is not cached: .*something else of that name"):
            assert equal(first, load("mnist", data))
        assert (folder / "mine").read_text(encoding="utf-8") == "mine"

    def test_argument_comes_before_environment(self, data: Path, tmp_path: Path) -> None:
        write_mnist(data)
        load("mnist", data, tmp_path / "elsewhere")
        assert (tmp_path / "elsewhere").exists()
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize(
        ("environment", "folder"),
        [
            ({"SYNERGY_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
            ({"XDG_CACHE_HOME": "/b"}, "/b/synergy"),
            ({"XDG_CACHE_HOME": "not/absolute"}, "/home/me/.cache/synergy"),
            ({}, "/home/me/.cache/synergy"),
        ],
    )
    def test_default_folder(self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], folder: str) -> None:
        for variable in ("SYNERGY_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HOME", "/home/me")
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        assert cache.default_parent() == Path(folder)


class Bomb:
    """An object whose unpickling leaves a trace."""

    def __reduce__(self) -> tuple[Callable[[str], NoReturn], tuple[str]]:
        return pytest.fail, ("unpickled",)


def once(first: Any, then: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns `first` at its first call and calls `then` afterwards."""
    answers = [first]

    def answer(*args: Any, **options: Any) -> Any:
        return answers.pop() if answers else then(*args, **options)

    return answer


class TestErrors:
    def test_unknown_name(self) -> None:
        message = error_of("minst", None)
        assert message == (
            "unknown data set 'minst'; did you mean 'mnist'? allowed: cifar10, cifar100, digits, mnist, tiny-imagenet"
        )

    def test_folder_that_does_not_exist(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert error_of("mnist", data).startswith(f"--data_dir: {data} is not a folder; allowed: ")
        monkeypatch.setenv("SYNERGY_DATA", str(data))
        assert error_of("mnist", None).startswith(f"SYNERGY_DATA: {data} is not a folder; allowed: ")

    @pytest.mark.parametrize(
        ("split", "missing"), [("train", "test-*.parquet or valid-*.parquet"), ("test", "train-*.parquet")]
    )
    def test_folder_with_half_of_the_files(self, data: Path, split: str, missing: str) -> None:
        write_split(data / "mnist" / f"{split}-0.parquet", pictures(1, 28, 28), [0])
        message = error_of("mnist", data)
        assert message == f"{data / 'mnist'} is not complete: it has no {missing}; fetch the rest of ylecun/mnist"

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda path: os.truncate(path, path.stat().st_size // 2), id="truncated"),
            pytest.param(lambda path: os.truncate(path, 0), id="empty"),
            pytest.param(lambda path: path.write_text("<html>not found</html>"), id="another format"),
            pytest.param(lambda path: TestErrors.blank(path, 4, 200), id="first page"),
            pytest.param(lambda path: TestErrors.blank(path, 8, 9), id="size of the first page"),
            pytest.param(lambda path: TestErrors.blank(path, -60, -10), id="footer"),
            pytest.param(lambda path: (path.unlink(), path.mkdir()), id="a folder"),
        ],
    )
    def test_damaged_file(self, data: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object]) -> None:
        write_mnist(data)
        damage(data / "mnist" / "test-00000-of-00001.parquet")
        with verbose_datasets(bars_off=False):
            message = error_of("mnist", data)
        assert caplog.record_tuples == []
        assert message.startswith("mnist: test-00000-of-00001.parquet is damaged or not a Parquet file (")
        assert message.endswith("); fetch it again")
        assert "An error occurred while generating the dataset" not in message

    @staticmethod
    def blank(path: Path, start: int, stop: int) -> None:
        content = bytearray(path.read_bytes())
        content[start:stop] = bytes(len(content[start:stop]))
        path.write_bytes(content)

    @pytest.mark.parametrize(
        ("columns", "found"),
        [
            ({"picture": [{"bytes": b""}], "label": [0]}, "picture (struct<bytes: binary>), label (int64)"),
            ({"image": [b""], "label": [0]}, "image (binary), label (int64)"),
            ({"image": [{"path": ""}], "label": [0]}, "image (struct<path: string>), label (int64)"),
            ({"image": [{"bytes": b""}], "label": ["0"]}, "image (struct<bytes: binary>), label (string)"),
            ({"image": [{"bytes": b""}]}, "image (struct<bytes: binary>)"),
        ],
    )
    def test_other_columns(self, data: Path, columns: dict[str, list[Any]], found: str) -> None:
        write_mnist(data)
        pq.write_table(pa.table(columns), data / "mnist" / "train-00000-of-00001.parquet")
        assert error_of("mnist", data) == (
            f"mnist: train-00000-of-00001.parquet has the columns {found}; "
            "expected image (struct with bytes) and label (integer)"
        )

    @pytest.mark.parametrize(
        "encoded",
        [
            pytest.param(b"not an image", id="no image format"),
            pytest.param(png(pictures(1, 28, 28)[0])[:-100], id="truncated"),
            pytest.param(png(pictures(1, 28, 28)[0]).replace(b"IDAT", b"\xb1,\xe4:"), id="broken chunk"),
            pytest.param(png(pictures(1, 28, 28)[0])[:8] + b"\0\0\0\1IHDR" + bytes(100), id="broken header"),
            pytest.param(
                png(pictures(1, 28, 28)[0])[:35] + b"\0\xfd" + png(pictures(1, 28, 28)[0])[37:], id="chunk size"
            ),
            pytest.param(b"", id="no bytes"),
        ],
    )
    def test_image_that_cannot_be_read(self, data: Path, monkeypatch: pytest.MonkeyPatch, encoded: bytes) -> None:
        monkeypatch.setattr(parquet, "_ROWS", 2)
        write_mnist(data)
        images: list[bytes | None] = [*map(png, pictures(3, 28, 28)), encoded]
        write_parquet(data / "mnist" / "train-00001-of-00001.parquet", images, [0, 1, 2, 3])
        assert error_of("mnist", data) == "mnist: row 3 of train-00001-of-00001.parquet is not a readable image"

    def test_image_that_is_not_there(self, data: Path) -> None:
        write_mnist(data)
        write_parquet(data / "mnist" / "test-00000-of-00001.parquet", [png(pictures(1, 28, 28)[0]), None], [0, 1])
        assert error_of("mnist", data) == "mnist: row 1 of test-00000-of-00001.parquet has no image"

    @pytest.mark.parametrize(
        ("name", "image", "shape", "found", "expected"),
        [
            ("mnist", "image", (32, 32), "32x32, L", "28x28, L"),
            ("mnist", "image", (28, 27), "27x28, L", "28x28, L"),
            ("mnist", "image", (28, 28, 3), "28x28, RGB", "28x28, L"),
            ("cifar10", "img", (32, 32, 4), "32x32, RGBA", "32x32, RGB or L"),
            ("cifar10", "img", (28, 28), "28x28, L", "32x32, RGB or L"),
        ],
    )
    def test_image_of_another_size_or_kind(
        self, data: Path, name: str, image: str, shape: tuple[int, ...], found: str, expected: str
    ) -> None:
        for split in ("train", "test"):
            write_split(data / name / f"{split}-0.parquet", pictures(1, *shape), [0], image)
        assert error_of(name, data) == f"{name}: row 0 of train-0.parquet is an image of {found}; expected {expected}"

    @pytest.mark.parametrize("label", [10, -1, None])
    def test_label_outside_the_range(self, data: Path, label: int | None) -> None:
        write_mnist(data)
        write_split(data / "mnist" / "test-00000-of-00001.parquet", pictures(2, 28, 28), [9, label])
        message = error_of("mnist", data)
        assert message == f"mnist: row 1 of test-00000-of-00001.parquet has the label {label}; expected 0 to 9"

    def test_no_samples(self, data: Path) -> None:
        write_mnist(data)
        path = data / "mnist" / "test-00000-of-00001.parquet"
        pq.write_table(pq.read_table(path).slice(0, 0), path)
        assert error_of("mnist", data) == "mnist: test-00000-of-00001.parquet holds no samples"

    def test_a_failure_leaves_no_cache(self, data: Path, tmp_path: Path) -> None:
        write_mnist(data)
        write_split(data / "mnist" / "test-00000-of-00001.parquet", pictures(1, 28, 28), [10])
        error_of("mnist", data)
        assert not (tmp_path / "cache").exists()


class TestHub:
    """A stand-in for `datasets.load_dataset` gives, or raises, what the real one does."""

    @staticmethod
    def give(monkeypatch: pytest.MonkeyPatch, splits: datasets.DatasetDict | Exception) -> list[tuple[str, str]]:
        """Let the hub answer with `splits`; returns the list of ids that it is asked for."""
        asked: list[tuple[str, str]] = []

        def load_dataset(path: str, *, cache_dir: str) -> datasets.DatasetDict:
            assert list(Path(cache_dir).iterdir()) == []  # a folder of its own, nothing stale in it
            asked.append((path, cache_dir))
            if isinstance(splits, Exception):
                raise splits
            return splits

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.setattr(hub, "require_hub", lambda: None)
        return asked

    @staticmethod
    def split(images: Pixels, labels: list[int], names: int = 10) -> datasets.Dataset:
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(name) for name in range(names)])}
        )
        return datasets.Dataset.from_dict(
            {"image": [Image.fromarray(pixels) for pixels in images], "label": labels}, features=features
        )

    def test_hub_is_asked_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        train, test = pictures(3, 28, 28), pictures(2, 28, 28, seed=1)
        splits = datasets.DatasetDict(train=self.split(train, [3, 1, 2]), test=self.split(test, [4, 5]))
        asked = self.give(monkeypatch, splits)
        source = load("mnist")
        assert torch.equal(source.train.raw, channels_first(train))
        assert torch.equal(source.test.raw, channels_first(test))
        assert source.train.labels.tolist() == [3, 1, 2]
        assert facts(source) == SourceInfo("mnist", "hub ylecun/mnist", 3, 2, complete=False)
        assert equal(source, load("mnist"))
        ((hub_id, scratch),) = asked
        assert hub_id == "ylecun/mnist"
        assert not Path(scratch).exists()

    def test_validation_split_of_tiny_imagenet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        part = self.split(pictures(2, 64, 64, 3), [0, 199], 200)
        asked = self.give(monkeypatch, datasets.DatasetDict(train=part, valid=part))
        assert load("tiny-imagenet").test.labels.tolist() == [0, 199]
        assert asked[0][0] == "zh-plus/tiny-imagenet"

    def test_folder_without_this_set(self, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
        write_mnist(data)
        part = self.split(pictures(1, 64, 64, 3), [0], 200)
        self.give(monkeypatch, datasets.DatasetDict(train=part, valid=part))
        assert load("tiny-imagenet", data).info.origin == "hub zh-plus/tiny-imagenet"

    def test_hub_and_folder_are_cached_apart(self, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
        part = self.split(pictures(1, 28, 28), [0])
        self.give(monkeypatch, datasets.DatasetDict(train=part, test=part))
        assert len(load("mnist").train) == 1
        write_mnist(data)
        assert len(load("mnist", data).train) == N_TRAIN
        assert len(load("mnist").train) == 1

    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Raise the error of the real function without a network."""
        reason = "Couldn't reach 'ylecun/mnist' on the Hub (LocalEntryNotFoundError)"
        self.give(monkeypatch, ConnectionError(reason))

    def test_no_folder_and_no_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offline(monkeypatch)
        message = error_of("mnist", None)
        for part in ("'mnist'", "--data_dir", "SYNERGY_DATA", "ylecun/mnist (ConnectionError: ", "rot-digits"):
            assert part in message

    def test_datasets_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "datasets", None)
        assert "ylecun/mnist (the package 'datasets' is missing: pip install 'synergy-cl[hub]')" in error_of(
            "mnist", None
        )

    def test_empty_folder_and_no_hub(self, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
        self.offline(monkeypatch)
        data.mkdir()
        message = error_of("mnist", data)
        for part in ("'mnist'", f"no Parquet files in {data / 'mnist'}, ", "ylecun/mnist (", "rot-digits"):
            assert part in message

    def test_nobody_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The real question, to an address where nobody listens: the answer comes at once."""
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        assert "ylecun/mnist (ConnectError: " in error_of("mnist", None)

    def test_all_failures_of_the_hub_are_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        failures = [
            (
                datasets.exceptions.DatasetNotFoundError("it does not exist\nor is gated"),
                "it does not exist or is gated",
            ),
            (datasets.exceptions.DatasetGenerationError("x" * 5_000), "x" * 200),
            (HTTPError("timed out"), "timed out"),
            (RuntimeError("Data processing error: CAS service error"), "CAS service error"),
            (ValueError("Couldn't find cache for mnist"), "Couldn't find cache"),
            (pa.ArrowInvalid("Parquet magic bytes not found"), "Parquet magic bytes"),
        ]
        for failure, reason in failures:
            self.give(monkeypatch, failure)
            message = error_of("mnist", None)
            assert f"ylecun/mnist ({type(failure).__name__}: " in message
            assert reason in message
            assert len(message) < 500

    def test_what_was_silenced_is_as_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offline(monkeypatch)
        with verbose_datasets(bars_off=False):
            error_of("mnist", None)

    def test_other_splits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        part = self.split(pictures(1, 28, 28), [0])
        self.give(monkeypatch, datasets.DatasetDict(train=part, validation=part))
        assert error_of("mnist", None) == ("ylecun/mnist has the splits train, validation; expected train and test")

    def test_other_columns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        part = self.split(pictures(1, 28, 28), [0])
        self.give(monkeypatch, datasets.DatasetDict(train=part, test=part.rename_column("label", "digit")))
        message = error_of("mnist", None)
        assert message.startswith("mnist: ylecun/mnist [test] has the columns image (struct<")
        assert message.endswith("digit (int64); expected image (struct with bytes) and label (integer)")

    def test_image_of_another_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        good, bad = self.split(pictures(1, 28, 28), [0]), self.split(pictures(1, 8, 8), [0])
        self.give(monkeypatch, datasets.DatasetDict(train=good, test=bad))
        assert error_of("mnist", None) == (
            "mnist: row 0 of ylecun/mnist [test] is an image of 8x8, L; expected 28x28, L"
        )


class TestDigits:
    def test_counts(self) -> None:
        source = load("digits")
        assert facts(source) == SourceInfo("digits", "bundled with scikit-learn", 1437, 360, complete=True)
        assert source.train.raw.shape == (1437, 1, 8, 8)
        assert source.test.raw.shape == (360, 1, 8, 8)
        assert source.train.raw.dtype == torch.uint8
        assert source.train.labels.dtype == torch.int64
        assert source.train.classes == tuple(range(10))

    def test_images(self) -> None:
        from sklearn.datasets import load_digits

        bunch, source = load_digits(), load("digits")
        assert source.test.raw[1, 0].tolist() == [[round(v * 255 / 16) for v in row] for row in bunch.images[5]]
        assert source.train.raw[4, 0].tolist() == [[round(v * 255 / 16) for v in row] for row in bunch.images[6]]
        assert source.test.labels.tolist() == bunch.target[::5].tolist()
        assert source.train.labels[:5].tolist() == bunch.target[[1, 2, 3, 4, 6]].tolist()
        assert (int(source.train.raw.min()), int(source.train.raw.max())) == (0, 255)

    def test_need_neither_folder_nor_cache(self, data: Path, tmp_path: Path) -> None:
        load("digits", data / "nowhere")
        assert not (tmp_path / "cache").exists()


class TestHoldOut:
    @pytest.fixture
    def whole(self) -> Source:
        """A source whose labels are the samples' positions."""
        count = 203
        images, labels = torch.from_numpy(pictures(count, 1, 8, 8)), torch.arange(count)
        classes = tuple(range(count))
        test = Split(images[:10], labels[:10], classes)
        return Source(SourceInfo("digits", "folder", count, 10, complete=True), Split(images, labels, classes), test)

    def test_disjoint_complete_and_in_order(self, whole: Source) -> None:
        parts = hold_out(whole, seed=3)
        train, test = parts.train.labels.tolist(), parts.test.labels.tolist()
        assert sorted(train + test) == list(range(203))
        assert len(test) == 20
        assert train == sorted(train)
        assert test == sorted(test)

    def test_images_go_with_their_labels(self, whole: Source) -> None:
        parts = hold_out(whole, seed=3)
        for part in (parts.train, parts.test):
            assert torch.equal(part.raw, whole.train.raw[part.labels])
            assert part.classes == whole.train.classes

    def test_info(self, whole: Source) -> None:
        assert facts(hold_out(whole, seed=3)) == SourceInfo("digits", "folder", 183, 20, complete=False)

    def test_depends_on_the_seed_alone(self, whole: Source) -> None:
        chosen = hold_out(whole, seed=3).test.labels
        torch.manual_seed(0)
        assert torch.equal(hold_out(whole, seed=3).test.labels, chosen)
        assert not torch.equal(hold_out(whole, seed=4).test.labels, chosen)

    def test_is_spread_over_the_set(self, whole: Source) -> None:
        drawn = torch.cat([hold_out(whole, seed).test.labels for seed in range(50)])
        assert len(drawn.unique()) > 190

    def test_fraction(self, whole: Source) -> None:
        assert len(hold_out(whole, 0, fraction=0.5).test) == 102
        assert len(hold_out(whole, 0, fraction=1 / 203).test) == 1

    @pytest.mark.parametrize("fraction", [0.0, 0.001, 1.0, 1.5, -0.1])
    def test_impossible_fraction(self, whole: Source, fraction: float) -> None:
        with pytest.raises(UsageError, match=rf"fraction: given {fraction}, .* of 203 samples; allowed: 1 to 202"):
            hold_out(whole, 0, fraction)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for all tests on real data, which take seconds to decode; removed afterwards, since it has 400 MB."""
    folder = tmp_path_factory.mktemp("decoded")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA, reason="SYNERGY_DATA is not set")
class TestRealData:
    @pytest.mark.slow
    @pytest.mark.parametrize("again", [False, True], ids=["decoded", "cached"])
    @pytest.mark.parametrize(
        ("name", "counts", "means"),
        [
            ("mnist", (60_000, 10_000), (33.318,)),
            ("cifar10", (50_000, 10_000), (125.307, 122.950, 113.865)),
            ("cifar100", (50_000, 10_000), (129.304, 124.070, 112.434)),
        ],
    )
    def test_whole_sets(
        self, cache_dir: Path, name: str, counts: tuple[int, int], means: tuple[float, ...], again: bool
    ) -> None:
        source = load(name, Path(REAL_DATA), cache_dir)
        assert facts(source) == SourceInfo(name, "folder", *counts, complete=True)
        total = source.train.raw.sum((0, 2, 3), dtype=torch.int64)
        pixels = source.train.raw[:, 0].numel()
        assert (total / pixels).tolist() == pytest.approx(means, abs=0.001)
        histograms = [torch.bincount(split.labels).tolist() for split in (source.train, source.test)]
        assert histograms == HISTOGRAMS[name]

    def test_part_of_tiny_imagenet(self, cache_dir: Path) -> None:
        source = load("tiny-imagenet", Path(REAL_DATA), cache_dir)
        assert facts(source) == SourceInfo("tiny-imagenet", "folder", 4_000, 1_000, complete=False)
        assert source.train.raw.shape == (4_000, 3, 64, 64)
        assert torch.bincount(source.train.labels).tolist() == [20] * 200
        assert torch.bincount(source.test.labels).tolist() == [5] * 200


HISTOGRAMS = {
    "mnist": [
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ],
    "cifar10": [[5_000] * 10, [1_000] * 10],
    "cifar100": [[500] * 100, [100] * 100],
}
