"""Three sources of data: a folder of Parquet files, the hub, and the digits bundled with scikit-learn.

All give raw `uint8` images and labels in the order of the source, and the counts that a run record keeps.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from synergy.data import bundled, cache, decode
from synergy.data.cache import Decoded
from synergy.data.decode import Files, HubError
from synergy.data.published import PUBLISHED, Published
from synergy.errors import UsageError, unknown
from synergy.randomness import generator
from synergy.types import Split


@dataclass(frozen=True)
class SourceInfo:
    """The data of a run, as its record describes them. The counts tell a run on a part from one on the whole.

    Attributes:
        name: of the data set.
        origin: "folder", "hub <id>" or "bundled with scikit-learn".
        train_samples, test_samples: numbers of samples in this source.
        complete: whether these are the counts of the published data set.
    """

    name: str
    origin: str
    train_samples: int
    test_samples: int
    complete: bool


@dataclass(frozen=True)
class Source:
    """A data set: raw `uint8 [N, C, H, W]` images and `int64 [N]` labels, on the host."""

    info: SourceInfo
    train: Split
    test: Split


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
        published_counts = (bundled.DIGITS_TRAIN_SAMPLES, bundled.DIGITS_TEST_SAMPLES)
        info = _info(name, "bundled with scikit-learn", decoded, published_counts)
        return _source(info, decoded, bundled.DIGITS_CLASSES)
    if name not in PUBLISHED:
        raise unknown("data set", name, NAMES)
    cache_parent = cache_dir.expanduser() if cache_dir is not None else cache.default_parent()
    return _load_published(PUBLISHED[name], _data_folder(data_dir), cache_parent)


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
    return Source(info, _rows(source.train, ~held_out), _rows(source.train, held_out))


def _rows(split: Split, chosen: NDArray[np.bool_]) -> Split:
    return split.select(torch.from_numpy(np.flatnonzero(chosen)))


def _load_published(published: Published, data_folder: Path | None, cache_parent: Path) -> Source:
    folder = data_folder / published.name if data_folder is not None else None
    if (
        data_folder is not None
        and folder is not None
        and not folder.is_dir()
        and any(data_folder.glob("train-*.parquet"))
    ):
        raise UsageError(
            f"{data_folder} holds Parquet files itself; allowed: the folder above it, which holds {published.name}/"
            "train-*.parquet"
        )
    files = _find(folder, published) if folder is not None else None
    origin = "folder" if files is not None else f"hub {published.hub_id}"
    counts = (published.train_samples, published.test_samples)

    def describe(decoded: Decoded) -> dict[str, object]:
        return asdict(_info(published.name, origin, decoded, counts))

    place = cache.Place(cache_parent, published.name, _fingerprint(origin, files))
    decoded = cache.read(place, describe)
    if decoded is None:
        decoded = decode.from_files(published, files) if files is not None else _from_hub(published, folder)
        cache.write(place, decoded, describe)
    return _source(_info(published.name, origin, decoded, counts), decoded, published.classes)


def _from_hub(published: Published, folder: Path | None) -> Decoded:
    try:
        return decode.from_hub(published)
    except HubError as error:
        looked = "neither --data_dir nor SYNERGY_DATA is set" if folder is None else f"no Parquet files in {folder}"
        raise UsageError(
            f"no data for '{published.name}': {looked}, and the hub did not give {published.hub_id} ({error}); "
            "scenarios on the bundled digits, such as rot-digits, need neither"
        ) from error


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


def _fingerprint(origin: str, files: Files | None) -> str:
    """Changes when the source does. It looks at names, sizes and times alone, since every start computes it."""
    facts: list[Sequence[object]] = [[origin]]
    for path in (*files.train, *files.test) if files is not None else ():
        stat = path.stat()
        facts.append([path.name, stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _info(name: str, origin: str, decoded: Decoded, published_counts: tuple[int, int]) -> SourceInfo:
    counts = (len(decoded.train), len(decoded.test))
    return SourceInfo(name, origin, *counts, complete=counts == published_counts)


def _source(info: SourceInfo, decoded: Decoded, n_classes: int) -> Source:
    train, train_labels, test, test_labels = (torch.from_numpy(array) for array in decoded)
    classes = tuple(range(n_classes))
    return Source(info, Split(train, train_labels, classes), Split(test, test_labels, classes))
