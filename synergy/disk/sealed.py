"""Files under a seal: a manifest names each with its size and SHA-256, and no byte is used before it was checked.

The seal finds damage. It proves nothing about who wrote the files: whoever can write them can write a new manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from synergy.disk import strict_json
from synergy.errors import UsageError
from synergy.release import release

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 16


class DamageError(ValueError):
    """What is wrong with a folder of files, without its name.

    Examples:
        >>> parsed(b'{"a": 1, "a": 2}', "state.json")
        Traceback (most recent call last):
        synergy.disk.sealed.DamageError: state.json is not strict JSON: the entry 'a' comes twice
    """


def manifest(contents: Mapping[str, bytes]) -> bytes:
    """The manifest of these files, as JSON."""
    facts = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
    return json.dumps({"format": FORMAT, "written_by": f"synergy-cl {release()}", "files": facts}, indent=1).encode()


@contextmanager
def opened(folder: Path, limits: Mapping[str, int]) -> Iterator[dict[str, BinaryIO]]:
    """All files in a folder, open for reading: they can be read after their names are gone.

    Args:
        limits: the names that must be there, beside the manifest, and the most bytes of each.

    Raises:
        DamageError: a file is missing, is there beside them, is a link, or is no plain file.
        OSError: a file cannot be opened.
    """
    names = {MANIFEST, *limits}
    _check_names(folder, names)
    with ExitStack() as stack:
        yield {name: stack.enter_context(_opened(folder / name)) for name in sorted(names)}


def verified(opened_files: Mapping[str, BinaryIO], limits: Mapping[str, int]) -> dict[str, bytes]:
    """The content of each file but the manifest, once it agrees with the manifest.

    Raises:
        DamageError: it does not agree, or a file is larger than its limit.
    """
    data = _content(opened_files[MANIFEST], MANIFEST, range(MAX_MANIFEST_BYTES + 1))
    facts = _checked_manifest(parsed(data, MANIFEST), limits.keys())
    for name, (size, _) in facts.items():
        if size > limits[name]:
            raise DamageError(f"{name} has {size} bytes; allowed: {limits[name]}")
    return {name: _checked(opened_files[name], name, *facts[name]) for name in limits}


def parsed(data: bytes, name: str) -> Any:
    """Strict JSON out of the file `name`. Raises DamageError if it is something else."""
    try:
        return strict_json.parse(data)
    except UsageError as error:
        raise DamageError(f"{name} is {error}") from error


def _check_names(folder: Path, names: Collection[str]) -> None:
    if not folder.is_dir():
        raise DamageError("there is no such folder")
    found = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in names:
                raise DamageError(f"{entry.name!r} does not belong to it")
            found.add(entry.name)
    if missing := sorted(set(names) - found):
        raise DamageError(f"it has no {missing[0]}")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path.is_symlink():
        raise DamageError(f"{path.name} is a link")
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise DamageError(f"{path.name} is not a plain file")
        yield file


def _open_at_once(path: str, flags: int) -> int:
    if sys.platform != "win32":
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK  # opening a pipe would wait for its writer
    return os.open(path, flags)


def _content(file: BinaryIO, name: str, sizes: range) -> bytes:
    """The content of a file whose size is one of `sizes`. The size is looked at before anything is read."""
    size = os.fstat(file.fileno()).st_size
    if size not in sizes:
        raise DamageError(f"{name} has {size} bytes, not the {sizes[-1]} it should have")
    data = file.read(size)
    if len(data) != size:
        raise DamageError(f"{name} changes while it is read")
    return data


def _checked(file: BinaryIO, name: str, size: int, digest: str) -> bytes:
    data = _content(file, name, range(size, size + 1))
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamageError(f"{name} is damaged: it is not what was written")
    return data


def _checked_manifest(content: Any, names: Collection[str]) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file."""
    if not isinstance(content, dict) or not _is_count(content.get("format")):
        raise DamageError(f"{MANIFEST} is not a manifest")
    if content["format"] != FORMAT:
        raise DamageError(f"its format is {content['format']}, this release reads format {FORMAT}")
    listed = content.get("files")
    if content.keys() != {"format", "written_by", "files"} or not isinstance(listed, dict):
        raise DamageError(f"{MANIFEST} has other entries than it should")
    if listed.keys() != set(names):
        raise DamageError(f"{MANIFEST} names other files than it should")
    return {name: _fact(name, fact) for name, fact in listed.items()}


def _fact(name: str, fact: Any) -> tuple[int, str]:
    if not isinstance(fact, dict) or fact.keys() != {"size", "sha256"}:
        raise DamageError(f"{MANIFEST} does not say what {name} is")
    size, digest = fact["size"], fact["sha256"]
    if not _is_count(size) or not isinstance(digest, str):
        raise DamageError(f"{MANIFEST} does not say what {name} is")
    return size, digest


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
