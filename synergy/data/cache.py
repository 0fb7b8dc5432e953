"""The decoded images of a data set on disk: memory-mapped arrays beside checksums, so that decoding happens once.

A cache is a folder that appears as a whole. Every byte is checked before use; a cache that fails the check is made
again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synergy.disk import files, folders, strict_json
from synergy.errors import UsageError

_LOG = logging.getLogger(__name__)
_FORMAT_VERSION = 2
"""Changes when the same source gives other arrays: since 2, images are turned by their EXIF orientation."""
_MANIFEST = "manifest.json"


class Decoded(NamedTuple):
    """A data set as arrays: images `uint8 [N, C, H, W]` or features `float32 [N, F]`, labels `int64 [N]`.

    Attributes:
        classes: the name of each label; empty where the labels have no names.
        domains: the names of the domains; empty where the data have none.
        train_domains, test_domains: the number of each sample's domain, `int64 [N]`.

    Examples:
        >>> from synergy.data import bundled
        >>> decoded = bundled.digits()
        >>> decoded.train_labels[:5]
        array([1, 2, 3, 4, 6])
    """

    train: NDArray[Any]
    train_labels: NDArray[np.int64]
    test: NDArray[Any]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    train_domains: NDArray[np.int64] | None = None
    test_domains: NDArray[np.int64] | None = None


_ARRAYS = ("train", "train_labels", "test", "test_labels", "train_domains", "test_domains")
_FILES = {f"{field.replace('_', '-')}.npy": field for field in _ARRAYS}
"""Name of a file -> the field of `Decoded` that it holds."""
_NAMES = frozenset((*_FILES, _MANIFEST))


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


def read(place: Place) -> tuple[Decoded, str] | None:
    """The cached arrays, memory-mapped copy-on-write, and their `checksum`; None if the cache is missing or damaged."""
    try:
        return _checked(place) if place.folder.exists() else None
    except (OSError, ValueError) as error:  # ValueError: a checksum or the manifest does not match
        _LOG.info("the cache %s is damaged and will be rebuilt (%s)", place.folder, error)
        return None


def write(place: Place, decoded: Decoded) -> str:
    """Write the cache, unless another process has written it meanwhile. Returns the `checksum`.

    A folder that cannot be written gives a warning: the data are in memory and the run goes on.
    """
    if (present := read(place)) is not None:
        return present[1]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with folders.replacing(place.folder, _NAMES) as draft:
            return _checksum(decoded, _fill(draft, place, decoded))
    except OSError as error:
        warnings.warn(
            f"decoded {place.name} is not cached: {place.parent} cannot be written ({error.strerror or error}); "
            "set SYNERGY_CACHE to a folder that can",
            stacklevel=2,
        )
        return checksum(decoded)


def checksum(decoded: Decoded) -> str:
    """Such as "sha256 2cf2…": of all arrays and names. It is the same for a cache and for arrays in memory."""
    digests = {}
    for name, array in _by_file(decoded).items():
        hashed = _Hashed()
        np.save(hashed, array, allow_pickle=False)
        digests[name] = hashed.sha256.hexdigest()
    return _checksum(decoded, digests)


class _Hashed(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.sha256.update(data)
        return memoryview(data).nbytes


def _checksum(decoded: Decoded, digests: Mapping[str, str]) -> str:
    return f"sha256 {_hash_of([decoded.classes, decoded.domains, digests])}"


def _hash_of(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _checked(place: Place) -> tuple[Decoded, str]:
    manifest = strict_json.parse((place.folder / _MANIFEST).read_bytes())
    if not isinstance(manifest, dict) or manifest.get("seal") != _seal(manifest):
        raise ValueError("the manifest is not what was written")
    if (manifest["format_version"], manifest["fingerprint"]) != (_FORMAT_VERSION, place.fingerprint):
        raise ValueError("it is of another version, or of other data")
    digests = {name: _sha256(place.folder / name) for name in manifest["sha256"]}
    # Checked before any array is opened, so that NumPy's header parser sees no damaged bytes.
    if manifest["sha256"] != digests:
        raise ValueError("a checksum does not match")
    # Copy-on-write: torch shares the memory as if it were writable, and the file stays as it is.
    arrays = {_FILES[name]: np.load(place.folder / name, mmap_mode="c", allow_pickle=False) for name in digests}
    decoded = Decoded(**arrays)._replace(classes=tuple(manifest["classes"]), domains=tuple(manifest["domains"]))
    return decoded, _checksum(decoded, digests)


def _seal(manifest: Mapping[str, Any]) -> str:
    """The hash of all other entries of a manifest."""
    return _hash_of({name: value for name, value in manifest.items() if name != "seal"})


def _by_file(decoded: Decoded) -> dict[str, NDArray[Any]]:
    fields = decoded._asdict()
    return {name: fields[field] for name, field in _FILES.items() if fields[field] is not None}


def _fill(draft: Path, place: Place, decoded: Decoded) -> dict[str, str]:
    """Write all files into an empty folder. Returns the hash of each array's."""
    arrays = _by_file(decoded)
    for name, array in arrays.items():
        with files.synced(draft / name) as file:
            np.save(file, array, allow_pickle=False)
    digests = {name: _sha256(draft / name) for name in arrays}
    manifest: dict[str, Any] = {
        "format_version": _FORMAT_VERSION,
        "fingerprint": place.fingerprint,
        "classes": list(decoded.classes),
        "domains": list(decoded.domains),
        "shapes": {name: list(array.shape) for name, array in arrays.items()},
        "sha256": digests,
    }
    manifest["seal"] = _seal(manifest)
    files.write_synced(draft / _MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return digests


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
