"""Checkpoints: a state as a folder of plain files, written all at once, checked whole before it is used.

A folder holds `tensors.safetensors`, `state.json` (all that is no tensor, and where each tensor goes) and
`manifest.json` (the format's version, and size and SHA-256 of the other two). Nothing in them is ever run.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import reprlib
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from synergy.disk import files
from synergy.errors import UsageError
from synergy.release import release
from synergy.state import State

FORMAT = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
NAMES = frozenset((TENSORS, STATE, MANIFEST))

MAX_MANIFEST_BYTES = 1 << 16
MAX_JSON_BYTES = 1 << 24
"""Of `state.json`, and of the header of the tensors: what is large belongs into a tensor."""
MAX_DEPTH = 64
"""Of mappings and lists inside each other."""

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
DTYPES = frozenset((*FLOATS, *INTEGERS, torch.bool))

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def write(state: State, folder: Path) -> None:
    """Write a state as the folder `folder`, durably; a checkpoint that is there already is replaced.

    Until the new one is complete and synced it has a hidden name of its own beside `folder`. The old one is then put
    aside as `.NAME.old`, the new one takes its name, and the old one goes: whenever the process is killed, `read` finds
    one of the two, complete. One process at a time may write to one `folder`.

    Raises:
        UsageError: there is something else than a checkpoint at `folder`; it is left alone.
        OSError: the folder above does not exist or cannot be written, or the disk is full. What was there before is as
            it was, and nothing else is left.
        TypeError: the state holds what cannot be saved.
        ValueError: its part that is no tensor is too large, or too deep.
    """
    contents = _contents(state)
    # Beside what a link points to, so that the link stays one.
    folder = Path(os.path.realpath(folder))
    _recover(folder)
    _check_replaceable(folder)
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(8)}.new"
    with ExitStack() as undo:
        temporary.mkdir()
        undo.callback(_remove, temporary)
        for name, content in contents.items():
            files.write_synced(temporary / name, content)
        files.sync_folder(temporary)
        _take_place(temporary, folder)
        undo.pop_all()
    _remove(_aside(folder))


def read(folder: Path, device: torch.device | str = "cpu") -> State:
    """The state in `folder`, verified before anything is made of it; all its tensors on `device`.

    Raises:
        UsageError: there is no checkpoint, or it is damaged in any way.
    """
    try:
        real = Path(os.path.realpath(folder))
        where = _aside(real) if _aside(real).is_dir() and not real.exists() else real
        return _State(_verified(where), device).decoded()
    except _DamageError as damage:
        raise UsageError(f"checkpoint {folder}: {damage}; use another one, or train again") from damage
    except MemoryError as error:
        raise UsageError(f"checkpoint {folder}: it does not fit into memory; use a larger machine") from error
    except OSError as error:
        raise UsageError(f"checkpoint {folder}: cannot be read: {error.strerror}; name another folder") from error


def packed(state: State) -> dict[str, bytes]:
    """The files that `write` would write, by name: for what must go over a wire, not to a disk. Raises as `write`."""
    return _contents(state)


def unpacked(contents: Mapping[str, bytes], device: torch.device | str = "cpu") -> State:
    """The state of which `packed` made `contents`, which must come from there; all its tensors on `device`."""
    return _State(contents, device).decoded()


class Series:
    """The checkpoints of one run, each named after how far the run was.

    Args:
        folder: they are in; made when the first one is written.
        keep: how many; older ones go when a new one is durable.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._last: Path | None = None

    def add(self, state: State, *, step: int, task: int) -> None:
        """Write the checkpoint of this step, with `task` tasks done, unless the last one was of just there.

        Raises:
            UsageError: there is a link of its name, or as `write` does; all that were there are still there.
            OSError, TypeError, ValueError: as `write` does, and the same is true.
        """
        path = self.folder / f"step-{step:08d}-task-{task:04d}"
        if path == self._last:
            return
        if path.is_symlink():  # `write` would replace what it leads to, which is not of this run
            raise UsageError(f"checkpoint {path}: there is a link of that name; move it away")
        if not self.folder.is_dir():
            self.folder.mkdir()
            files.sync_folder(self.folder.parent)
        write(state, path)
        self._last = path
        # A damaged one may be ahead: one that a resumed run could not use, and will come by again.
        passed = [each for each in self.newest_first() if _progress(each) <= _progress(path)]
        for old in passed[self.keep :]:
            _remove(old)

    def newest_first(self) -> list[Path]:
        """All that are there, damaged or not. Raises UsageError if the folder cannot be read."""
        return sorted((path for path in self._entries() if _NAME.fullmatch(path.name)), key=_progress, reverse=True)

    def clean(self) -> None:
        """Finish or undo what a killed writer of checkpoints of these names had begun.

        Raises:
            UsageError: the folder cannot be read.
            OSError: it cannot be written.
        """
        for entry in self._entries():
            if (new := _TEMPORARY.fullmatch(entry.name)) and _NAME.fullmatch(new[1]):
                _remove(entry)
            elif (aside := re.fullmatch(r"\.(.+)\.old", entry.name)) and _NAME.fullmatch(aside[1]):
                _recover(self.folder / aside[1])

    def _entries(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        except OSError as error:
            raise UsageError(f"cannot read '{self.folder}': {error.strerror}; allow it, or move it away") from error


_NAME = re.compile(r"step-(\d+)-task-(\d+)")


def _progress(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.name))


