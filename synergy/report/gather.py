"""All records below some folders, at any depth, and what is there but cannot be read."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from synergy.errors import UsageError, counted
from synergy.runs import records
from synergy.runs.config import CONFIG_NAME
from synergy.runs.folder import shell_word
from synergy.runs.records import MOST_NAMED, RECORD_NAME, RESULTS_NAME, Measured, Record


@dataclasses.dataclass(frozen=True)
class Found:
    """A record, and the folder of its run.

    Attributes:
        folder: None if the record is a line of a file of many and its folder is not there.
    """

    record: Record
    folder: Path | None = None


@dataclasses.dataclass(frozen=True)
class Gathered:
    """What lies below some folders.

    Attributes:
        runs: each record once, in the order of the folders.
        damaged: for each record that cannot be read, where it is and why.
        open: folders of runs that have not ended.

    Examples:
        >>> Gathered((), ("a/record.json: not strict JSON",), ()).warning()
        '1 record cannot be read and is left out: a/record.json: not strict JSON'
    """

    runs: tuple[Found, ...]
    damaged: tuple[str, ...] = ()
    open: tuple[Path, ...] = ()

    @property
    def records(self) -> list[Record]:
        """The records alone."""
        return [found.record for found in self.runs]

    def warning(self) -> str:
        """In one line, how many records are left out, and the first of them; empty if there are none."""
        if not self.damaged:
            return ""
        count = len(self.damaged)
        more = f"; and {count - MOST_NAMED} more" if count > MOST_NAMED else ""
        counted = "1 record cannot be read and is" if count == 1 else f"{count} records cannot be read and are"
        return f"{counted} left out: {'; '.join(self.damaged[:MOST_NAMED])}{more}"


def gather(paths: Sequence[Path]) -> Gathered:
    """The records of runs.

    A run may be in its folder and in the `results.jsonl` above it: it comes once. Damaged records are left out, unless
    there is nothing else.

    Args:
        paths: folders of a run, folders that hold such folders at any depth, `record.json` files, or `.jsonl` files
            with a record in each line.

    Raises:
        UsageError: a path cannot be read, or no run that has ended is found.
    """
    found: dict[tuple[str, Measured], Found] = {}
    damaged: list[str] = []
    unfinished: list[Path] = []
    for path in paths:
        if _is_folder(path):
            runs = _below(path, damaged, unfinished)
        elif path.suffix == ".jsonl":
            runs = _lines(path, damaged)
        else:
            runs = iter([Found(_named(records.read(path)), path.parent)])
        for run in runs:
            key = (run.record.run_id, run.record.measured)
            if key not in found or (found[key].folder is None and run.folder is not None):
                found[key] = run
    if not found:
        raise _nothing(paths, damaged, unfinished)
    return Gathered(tuple(found.values()), tuple(damaged), tuple(dict.fromkeys(unfinished)))


def _is_folder(path: Path) -> bool:
    try:
        path.stat()
        return path.is_dir()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: cannot be read: no path has a zero byte in it") from error


def _below(folder: Path, damaged: list[str], unfinished: list[Path]) -> Iterator[Found]:
    """The runs in a folder and in all below it. The folder of a run is not searched: it holds checkpoints."""
    for here, folders, names in os.walk(folder, onerror=_refuse):
        place = Path(here)
        folders.sort()
        if RECORD_NAME in names or CONFIG_NAME in names:
            folders.clear()
        if RECORD_NAME in names:
            try:
                yield Found(_named(records.read(place)), place)
            except UsageError as error:
                damaged.append(str(error))
        elif CONFIG_NAME in names:
            unfinished.append(place)
        if RESULTS_NAME in names:
            yield from _listed(place, set(folders), damaged)


def _listed(place: Path, folders: set[str], damaged: list[str]) -> Iterator[Found]:
    """The lines of a `results.jsonl` whose runs have no folder beside it any more."""
    for run in _lines(place / RESULTS_NAME, damaged):
        if run.record.run_id not in folders:
            yield run


def _lines(path: Path, damaged: list[str]) -> Iterator[Found]:
    _, found, damages = records.read_lines(path)
    damaged += [f"{path}: {damage}" for damage in damages]
    for record in found:
        try:
            yield Found(_named(record))
        except UsageError as error:
            damaged.append(f"{path}: {error}")


def _named(record: Record) -> Record:
    """The record itself. Raises UsageError if it names no method or no scenario."""
    record.name_of("method"), record.name_of("scenario")
    return record


def _refuse(error: OSError) -> None:
    raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _nothing(paths: Iterable[Path], damaged: Sequence[str], unfinished: Sequence[Path]) -> UsageError:
    """Why no run was found."""
    if damaged:
        return UsageError(damaged[0] if len(damaged) == 1 else Gathered((), tuple(damaged)).warning())
    if len(unfinished) == 1:
        hint = f"go on with: synergy resume {shell_word(unfinished[0])}"
        return UsageError(f"{unfinished[0]}: the run has not ended, it holds no {RECORD_NAME} yet; {hint}")
    if unfinished:
        return UsageError(
            f"{unfinished[0]} and {counted(len(unfinished) - 1, 'more run')} have not ended; nothing to report yet"
        )
    named = ", ".join(map(str, paths))
    return UsageError(f"{named}: holds no {RECORD_NAME} and no runs; name the folder of a run, or of all runs")
