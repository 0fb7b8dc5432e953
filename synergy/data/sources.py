"""One way in for all data: the digits bundled with scikit-learn, published data sets, and data of the user's own.

All give raw samples and labels in the order of the source, and the facts that a run record keeps.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synergy.data import bundled, cache, hub, parquet
from synergy.data.cache import Decoded
from synergy.data.hub import HubError
from synergy.data.parquet import Files
from synergy.data.published import PUBLISHED, Published
from synergy.errors import UsageError, unknown
from synergy.randomness import generator
from synergy.types import Split


@dataclass(frozen=True)
class FeaturesInfo:
    """The frozen backbone whose features stand in the place of samples.

    Attributes:
        backbone: its name, such as "hf:dino", or that of a file of features.
        weights: "sha256 …" of its weights and settings, or of that file.
        size: features of a sample.

    Examples:
        >>> FeaturesInfo("hf:dino", "sha256 2cf2", 384).size
        384
    """

    backbone: str
    weights: str
    size: int


@dataclass(frozen=True)
class SourceInfo:
    """The data of a run, as its record describes them. The counts tell a run on a part from one on the whole.

    Attributes:
        name: of the data set.
        origin: such as "folder", "hub <id>" or "bundled with scikit-learn".
        train_samples, test_samples: numbers of samples in this source.
        complete: whether these are the counts of the published data set. Data of one's own are complete.
        classes: the names of the labels 0, 1, …; empty where they have none.
        checksum: of all samples, labels and names; empty if nobody took it. For features that of the samples and of the
            weights: the last bits of a feature may differ between machines.
        features: whose features the samples are; None for the samples themselves.

    Examples:
        >>> SourceInfo("flowers", "folder", 1200, 300, True, ("rose", "tulip")).as_mapping()["classes"]
        ['rose', 'tulip']
    """

    name: str
    origin: str
    train_samples: int
    test_samples: int
    complete: bool
    classes: tuple[str, ...] = ()
    checksum: str = ""
    features: FeaturesInfo | None = None

    def as_mapping(self) -> dict[str, Any]:
        """All facts, in types that JSON has; without `features` where the samples are none."""
        facts = {**asdict(self), "classes": list(self.classes)}
        return {name: value for name, value in facts.items() if value is not None}


@dataclass(frozen=True)
class Domains:
    """Which domain each sample is from, such as the camera that took it.

    Attributes:
        names: of the domains 0, 1, …
        train, test: the domain of each sample, `int64 [N]`, on the host.
    """

    names: tuple[str, ...]
    train: Tensor
    test: Tensor


@dataclass(frozen=True)
class Source:
    """A data set: raw images `uint8 [N, C, H, W]` or features `float32 [N, F]`, and `int64 [N]` labels, on the host."""

    info: SourceInfo
    train: Split
    test: Split
    domains: Domains | None = None


class Reader(Protocol):
    """Reads one data set. What it reads is cached until its facts change."""

    @property
    def name(self) -> str:
        """Of the data set."""

    @property
    def origin(self) -> str:
        """Where the data come from, for the record."""

    @property
    def labels(self) -> int | None:
        """Number of labels; None for as many as there are names of classes."""

    def facts(self) -> object:
        """What changes when the source does, in JSON's types. Every start asks for it: it opens no file."""

    def read(self) -> Decoded:
        """Decode everything. Raises UsageError if the data are missing, damaged or not what they must be."""

    def complete(self, counts: tuple[int, int]) -> bool:
        """Whether this is all there is, from the numbers of training and test samples."""


def read(reader: Reader, cache_dir: Path | None = None) -> Source:
    """A data set: from the cache of decoded data, or else from its reader.

    Args:
        reader: knows where the data are.
        cache_dir: folder of all caches; by default `SYNERGY_CACHE`, or `synergy` in the user's cache folder.

    Raises:
        UsageError: as `Reader.facts` and `Reader.read` do.
    """
    parent = cache_dir.expanduser() if cache_dir is not None else cache.default_parent()
    fingerprint = hashlib.sha256(json.dumps([reader.origin, reader.facts()]).encode()).hexdigest()
    place = cache.Place(parent, reader.name, fingerprint)
    if (cached := cache.read(place)) is not None:
        decoded, checksum = cached
    else:
        decoded = reader.read()
        checksum = cache.write(place, decoded)
    counts = (len(decoded.train), len(decoded.test))
    complete = reader.complete(counts)
    info = SourceInfo(reader.name, reader.origin, *counts, complete, decoded.classes, checksum)
    return _source(info, decoded, len(decoded.classes) if reader.labels is None else reader.labels)


def stamps(paths: Iterable[Path]) -> list[Sequence[object]]:
    """Name, size and time of each file: they change when its content does, and no file is opened."""
    return [[path.name, (stat := path.stat()).st_size, stat.st_mtime_ns] for path in paths]


NAMES = (*PUBLISHED, "digits")
"""The data sets that `load` knows."""


def load(name: str, data_dir: Path | None = None, cache_dir: Path | None = None) -> Source:
    """Load a data set: from the cache of decoded images, or else from its source.

    Args:
        name: one of `NAMES`.
        data_dir: folder with `<name>/train-*.parquet` and `<name>/test-*.parquet` or `valid-*.parquet`; by default
            `SYNERGY_DATA`. A data set that it lacks comes from the hub.
        cache_dir: folder for decoded images; by default `SYNERGY_CACHE`, or `synergy` in the user's cache folder.

    Raises:
        UsageError: the name is unknown, the data are missing, or they differ from the published layout.

    Examples:
        >>> source = load("digits")
        >>> source.info.origin, tuple(source.train.raw.shape)
        ('bundled with scikit-learn', (1437, 1, 8, 8))
    """
    if name == "digits":
        decoded = bundled.digits()
        counts = (bundled.DIGITS_TRAIN_SAMPLES, bundled.DIGITS_TEST_SAMPLES)
        info = SourceInfo(name, "bundled with scikit-learn", *counts, True, checksum=cache.checksum(decoded))
        return _source(info, decoded, bundled.DIGITS_CLASSES)
    if name not in PUBLISHED:
        raise unknown("data set", name, NAMES)
    return read(_published(PUBLISHED[name], _data_folder(data_dir)), cache_dir)


