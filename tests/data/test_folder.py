"""Images in a folder for each class: what is read, what is refused, and when the cache is read instead."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synergy.data import decoding, sources
from synergy.data.folder import FolderReader
from synergy.data.labelled import HeldOut
from synergy.data.sources import Source
from synergy.errors import UsageError
from tests.data import own_images
from tests.data.own_images import write
from tests.data.parquet_files import Pixels, pictures, png

COUNTS = {"cat": 10, "dog": 5, "eel": 3}


FIFTH = HeldOut(0.2, 0)


def read(folder: Path, held_out: HeldOut = FIFTH, **options: Any) -> Source:
    return sources.read(FolderReader(folder, "animals", held_out, **options), folder.parent / "cache")


def refused(folder: Path, *parts: str, **options: Any) -> None:
    own_images.refused(partial(read, folder, **options), folder.parent / "cache", *parts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "animals"


def as_images(source: Source) -> set[tuple[int, bytes]]:
    """Each sample as its label and its pixels, `[H, W, C]`."""
    parts = [(s.labels.tolist(), s.raw.permute(0, 2, 3, 1).numpy()) for s in (source.train, source.test)]
    return {(label, image.tobytes()) for labels, raw in parts for label, image in zip(labels, raw, strict=True)}


def expected(written: dict[str, Pixels], classes: list[str]) -> set[tuple[int, bytes]]:
    return {(classes.index(path.split("/")[0]), pixels.tobytes()) for path, pixels in written.items()}


class TestWhatIsRead:
    def test_every_image_once_with_its_label(self, folder: Path) -> None:
        written = write(folder, COUNTS)
        source = read(folder)
        assert as_images(source) == expected(written, ["cat", "dog", "eel"])
        assert len(source.train) + len(source.test) == 18
        assert source.info.classes == ("cat", "dog", "eel")
        assert torch.bincount(source.test.labels).tolist() == [2, 1, 1]
        assert source.info.origin == "folder, 20 % of each class held out by seed 0 as test set"
        assert source.info.complete and source.info.checksum.startswith("sha256 ")

    def test_the_share_and_its_seed(self, folder: Path) -> None:
        write(folder, COUNTS)
        half = read(folder, HeldOut(0.5, 0))
        assert torch.bincount(half.test.labels).tolist() == [5, 2, 2]
        assert as_images(half) == as_images(read(folder, HeldOut(0.5, 0)))
        again, other = (read(folder, HeldOut(0.5, seed)).test for seed in (0, 1))
        assert torch.equal(again.raw, half.test.raw) and not torch.equal(other.raw, half.test.raw)

    @pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
    def test_a_test_set_of_its_own(self, folder: Path, name: str) -> None:
        write(folder / "train", COUNTS)
        tested = write(folder / name, {"eel": 2, "cat": 1, "dog": 1})
        source = read(folder)
        assert source.info.origin == "folder" and len(source.train) == 18
        assert as_images(source) >= expected(tested, ["cat", "dog", "eel"])
        assert source.test.labels.tolist() == [0, 1, 2, 2]

    def test_a_class_may_be_called_train(self, folder: Path) -> None:
        write(folder, {"train": 4, "plane": 4})
        assert read(folder).info.classes == ("plane", "train")

    def test_a_second_test_set_is_told(self, folder: Path) -> None:
        for part in ("train", "test", "val"):
            write(folder / part, COUNTS)
        with pytest.warns(UserWarning, match="val/ is left out"):
            assert len(read(folder).test) == 18

    def test_folders_below_a_class_and_files_that_are_no_images(self, folder: Path) -> None:
        write(folder, COUNTS)
        write(folder / "cat", {"indoors": 2})
        (folder / "cat" / "notes.txt").write_text("no image")
        (folder / "dog" / ".hidden.png").write_text("nothing")
        with pytest.warns(UserWarning, match=r"1 file is no image and left out, such as cat/notes\.txt"):
            source = read(folder)
        assert len(source.train) + len(source.test) == 20 and len(source.info.classes) == 3

    def test_numbers_are_ordered_by_size(self, folder: Path) -> None:
        write(folder, {"10": 2, "9": 2, "100": 2})
        assert read(folder).info.classes == ("9", "10", "100")

    def test_domains_are_folders_above_the_classes(self, folder: Path) -> None:
        for domain in ("photo", "sketch"):
            write(folder / domain, COUNTS)
        source = read(folder, domains=True)
        assert source.domains is not None and source.domains.names == ("photo", "sketch")
        assert torch.bincount(source.domains.train).tolist() == torch.bincount(source.domains.train).tolist()[::-1]
        assert len(source.domains.test) == len(source.test) == 8


class TestImages:
    def test_all_grey_is_one_channel(self, folder: Path) -> None:
        own_images.write(folder, COUNTS, 6, 5)
        assert read(folder).train.raw.shape == (14, 1, 6, 5)

    def test_one_in_colour_makes_all_three_channels(self, folder: Path) -> None:
        grey = write(folder, COUNTS, 6, 6)
        Image.fromarray(pictures(1, 6, 6, 3)[0]).save(folder / "eel" / "colour.png")
        source = read(folder)
        assert source.train.raw.shape[1] == 3
        images = {image for _, image in as_images(source)}
        assert images > {np.repeat(pixels[..., np.newaxis], 3, 2).tobytes() for pixels in grey.values()}

    def test_sizes_are_brought_to_one(self, folder: Path) -> None:
        own_images.write(folder, {"cat": 4, "dog": 4}, 6, 6)
        own_images.write(folder, {"eel": 4}, 12, 9)
        source = read(folder, size=4)
        assert source.train.raw.shape[1:] == (1, 4, 4)

    def test_scaled_to_cover_and_cut_to_the_middle(self, folder: Path) -> None:
        pixels = np.zeros((4, 12), np.uint8)
        pixels[:, 4:8] = 200
        for label in ("one", "two"):
            for number in range(2):
                (folder / label).mkdir(parents=True, exist_ok=True)
                (folder / label / f"{number}.png").write_bytes(png(pixels))
        assert (read(folder, size=2).train.raw > 170).all()  # scaling blends in a little of the sides

    def test_every_kind_of_eight_bits(self, folder: Path) -> None:
        write(folder, {"cat": 4, "dog": 4})
        image = Image.fromarray(pictures(1, 6, 6, 3)[0])
        for mode, ending in (("1", "png"), ("L", "bmp"), ("LA", "png"), ("P", "gif"), ("RGBA", "png"), ("CMYK", "jpg")):
            image.convert(mode).save(folder / "cat" / f"{mode}.{ending}")
        transparent = image.convert("P")
        transparent.info["transparency"] = bytes(range(256))
        transparent.save(folder / "cat" / "transparent.png")
        assert read(folder).train.raw.shape[1:] == (3, 6, 6)

    def test_turned_by_its_orientation(self, folder: Path) -> None:
        write(folder, {"cat": 4, "dog": 4}, 6, 4)
        exif = Image.Exif()
        exif[0x0112] = 6
        (folder / "cat" / "turned.png").write_bytes(png(pictures(1, 4, 6)[0], exif))
        assert read(folder).train.raw.shape[1:] == (1, 6, 4)

    def test_a_large_jpeg_is_scaled_by_its_decoder(self, folder: Path) -> None:
        write(folder, {"cat": 4, "dog": 4}, 64, 48, 3, ending=".jpeg")
        assert read(folder, size=8).train.raw.shape == (6, 3, 8, 8)


class TestProcesses:
    def test_give_what_one_process_gives(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(folder, {"cat": 30, "dog": 30})
        own_images.write(folder, {"eel": 31}, 6, 6)
        alone = read(folder, HeldOut(0.2, 0))
        monkeypatch.setattr(decoding, "FEW", 10)
        monkeypatch.setattr(decoding, "TOGETHER", 7)
        together = sources.read(FolderReader(folder, "animals", HeldOut(0.2, 0)), folder.parent / "other cache")
        assert together.info == alone.info
        assert torch.equal(together.train.raw, alone.train.raw) and torch.equal(together.test.raw, alone.test.raw)

    @pytest.mark.parametrize("content", [b"", b"no image"])
    def test_tell_what_one_process_tells(self, folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        write(folder, {"cat": 30, "dog": 30})
        (folder / "dog" / "broken.png").write_bytes(content)
        monkeypatch.setattr(decoding, "FEW", 10)
        monkeypatch.setattr(decoding, "TOGETHER", 7)
        refused(folder, "dog/broken.png is not a readable image")

    def test_take_bytes_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = pictures(20, 5, 5)
        monkeypatch.setattr(decoding, "FEW", 1)
        monkeypatch.setattr(decoding, "TOGETHER", 3)
        found = decoding.decoded((decoding.Encoded(str(i), png(each)) for i, each in enumerate(pixels)), 20)
        assert np.array_equal(found[:, 0], pixels)

    def test_one_that_dies_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "FEW", 1)
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(UsageError, match="a process that decodes images ended with code 1 at one"):
            decoding.decoded([decoding.Encoded("one", b""), decoding.Encoded("two", b"")], 2)


class TestRefused:
    def test_one_class(self, folder: Path) -> None:
        write(folder, {"cat": 4})
        refused(folder, "has one class, 'cat'; allowed: at least two")

    def test_an_empty_class(self, folder: Path) -> None:
        write(folder, COUNTS)
        (folder / "fox").mkdir()
        refused(folder, f"{folder}/fox: the class has no images")

    def test_a_class_of_one_image(self, folder: Path) -> None:
        write(folder, {"cat": 4, "dog": 1})
        refused(folder, "class 'dog' has no test samples; allowed: two samples of a class or more")

    @pytest.mark.parametrize("without", ["train", "test"])
    def test_a_class_that_one_part_lacks(self, folder: Path, without: str) -> None:
        for part in ("train", "test"):
            write(folder / part, {"cat": 2, "dog": 2} | ({} if part == without else {"eel": 2}))
        refused(folder, "class 'eel' has no", "training" if without == "train" else "test")

    def test_an_unreadable_image(self, folder: Path) -> None:
        write(folder, COUNTS)
        whole = (folder / "dog" / "001.png").read_bytes()
        (folder / "dog" / "001.png").write_bytes(whole[:40])
        refused(folder, "dog/001.png is not a readable image")

    @pytest.mark.parametrize("ending", [".gif", ".png", ".webp", ".tif"])
    def test_an_animated_image(self, folder: Path, ending: str) -> None:
        write(folder, COUNTS)
        first, *rest = (Image.fromarray(pixels) for pixels in pictures(3, 6, 6))
        first.save(folder / "cat" / f"moving{ending}", save_all=True, append_images=rest)
        refused(folder, f"cat/moving{ending} is animated; allowed: images of one frame")

    def test_more_than_eight_bits(self, folder: Path) -> None:
        write(folder, COUNTS)
        Image.fromarray(np.full((6, 6), 40_000, np.uint16)).save(folder / "cat" / "deep.png")
        refused(folder, "cat/deep.png has the mode I;16; allowed: 8 bits")

    def test_sizes_that_differ(self, folder: Path) -> None:
        write(folder, COUNTS)
        (folder / "eel" / "wide.png").write_bytes(png(pictures(1, 4, 9, 3)[0]))
        refused(folder, "images of several sizes: eel/wide.png is 9x4, cat/", "is 6x6; give --image_size")

    def test_sizes_that_differ_between_jobs(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(folder, {"cat": 4})
        own_images.write(folder, {"dog": 4}, 4, 9, 3)
        monkeypatch.setattr(decoding, "TOGETHER", 1)
        refused(folder, "images of several sizes: dog/", "is 9x4, cat/", "is 6x6; give --image_size")

    def test_images_without_folders(self, tmp_path: Path) -> None:
        write(tmp_path, {"animals": 3})
        refused(tmp_path / "animals", "holds images itself, such as 000.png; allowed: a folder for each class")

    def test_an_empty_folder(self, folder: Path) -> None:
        folder.mkdir()
        refused(folder, "holds no folders; allowed: a folder for each class")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_folder_that_cannot_be_read(self, folder: Path) -> None:
        write(folder, COUNTS)
        (folder / "dog").chmod(0)
        refused(folder, f"{folder}/dog: cannot be read: Permission denied")


class TestCache:
    @pytest.fixture
    def decoded(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many images were decoded, each time that some were."""
        write(folder, COUNTS)
        calls: list[int] = []

        def counted(encoded: Any, total: int, size: int | None = None) -> Pixels:
            calls.append(total)
            return decoding.decoded(encoded, total, size)

        monkeypatch.setattr("synergy.data.folder.decoded", counted)
        return calls

    def test_is_read_while_nothing_changes(self, folder: Path, decoded: list[int]) -> None:
        one, other = read(folder), read(folder)
        assert decoded == [18]
        assert one.info == other.info and torch.equal(one.train.raw, other.train.raw)

    def test_is_made_again_when_a_file_changes(self, folder: Path, decoded: list[int]) -> None:
        before = read(folder)
        path = folder / "cat" / "000.png"
        path.write_bytes(png(pictures(1, 6, 6, 3, seed=9)[0]))
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns + 1))
        after = read(folder)
        assert decoded == [18, 18]
        assert before.info.checksum != after.info.checksum

    def test_is_another_for_other_options(self, folder: Path, decoded: list[int]) -> None:
        read(folder)
        read(folder, HeldOut(0.4, 0))
        read(folder, HeldOut(0.2, 1))
        assert read(folder, size=3).train.raw.shape[-1] == 3
        assert decoded == [18] * 4
