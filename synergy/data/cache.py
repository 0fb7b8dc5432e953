"""The decoded images of a data set on disk, so that they are decoded once: memory-mapped arrays beside checksums.

A cache is a folder that appears whole or not at all. Every byte is checked before it is used; a cache that fails the
check is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synergy.disk import files, folders, strict_json
from synergy.errors import UsageError

_LOG = logging.getLogger(__name__)
_FORMAT_VERSION = 1
_MANIFEST = "manifest.json"


class Decoded(NamedTuple):
    """A data set as arrays: images `uint8 [N, C, H, W]`, labels `int64 [N]`."""

    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


_FILES = tuple(f"{field.replace('_', '-')}.npy" for field in Decoded._fields)

_NAMES = frozenset((*_FILES, _MANIFEST))

Describe: TypeAlias = Callable[[Decoded], Mapping[str, object]]
"""Says what the manifest has to say about the source of these arrays, in JSON's types."""


@dataclass(frozen=True)
class Place:
    """Where the cache of one source lies.

    Attributes:
        parent: the folder of all caches.
        name: of the data set.
        fingerprint: changes when the source does (hexadecimal).
    """

    parent: Path
    name: str
    fingerprint: str

    @property
    def folder(self) -> Path:
        return self.parent / f"{self.name}-{self.fingerprint[:16]}"


def default_parent() -> Path:
    """`SYNERGY_CACHE`, or the user's cache folder.

    Raises:
        UsageError: the user has no home folder, as in a container that runs under any number.
    """
    given = os.environ.get("SYNERGY_CACHE")
    user = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if given:
            return Path(given).expanduser()
        return (user if user.is_absolute() else Path.home() / ".cache") / "synergy"
    except RuntimeError as error:
        raise UsageError("no home folder for decoded data; set SYNERGY_CACHE to a folder") from error


def read(place: Place, describe: Describe) -> Decoded | None:
    """The cached arrays, memory-mapped copy-on-write; None if there is no cache or anything about it is wrong."""
    try:
        return _checked(place, describe) if place.folder.exists() else None
    except (OSError, ValueError) as error:  # ValueError: the content is not what it should be
        _LOG.info("the cache %s is damaged and will be rebuilt (%s)", place.folder, error)
        return None


def write(place: Place, decoded: Decoded, describe: Describe) -> None:
    """Keep `decoded` for the next time, unless another process did so meanwhile.

    A folder that cannot be written is a warning. The data are in memory all the same.
    """
    if read(place, describe) is not None:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with folders.replacing(place.folder, _NAMES) as draft:
            _fill(draft, place, decoded, describe)
    except OSError as error:
        warnings.warn(
            f"decoded {place.name} is not cached: {place.parent} cannot be written ({error.strerror or error}); "
            "set SYNERGY_CACHE to a folder that can",
            stacklevel=2,
        )


def _checked(place: Place, describe: Describe) -> Decoded:
    manifest = strict_json.parse((place.folder / _MANIFEST).read_bytes())
    digests = {file: _sha256(place.folder / file) for file in _FILES}
    # Before any array is opened: NumPy's header parser should never see damaged bytes.
    if not isinstance(manifest, dict) or manifest.get("sha256") != digests:
        raise ValueError("a checksum does not match")
    # Copy-on-write, so that torch may share the memory as if it were writable without ever changing the file.
    decoded = Decoded(*(np.load(place.folder / file, mmap_mode="c", allow_pickle=False) for file in _FILES))
    if manifest != _manifest(place, decoded, describe, digests):
        raise ValueError("the manifest does not match")
    return decoded


def _manifest(place: Place, decoded: Decoded, describe: Describe, digests: dict[str, str]) -> dict[str, Any]:
    """All that is known about a cache. Built again when it is read, and compared whole."""
    return {
        "format_version": _FORMAT_VERSION,
        "fingerprint": place.fingerprint,
        "source": dict(describe(decoded)),
        "shapes": {file: list(array.shape) for file, array in _by_file(decoded)},
        "sha256": digests,
    }


def _by_file(decoded: Decoded) -> list[tuple[str, NDArray[Any]]]:
    arrays: tuple[NDArray[Any], ...] = decoded
    return list(zip(_FILES, arrays, strict=True))


def _fill(draft: Path, place: Place, decoded: Decoded, describe: Describe) -> None:
    for name, array in _by_file(decoded):
        with files.synced(draft / name) as file:
            np.save(file, array, allow_pickle=False)
    digests = {name: _sha256(draft / name) for name in _FILES}
    manifest = _manifest(place, decoded, describe, digests)
    files.write_synced(draft / _MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
