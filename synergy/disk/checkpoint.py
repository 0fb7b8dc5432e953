"""Checkpoints: a state as a folder of plain files, written all at once, checked whole before it is used.

A folder holds `tensors.safetensors`, `state.json` (everything else, and where each tensor goes) and `manifest.json`
(the format's version, and size and SHA-256 of the other two). Nothing in them is ever run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import torch

from synergy.disk import encoding, files, folders, sealed
from synergy.disk.encoding import MAX_JSON_BYTES, STATE, TENSORS
from synergy.disk.sealed import MANIFEST, DamageError
from synergy.errors import UsageError
from synergy.state import State

NAMES = frozenset((TENSORS, STATE, MANIFEST))
LIMITS = {TENSORS: sys.maxsize, STATE: MAX_JSON_BYTES}
"""Most bytes of each file beside the manifest."""


def write(state: State, folder: Path) -> None:
    """Write a state as the folder `folder`, durably, in place of a checkpoint that is there already.

    Whatever kills the process, `read` finds the old checkpoint or the new one, complete. Several processes of one
    machine may write one folder and read it: each waits its turn (Windows lacks the lock: there one at a time).

    Raises:
        UsageError: something else than a checkpoint is at `folder`; it is left alone.
        OSError: the folder above does not exist or cannot be written, or the disk is full. The old checkpoint stays,
            and nothing else is left.
        TypeError: the state holds what cannot be saved.
        ValueError: the state without its tensors is too large, or too deep.
    """
    contents = packed(state)
    try:
        with folders.replacing(folder, NAMES) as draft:
            for name, content in contents.items():
                files.write_synced(draft / name, content)
    except FileExistsError as error:
        raise UsageError(f"checkpoint {folder}: there is something else of that name; name another folder") from error


def read(folder: Path, device: torch.device | str = "cpu") -> State:
    """The state in `folder`, its tensors on `device`. All files are verified before they are used.

    Raises:
        UsageError: there is no checkpoint, it is damaged in any way, or it does not fit into memory.
    """
    try:
        return encoding.decoded(_contents(folder), device)
    except DamageError as damage:
        raise UsageError(f"checkpoint {folder}: {damage}; use another one, or train again") from damage
    except MemoryError as error:
        raise UsageError(f"checkpoint {folder}: it does not fit into memory; use a larger machine") from error
    except BlockingIOError as error:
        raise UsageError(f"checkpoint {folder}: {error.strerror}; wait for its end, or stop it") from error
    except OSError as error:
        raise UsageError(f"checkpoint {folder}: cannot be read: {error.strerror}; name another folder") from error


def packed(state: State) -> dict[str, bytes]:
    """The files that `write` would write, by name, for sending a state elsewhere. Raises as `write`."""
    contents = encoding.encoded(state)
    return contents | {MANIFEST: sealed.manifest(contents)}


def unpacked(contents: Mapping[str, bytes], device: torch.device | str = "cpu") -> State:
    """The state that `packed` was given, its tensors on `device`. `contents` must come from `packed`."""
    return encoding.decoded(contents, device)


def is_saved(folder: Path) -> bool:
    """Whether `read` would find something at `folder`, also where a writer was killed just before its last step."""
    with folders.settled(folder) as place:
        return place.exists()


def _contents(folder: Path) -> dict[str, bytes]:
    with ExitStack() as stack:
        # Held until the files are open: they can be read after another process has replaced the folder.
        with folders.settled(folder) as place:
            opened = stack.enter_context(sealed.opened(place, LIMITS))
        return sealed.verified(opened, LIMITS)