_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}\.new")


class _DamageError(ValueError):
    """What is wrong with a checkpoint."""


# Writing


def _contents(state: State) -> dict[str, bytes]:
    """The three files; the manifest is last."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encoded(state, "", tensors, 0), allow_nan=False).encode()
    contents = {TENSORS: safetensors.torch.save(tensors), STATE: text}
    if max(len(text), _header_bytes(contents[TENSORS])) > MAX_JSON_BYTES:
        raise ValueError(f"a state of {len(text)} bytes beside its tensors; allowed: {MAX_JSON_BYTES}")
    facts = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
    manifest = {"format": FORMAT, "written_by": f"synergy-cl {release()}", "files": facts}
    return contents | {MANIFEST: json.dumps(manifest, indent=1).encode()}


def _encoded(value: Any, path: str, tensors: dict[str, Tensor], depth: int) -> Any:
    """`value` as JSON; its tensors are put into `tensors`."""
    if depth > MAX_DEPTH:
        raise ValueError(f"'{path}' is nested more than {MAX_DEPTH} deep")
    match value:
        case Tensor():
            name = f"{len(tensors)}:{path}"
            tensors[name] = _plain(value, path)
            return {"$tensor": name}
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": str(float(value))}
        case list() | tuple():
            return [_encoded(item, f"{path}/{number}", tensors, depth + 1) for number, item in enumerate(value)]
        case Mapping():
            pairs = [[key, _encoded(item, _below(path, key), tensors, depth + 1)] for key, item in value.items()]
            direct = all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs)
            return dict(pairs) if direct else {"$map": pairs}
        case _:
            raise TypeError(f"cannot save '{path}': a {type(value).__name__}")


def _plain(tensor: Tensor, path: str) -> Tensor:
    if tensor.dtype not in DTYPES or tensor.layout is not torch.strided:
        raise TypeError(f"cannot save '{path}': a tensor of {tensor.dtype}, {tensor.layout}")
    # A copy even of a contiguous one: the format stores no two tensors that share memory.
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _below(path: str, key: object) -> str:
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise TypeError(f"cannot save '{path}': a key of type {type(key).__name__}")
    # The name is for the reader; what decides is the state's own key.
    name = str(key).encode("ascii", "backslashreplace").decode()
    return f"{path}/{name}" if path else name


def _aside(folder: Path) -> Path:
    """Where the old checkpoint is while the new one takes its name."""
    return folder.parent / f".{folder.name}.old"


def _recover(folder: Path) -> None:
    """Finish or undo what a killed writer of `folder` had begun."""
    if _is_ours(_aside(folder)) and not os.path.lexists(folder):
        _aside(folder).rename(folder)
    _remove(_aside(folder))
    for entry in folder.parent.iterdir():
        if (match := _TEMPORARY.fullmatch(entry.name)) and match[1] == folder.name:
            _remove(entry)


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not _is_ours(folder):
        raise UsageError(f"checkpoint {folder}: there is something else of that name; name another folder")


def _take_place(temporary: Path, folder: Path) -> None:
    with ExitStack() as undo:
        if folder.exists():
            folder.rename(_aside(folder))
            undo.callback(_aside(folder).rename, folder)
        temporary.rename(folder)
        undo.callback(folder.rename, temporary)
        files.sync_folder(folder.parent)
        undo.pop_all()


def _is_ours(folder: Path) -> bool:
    """Whether a folder (no link to one) holds a checkpoint, whole or not, and nothing else: it may be taken away."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return all(entry.name in NAMES and entry.is_file(follow_symlinks=False) for entry in entries)


def _remove(folder: Path) -> None:
    """Take a checkpoint away, whole or not; what cannot be removed now stays for the next time."""
    with suppress(OSError):
        if _is_ours(folder):
            for name in NAMES:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


# Reading


def _verified(folder: Path) -> dict[str, bytes]:
    """The content of the three files, as the manifest describes them."""
    _check_names(folder)
    manifest = _strict_json(_read(folder / MANIFEST, range(MAX_MANIFEST_BYTES + 1)), MANIFEST)
    facts = _checked_manifest(manifest)
    return {name: _checked_file(folder / name, *facts[name]) for name in (TENSORS, STATE)}


def _check_names(folder: Path) -> None:
    if not folder.is_dir():
        raise _DamageError("there is no such folder")
    found = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in NAMES:
                raise _DamageError(f"{entry.name!r} does not belong to it")
            found.add(entry.name)
    if missing := sorted(NAMES - found):
        raise _DamageError(f"it has no {missing[0]}")