def hold_out(source: Source, seed: int, fraction: float = 0.1) -> Source:
    """A source with a validation set in the place of the test set: a part of the training set, chosen by `seed`.

    Both sets keep the order of the source. The info has the new counts and is no longer complete.

    Args:
        source: stays as it is.
        seed: of the choice.
        fraction: of the training samples that are held out.

    Raises:
        UsageError: one of the two sets would be empty.

    Examples:
        >>> part = hold_out(load("digits"), seed=0)
        >>> len(part.train), len(part.test)
        (1293, 144)
    """
    total = len(source.train)
    count = round(total * fraction)
    if not 0 < count < total:
        raise UsageError(
            f"fraction: given {fraction}, which holds out {count} of {total} samples; allowed: 1 to {total - 1}"
        )
    held_out = np.zeros(total, bool)
    held_out[generator(seed, "validation").permutation(total)[:count]] = True
    info = replace(source.info, train_samples=total - count, test_samples=count, complete=False)
    domains = source.domains
    if domains is not None:
        mask = torch.from_numpy(held_out)
        domains = replace(domains, train=domains.train[~mask], test=domains.train[mask])
    return Source(info, _rows(source.train, ~held_out), _rows(source.train, held_out), domains)


def _rows(split: Split, chosen: NDArray[np.bool_]) -> Split:
    return split.select(torch.from_numpy(np.flatnonzero(chosen)))


@dataclass(frozen=True)
class _PublishedReader:
    """Reads a published data set from Parquet files, or from the hub where there are none.

    Attributes:
        folder: where files were looked for; None if no data folder is set.
        files: what was found there.
    """

    published: Published
    folder: Path | None
    files: Files | None

    @property
    def name(self) -> str:
        return self.published.name

    @property
    def origin(self) -> str:
        return f"hub {self.published.hub_id}" if self.files is None else "folder"

    @property
    def labels(self) -> int:
        return self.published.classes

    def facts(self) -> object:
        return [] if self.files is None else stamps((*self.files.train, *self.files.test))

    def read(self) -> Decoded:
        if self.files is not None:
            return parquet.from_files(self.published, self.files)
        try:
            return hub.from_hub(self.published)
        except HubError as error:
            unset = self.folder is None
            looked = "neither --data_dir nor SYNERGY_DATA is set" if unset else f"no Parquet files in {self.folder}"
            raise UsageError(
                f"no data for '{self.name}': {looked}, and the hub did not give {self.published.hub_id} ({error}); "
                "scenarios on the bundled digits, such as rot-digits, need neither"
            ) from error

    def complete(self, counts: tuple[int, int]) -> bool:
        return counts == (self.published.train_samples, self.published.test_samples)


def published_files(published: Published, data_folder: Path) -> Files | None:
    """The Parquet files of a data set in a data folder; None if it has none.

    Raises:
        UsageError: some of them are missing, or the folder is that of the data set itself.
    """
    return _published(published, data_folder).files


def _published(published: Published, data_folder: Path | None) -> _PublishedReader:
    if data_folder is None:
        return _PublishedReader(published, None, None)
    folder = data_folder / published.name
    if not folder.is_dir() and any(data_folder.glob("train-*.parquet")):
        raise UsageError(
            f"{data_folder} holds Parquet files itself; allowed: the folder above it, which holds {published.name}/"
            "train-*.parquet"
        )
    return _PublishedReader(published, folder, _find(folder, published))


def _data_folder(given: Path | None) -> Path | None:
    """The user's data folder; None if none is set."""
    origin, text = ("--data_dir", str(given)) if given is not None else ("SYNERGY_DATA", os.environ.get("SYNERGY_DATA"))
    if not text:
        return None
    folder = Path(text)
    with suppress(RuntimeError):  # the home of an unknown user: the folder is missing too, which is said below
        folder = folder.expanduser()
    if not folder.is_dir():
        raise UsageError(f"{origin}: {folder} is not a folder; allowed: one that holds <data set>/train-*.parquet")
    return folder


def _find(folder: Path, published: Published) -> Files | None:
    """The files of a data set; None if the folder holds none of them."""
    train, test, valid = (tuple(sorted(folder.glob(f"{split}-*.parquet"))) for split in ("train", "test", "valid"))
    preferred, other = (valid, test) if published.test_split == "valid" else (test, valid)
    held_out = preferred or other
    if not train and not held_out:
        return None
    if not train or not held_out:
        missing = "train-*.parquet" if not train else "test-*.parquet or valid-*.parquet"
        raise UsageError(f"{folder} is not complete: it has no {missing}; fetch the rest of {published.hub_id}")
    return Files(train, held_out)


def _source(info: SourceInfo, decoded: Decoded, n_classes: int) -> Source:
    classes = tuple(range(n_classes))
    train = Split(torch.from_numpy(decoded.train), torch.from_numpy(decoded.train_labels), classes)
    test = Split(torch.from_numpy(decoded.test), torch.from_numpy(decoded.test_labels), classes)
    if decoded.train_domains is None or decoded.test_domains is None:
        return Source(info, train, test)
    of_samples = (torch.from_numpy(each) for each in (decoded.train_domains, decoded.test_domains))
    return Source(info, train, test, Domains(decoded.domains, *of_samples))
