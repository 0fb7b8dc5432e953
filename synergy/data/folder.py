"""`split:FOLDER`: images in one folder for each class."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from synergy.data import labelled
from synergy.data.cache import Decoded
from synergy.data.decoding import Encoded, decoded
from synergy.data.labelled import HeldOut
from synergy.errors import UsageError

ENDINGS = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
"""Of the names of images. Other files are left out, with a warning."""
TRAIN = "train"
TESTS = ("test", "val", "valid", "validation")
"""Names of the folder with the test set, in the order of preference."""


class _Image(NamedTuple):
    """A file with an image.

    Attributes:
        path: from the folder, with `/` between its parts.
        label, domain: the names of its class and its domain; the domain is empty where there are none.
        size, time: change when the file does.
    """

    path: str
    label: str
    domain: str
    is_test: bool
    size: int
    time: int


class _Listing(NamedTuple):
    """What a folder holds.

    Attributes:
        images: in the order of their paths.
        others: paths of files that are no images.
        unused: the name of a second test set.
    """

    images: list[_Image]
    others: list[str]
    unused: str | None


@dataclass(frozen=True)
class FolderReader:
    """Reads a folder of one folder for each class, or of `train/` and `test/` with such folders.

    Attributes:
        folder: absolute.
        name: of the data set.
        held_out: the test set where there is no `test/`.
        size: pixels of both sides, or None (see `images.single`).
        domains: whether a folder for each domain is above those of the classes.

    Examples:
        >>> FolderReader(Path("/data/animals"), "animals", HeldOut(0.2, seed=0), size=32).labels is None
        True
    """

    folder: Path
    name: str
    held_out: HeldOut
    size: int | None = None
    domains: bool = False

    @property
    def origin(self) -> str:
        return "folder" if self.has_test else f"folder, {self.held_out}"

    @property
    def labels(self) -> None:
        return None

    @property
    def has_test(self) -> bool:
        """Whether the folder brings a test set."""
        return any(image.is_test for image in self.listing.images)

    @cached_property
    def listing(self) -> _Listing:
        """All files. Raises UsageError if the folder cannot be read or a class has no images."""
        try:
            return _listing(self.folder, self.domains)
        except OSError as error:
            raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error

    def facts(self) -> object:
        return [str(self.folder), self.size, self.domains, asdict(self.held_out), self.listing.images]

    def complete(self, counts: tuple[int, int]) -> bool:
        return True

    def read(self) -> Decoded:
        self._tell_unused()
        images = self.listing.images
        classes = labelled.ordered(image.label for image in images)
        domains = labelled.ordered(image.domain for image in images) if self.domains else ()
        labels = labelled.numbered([image.label for image in images], classes)
        of_domains = labelled.numbered([image.domain for image in images], domains) if domains else None
        groups = labels if of_domains is None else labels + len(classes) * of_domains
        test = np.array([image.is_test for image in images]) if self.has_test else self.held_out.chosen(groups)
        labelled.check_classes(str(self.folder), classes, labels[~test], labels[test])
        order = np.concatenate([np.flatnonzero(~test), np.flatnonzero(test)])
        paths = (images[index].path for index in order)
        pixels = decoded((Encoded(path, f"{self.folder}/{path}") for path in paths), len(order), self.size)
        n = int(np.count_nonzero(~test))
        parts = (None, None) if of_domains is None else (of_domains[~test], of_domains[test])
        return Decoded(pixels[:n], labels[~test], pixels[n:], labels[test], classes, domains, *parts)

    def _tell_unused(self) -> None:
        _, others, unused = self.listing
        if unused is not None:
            warnings.warn(f"{self.folder}: {unused}/ is left out, as there is another test set", stacklevel=3)
        if others:
            count = "1 file is no image and" if len(others) == 1 else f"{len(others)} files are no images and"
            warnings.warn(f"{self.folder}: {count} left out, such as {others[0]}", stacklevel=3)


def _listing(folder: Path, has_domains: bool) -> _Listing:
    below = _folders(folder)
    tests = [name for name in TESTS if name in below]
    brings_parts = TRAIN in below and not set(below) - {TRAIN, *TESTS}
    found = _Listing([], [], tests[1] if brings_parts and tests[1:] else None)
    for part in (TRAIN, *tests[:1]) if brings_parts else ("",):
        for domain in _folders(folder / part) if has_domains else ("",):
            for label in _folders(folder / part / domain):
                before = len(found.images)
                _add(
                    found,
                    folder,
                    _Image("/".join(filter(None, (part, domain, label))), label, domain, part in TESTS, 0, 0),
                )
                if len(found.images) == before:
                    raise UsageError(
                        f"{folder / part / domain / label}: the class has no images "
                        f"({', '.join(sorted(ENDINGS))}); add some, or remove the folder"
                    )
    return found


def _folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, which must have some."""
    with os.scandir(folder) as entries:
        names = {entry.name: entry.is_dir() for entry in entries if not entry.name.startswith(".")}
    if found := sorted(name for name, is_folder in names.items() if is_folder):
        return found
    images = [name for name in names if _is_image(name)]
    holds = f"holds images itself, such as {min(images)}" if images else "holds no folders"
    raise UsageError(f"{folder}: {holds}; allowed: a folder for each class, with its images")


def _add(found: _Listing, root: Path, of: _Image) -> None:
    """Add all files at or below the path of an image."""
    with os.scandir(root / of.path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{of.path}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                _add(found, root, of._replace(path=path))
            elif _is_image(entry.name):
                stat = entry.stat()
                found.images.append(of._replace(path=path, size=stat.st_size, time=stat.st_mtime_ns))
            else:
                found.others.append(path)


def _is_image(name: str) -> bool:
    return f".{name.rpartition('.')[2].lower()}" in ENDINGS