def _checked_manifest(manifest: Any) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file."""
    if not isinstance(manifest, dict) or not _is_whole(manifest.get("format")):
        raise _DamageError(f"{MANIFEST} is none")
    if manifest["format"] != FORMAT:
        raise _DamageError(f"its format is {manifest['format']:.0f}, this release reads format {FORMAT}")
    listed = manifest.get("files")
    if manifest.keys() != {"format", "written_by", "files"} or not isinstance(listed, dict):
        raise _DamageError(f"{MANIFEST} has other entries than it should")
    if listed.keys() != {TENSORS, STATE}:
        raise _DamageError(f"{MANIFEST} names other files than it should")
    return {name: _fact(name, fact) for name, fact in listed.items()}


def _fact(name: str, fact: Any) -> tuple[int, str]:
    if not isinstance(fact, dict) or fact.keys() != {"size", "sha256"}:
        raise _DamageError(f"{MANIFEST} does not say what {name} is")
    size, digest = fact["size"], fact["sha256"]
    if not _is_whole(size) or not isinstance(digest, str):
        raise _DamageError(f"{MANIFEST} does not say what {name} is")
    return size, digest


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _checked_file(path: Path, size: int, digest: str) -> bytes:
    if path.name == STATE and size > MAX_JSON_BYTES:
        raise _DamageError(f"{path.name} is too large")
    data = _read(path, range(size, size + 1))
    if hashlib.sha256(data).hexdigest() != digest:
        raise _DamageError(f"{path.name} is damaged: it is not what was written")
    return data


def _read(path: Path, sizes: range) -> bytes:
    """The content of a plain file (no link, no pipe) whose size is one of `sizes`, looked at before it is read."""
    if path.is_symlink():
        raise _DamageError(f"{path.name} is a link")
    with open(path, "rb", opener=_open_plainly) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _DamageError(f"{path.name} is no plain file")
        if status.st_size not in sizes:
            raise _DamageError(f"{path.name} has {status.st_size} bytes, not the {sizes[-1]} it should have")
        data = file.read(status.st_size)
    if len(data) != status.st_size:
        raise _DamageError(f"{path.name} changes while it is read")
    return data


def _open_plainly(path: str, flags: int) -> int:
    if sys.platform != "win32":
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK  # else to open a pipe is to wait for its writer
    return os.open(path, flags)


def _strict_json(text: bytes, name: str) -> Any:
    try:
        return json.loads(
            text.decode(), parse_float=_number, parse_constant=_no_constant, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError) as error:
        raise _DamageError(f"{name} is not strict JSON") from error


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number too large for a float")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("an entry comes twice")
    return content


def _header_bytes(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _tensors(data: bytes) -> dict[str, Tensor]:
    size = _header_bytes(data)
    if size > min(MAX_JSON_BYTES, len(data)):
        raise _DamageError(f"{TENSORS} has no header")
    header = _strict_json(data[8 : 8 + size], f"the header of {TENSORS}")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AssertionError, OverflowError) as error:
        raise _DamageError(f"{TENSORS} holds no tensors that can be read") from error
    if not isinstance(header, dict) or header.keys() != tensors.keys():
        raise _DamageError(f"{TENSORS} holds something else than tensors")
    return tensors


class _State:
    """A state on its way back from its files: every tensor is used once."""

    def __init__(self, contents: Mapping[str, bytes], device: torch.device | str) -> None:
        self._content = _strict_json(contents[STATE], STATE)
        self._tensors = _tensors(contents[TENSORS])
        self._device = device

    def decoded(self) -> State:
        state = self._decoded(self._content, 0)
        if not isinstance(state, dict):
            raise _DamageError(f"{STATE} is no state")
        if self._tensors:
            raise _DamageError(f"{TENSORS} holds {reprlib.repr(min(self._tensors))}, which {STATE} does not name")
        return state

    def _decoded(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise _DamageError(f"{STATE} is nested too deep")
        if isinstance(value, list):
            return [self._decoded(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        tag, content = next(iter(value.items()), ("", None))
        if not any(key.startswith("$") for key in value):
            return {key: self._decoded(item, depth + 1) for key, item in value.items()}
        if len(value) > 1:
            raise _DamageError(f"{STATE} holds what no state holds")
        if tag == "$tensor" and isinstance(content, str):
            return self._tensor(content)
        if tag == "$float" and isinstance(content, str) and content in _NOT_FINITE:
            return _NOT_FINITE[content]
        if tag == "$map" and isinstance(content, list):
            return {key: self._decoded(item, depth + 1) for key, item in _pairs(content)}
        raise _DamageError(f"{STATE} holds what no state holds")

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise _DamageError(f"{STATE} names the tensor {reprlib.repr(name)}, which {TENSORS} does not hold")
        tensor = self._tensors.pop(name)
        if tensor.dtype not in DTYPES:
            raise _DamageError(f"the tensor {reprlib.repr(name)} is of a kind that is never saved")
        return tensor.to(self._device)


def _pairs(content: list[Any]) -> Iterator[tuple[int | str, Any]]:
    keys = set()
    for pair in content:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _DamageError(f"{STATE} holds what no state holds")
        key = pair[0]
        if isinstance(key, bool) or not isinstance(key, int | str) or key in keys:
            raise _DamageError(f"{STATE} holds what no state holds")
        keys.add(key)
        yield key, pair[1]
