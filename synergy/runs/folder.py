"""The folder of a run: it has a name of its own, and one process at a time works in it."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from synergy.disk import files
from synergy.disk.locks import locked
from synergy.errors import UsageError
from synergy.runs.config import CONFIG_NAME, RunConfig
from synergy.runs.naming import name_of


def new_folder(output_dir: Path, config: RunConfig) -> Path:
    """Make the folder of a run, with its configuration in it. A number is added to a name that is taken.

    Raises:
        UsageError: `output_dir` cannot be written.
    """
    name = config.output.experiment_id or name_of(config)
    with writing(output_dir), ExitStack() as undo:
        output_dir.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = output_dir / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
        undo.callback(folder.rmdir)
        files.write_atomically(folder / CONFIG_NAME, config.to_toml())
        undo.pop_all()
    if number > 1 and config.output.experiment_id is not None:
        warnings.warn(f"experiment_id: there is a run '{name}' already; this one is '{folder.name}'", stacklevel=2)
    return folder


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Within, this is the only process that works in the folder of a run.

    Raises:
        UsageError: another process works in it, or its configuration cannot be written.
    """
    with ExitStack() as stack, writing_into(folder / CONFIG_NAME):
        try:
            stack.enter_context(locked(folder / CONFIG_NAME, patience=0))
        except BlockingIOError as error:
            raise UsageError(f"{folder}: another process is running it; wait for its end, or stop it") from error
        held = stack.pop_all()
    with held:
        yield


def shell_word(path: Path) -> str:
    """A path as a word of a shell command, in one line."""
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text  # without "./" it would be a flag
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character.isprintable() and character not in "\\'":
        return character
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


@contextmanager
def writing(output_dir: Path) -> Iterator[None]:
    """Within, an error of the system becomes a UsageError that names `output_dir`."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write to '{output_dir}': {error.strerror}"
        raise UsageError(f"output_dir: {reason}; name another folder") from error


@contextmanager
def writing_into(place: Path) -> Iterator[None]:
    """Within, an error of the system becomes a UsageError that names a place in the folder of a run."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write to '{place}': {error.strerror}; allow it, or make room there") from error
