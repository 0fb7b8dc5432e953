"""What the folder of a study holds already, and the folders of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from synergy.disk import files
from synergy.disk.locks import locked
from synergy.errors import UsageError
from synergy.runs import records
from synergy.runs.config import CONFIG_NAME
from synergy.runs.config_file import read_config
from synergy.runs.folder import new_folder, writing
from synergy.runs.resume import publish_late
from synergy.studies.grid import PlannedRun, identity
from synergy.studies.request import STUDY_NAME, Request
from synergy.studies.work import Ended

State: TypeAlias = Literal["missing", "begun", "interrupted", "failed", "finished"]
"""`begun`: killed before it left a record. `missing`: not even begun."""


@dataclass(frozen=True)
class Standing:
    """A planned run and what is there of it.

    Attributes:
        run: its name is that of the folder that holds it, or will.
        ended: what its record says; None without a record.
    """

    run: PlannedRun
    state: State
    ended: Ended | None = None


class StudyFolder:
    """The folder of a study. It finds each run by its options, whatever the name of its folder.

    Args:
        path: of the study; it may be missing.

    Examples:
        >>> from synergy.studies.grid import planned
        >>> from synergy.studies.request import asked
        >>> plan = planned(asked({"model": "sgd", "dataset": "rot-digits", "output_dir": "nowhere"}))
        >>> [each.state for each in StudyFolder(Path("nowhere")).standings(plan.runs)]
        ['missing']
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def standings(self, runs: Sequence[PlannedRun]) -> list[Standing]:
        """Each run with its state. A folder's name that another run has gets a number.

        Raises:
            UsageError: the folder cannot be read.
        """
        taken: set[str] = set()
        standings = []
        for run in runs:
            folder = self._folder_of(run)
            name = self._free_name(run.name, taken) if folder is None else folder.name
            taken.add(name)
            output = replace(run.config.output, experiment_id=name)
            named = replace(run, name=name, config=replace(run.config, output=output))
            standings.append(Standing(named, "missing") if folder is None else _standing(named, folder))
        return standings

    def begin(self, run: PlannedRun) -> Path:
        """The folder of a run, with its configuration in it. What a killed process left of a new folder is removed.

        Raises:
            UsageError: the folder cannot be written.
        """
        folder = self.path / run.name
        if (folder / CONFIG_NAME).exists():
            return folder
        with writing(self.path):
            if folder.exists():
                files.remove_leftovers(folder / CONFIG_NAME)
                folder.rmdir()
        return new_folder(self.path, run.config)

    def put_record_aside(self, run: PlannedRun) -> None:
        """Rename a record that cannot be read, so that its run can go on. A good one stays."""
        path = self.path / run.name / records.RECORD_NAME
        try:
            records.read(path)
        except UsageError:
            with writing(self.path):
                path.replace(path.with_name(f"{records.RECORD_NAME}.damaged"))

    def complete_results(self, standings: Sequence[Standing]) -> None:
        """List every finished run in `results.jsonl`: a kill may have come between a record and its line.

        Raises:
            UsageError: the folder cannot be written.
        """
        finished = [each.run.name for each in standings if each.state == "finished"]
        path = self.path / records.RESULTS_NAME
        listed = {record.run_id for record in records.read_all(path)} if path.exists() else set()
        with writing(self.path):
            for name in finished:
                if name not in listed:
                    publish_late(records.read(self.path / name), self.path)

    def _folder_of(self, run: PlannedRun) -> Path | None:
        wanted = identity(run.config)
        named = self.path / run.name
        if (named / CONFIG_NAME).is_file() and _identity(named) == wanted:
            return named
        return self._by_identity.get(wanted)

    @cached_property
    def _by_identity(self) -> Mapping[str, Path]:
        """The folders of all runs by what makes them the same; one whose configuration cannot be read is left out."""
        try:
            folders = sorted(path.parent for path in self.path.glob(f"*/{CONFIG_NAME}"))
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read: {error.strerror}") from error
        found = {_identity(folder): folder for folder in folders}
        return {key: folder for key, folder in found.items() if key is not None}

    def _free_name(self, name: str, taken: set[str]) -> str:
        """A name that neither a folder with a configuration nor another run of the plan has."""
        number, free = 1, name
        while free in taken or (self.path / free / CONFIG_NAME).exists():
            number += 1
            free = f"{name}-{number}"
        return free


def _identity(folder: Path) -> str | None:
    try:
        return identity(read_config(folder))
    except UsageError:
        return None


def _standing(run: PlannedRun, folder: Path) -> Standing:
    if not (folder / records.RECORD_NAME).exists():
        return Standing(run, "begun")
    try:
        record = records.read(folder)
    except UsageError as error:
        return Standing(run, "failed", Ended("failed", f"its record cannot be read: {error}"))
    return Standing(run, record.status, Ended.of(record))


@contextmanager
def owned(request: Request) -> Iterator[None]:
    """Keep the study file in the folder of a study. Within, no other process of this machine works on the study.

    Raises:
        UsageError: another process works on it, or the folder cannot be written.
    """
    path = request.output_dir / STUDY_NAME
    with ExitStack() as stack, writing(request.output_dir):
        request.output_dir.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(locked(request.output_dir, patience=1))
        except BlockingIOError as error:
            place = f"{request.output_dir}: another process is working on this study"
            raise UsageError(f"{place}; wait for its end, or stop it") from error
        files.remove_leftovers(path)
        files.write_atomically(path, request.to_toml())
        held = stack.pop_all()
    with held:
        yield
