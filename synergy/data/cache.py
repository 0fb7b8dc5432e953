"""The decoded images of a data set on disk, so that they are decoded once: memory-mapped arrays beside checksums.

A cache is a folder that appears whole or not at all, and whose every byte is checked before it is used. What fails the
check is treated as if it were not there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synergy.errors import UsageError

_LOG = logging.getLogger(__name__)
_FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
_PUBLISH_ATTEMPTS = 5


class Decoded(NamedTuple):
    """A data set as arrays: images `uint8 [N, C, H, W]`, labels `int64 [N]`."""

    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


_FILES = tuple(f"{field.replace('_', '-')}.npy" for field in Decoded._fields)

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
    except (OSError, ValueError) as error:  # ValueError: not JSON, not UTF-8, or not what it should be
        _LOG.info("the cache %s is damaged and will be rebuilt (%s)", place.folder, error)
        return None


def write(place: Place, decoded: Decoded, describe: Describe) -> None:
    """Keep `decoded` for the next time. If the folder cannot be written, warn and go on without."""
    draft = _sibling(place.folder)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        _fill(draft, place, decoded, describe)
        _publish(draft, place, describe)
    except OSError as error:
        warnings.warn(
            f"decoded {place.name} is not cached: {place.parent} cannot be written ({error.strerror or error}); "
            "set SYNERGY_CACHE to a folder that can",
            stacklevel=2,
        )
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _checked(place: Place, describe: Describe) -> Decoded:
    manifest = json.loads((place.folder / _MANIFEST).read_text(encoding="utf-8"))
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
    for file, array in _by_file(decoded):
        np.save(draft / file, array, allow_pickle=False)
    digests = {file: _sha256(draft / file) for file in _FILES}
    manifest = _manifest(place, decoded, describe, digests)
    (draft / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for file in (*_FILES, _MANIFEST):
        _sync_file(draft / file)
    _sync_folder(draft)


def _publish(draft: Path, place: Place, describe: Describe) -> None:
    """Rename `draft` to its place. A good cache that another process put there first stays; a damaged one goes."""
    for _ in range(_PUBLISH_ATTEMPTS):
        try:
            draft.rename(place.folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        else:
            _sync_folder(place.parent)
            return
        if read(place, describe) is not None:
            return
        _remove(place.folder)


def _remove(folder: Path) -> None:
    """Take a folder away in one step, so that no other process finds half of it."""
    aside = _sibling(folder)
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return  # another process did it
    shutil.rmtree(aside, ignore_errors=True)


def _sibling(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power, where the system can: the checksums notice if it did not."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
