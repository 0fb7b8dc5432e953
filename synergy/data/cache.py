"""The decoded images of a data set on disk: memory-mapped arrays beside checksums, so that decoding happens once.

A cache is a folder that appears as a whole. Every byte is checked before use; a cache that fails the check is made
again.
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
    """A data set as arrays: images `uint8 [N, C, H, W]`, labels `int64 [N]`.

    Examples:
        >>> from synergy.data import bundled
        >>> decoded = bundled.digits()
        >>> decoded.train_labels[:5]
        array([1, 2, 3, 4, 6])
    """

    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


_FILES = tuple(f"{field.replace('_', '-')}.npy" for field in Decoded._fields)

_NAMES = frozenset((*_FILES, _MANIFEST))

Describe: TypeAlias = Callable[[Decoded], Mapping[str, object]]
"""Describes the source of these arrays for the manifest, in JSON's types."""


@dataclass(frozen=True)
class Place:
    """The place of one source's cache.

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
        UsageError: the user has no home folder, as in a container that runs under an unknown user number.
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
    """The cached arrays, memory-mapped copy-on-write; None if the cache is missing or damaged."""
    try:
        return _checked(place, describe) if place.folder.exists() else None
    except (OSError, ValueError) as error:  # ValueError: a checksum or the manifest does not match
        _LOG.info("the cache %s is damaged and will be rebuilt (%s)", place.folder, error)
        return None


def write(place: Place, decoded: Decoded, describe: Describe) -> None:
    """Write the cache, unless another process has written it meanwhile.

    A folder that cannot be written gives a warning: the data are in memory and the run goes on.
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
    # Checked before any array is opened, so that NumPy's header parser sees no damaged bytes.
    if not isinstance(manifest, dict) or manifest.get("sha256") != digests:
        raise ValueError("a checksum does not match")
    # Copy-on-write: torch shares the memory as if it were writable, and the file stays as it is.
    decoded = Decoded(*(np.load(place.folder / file, mmap_mode="c", allow_pickle=False) for file in _FILES))
    if manifest != _manifest(place, decoded, describe, digests):
        raise ValueError("the manifest does not match")
    return decoded


def _manifest(place: Place, decoded: Decoded, describe: Describe, digests: dict[str, str]) -> dict[str, Any]:
    """All facts about a cache. A reader builds them again and compares the whole."""
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
