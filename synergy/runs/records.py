"""The record of a run: its configuration, its results, its cost.

Records are strict JSON. Reading checks every field; a field with a default may be missing, because an older release
wrote the record. A run leaves `record.json` in its own folder, and a finished run one line in the `results.jsonl` of
the folder above. Fields that may be None hold null for a number that is not finite.
"""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from synergy.data.published import CLASS_NAMES
from synergy.disk import files, strict_json
from synergy.errors import UsageError, unknown
from synergy.runs.config_file import in_present_form
from synergy.types import ProtocolName

SCHEMA_VERSION = 1
RECORD_NAME = "record.json"
RESULTS_NAME = "results.jsonl"
MAX_RUN_ID = 255
"""Most characters of a run's name, which is the name of a folder."""
OF_A_RUN = frozenset(("seed", "data_dir", "device", "fisher_memory_mb"))
"""Training options in which the runs of one setup may differ."""
MOST_NAMED = 5
"""Lines that one warning names."""

Status: TypeAlias = Literal["finished", "failed", "interrupted"]


@dataclasses.dataclass(frozen=True)
class Accuracies:
    """What one predictor scored under one protocol, in percent.

    Attributes:
        matrix: accuracies `[T][K]`: split `k` after task `t`, None where nothing was evaluated (NaN becomes None). A
            run that was stopped has fewer rows.
        baseline: accuracies of the untrained network, `[K]`; empty if they were not measured.
        per_class: accuracy at the end, by the stream's number of the class (see `Record.source_labels`).
        calibration_error: expected calibration error at the end.
        metrics: what `metrics.summary` gives for the matrix, and the scenario's own (`Scenario.own_metrics`).
    """

    predictor: str
    protocol: ProtocolName
    matrix: tuple[tuple[float | None, ...], ...]
    baseline: tuple[float, ...]
    per_class: dict[str, float]
    calibration_error: float | None
    metrics: dict[str, float]

    def __post_init__(self) -> None:
        matrix = tuple(_finite_row(row) for row in self.matrix)
        if len({len(row) for row in matrix}) > 1:
            raise UsageError("matrix: given rows of different lengths; allowed: one value per test split in each")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "calibration_error", _finite(self.calibration_error))


@dataclasses.dataclass(frozen=True)
class Measured:
    """Time and memory of a run. They differ between two runs that are equal otherwise.

    Attributes:
        started_at: UTC, ISO 8601.
        wall_s: seconds by the clock, from the moment when data and scenario were ready to the end.
        cpu_s: seconds on the processors in the same time.
        train_s, evaluate_s: seconds by the clock, in training and in evaluation.
        peak_memory_mb: most memory held at once, in 10^6 bytes: on the accelerator if the run has one, else by the
            whole process since it began. 0 if the system does not tell.
        steps_per_s: steps per second of training.
    """

    started_at: str
    wall_s: float
    cpu_s: float
    train_s: float
    evaluate_s: float
    peak_memory_mb: float
    steps_per_s: float


@dataclasses.dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        error: in one line, what ended a run before it finished; None for a finished run.
        partial: whether the budget was reduced. Tables keep partial and full runs apart.
        config: the complete configuration, nested as in `config.toml`.
        provenance: the origin of the value of each option ("flag", "default", "preset: <source>").
        source: the data: name, origin, train_samples, test_samples, complete, the names of the classes, a checksum.
        task_classes: the labels of each task.
        steps: learned batches of the stream. A method may take more or fewer optimiser steps.
        versions: releases of Python and the libraries, by name; of a user's file (`my.py`) the hash.
        accuracies: one per predictor and protocol, the recommended predictor first.
        final_losses: the terms of the last loss, by name; None for a term that is not finite.
        online: accuracy in each task on the batches of the stream before they were learned, in percent, by the outputs
            that the steps computed in training mode; empty if the method's steps return none.
        source_labels: the data set's label of each class of the stream; empty if the stream keeps these labels.

    Examples:
        >>> from synergy.runs.config import build
        >>> from synergy.runs.session import run
        >>> record = run(build("rot-digits", "er", {"n_tasks": 1, "max_steps_per_task": 2}))
        >>> record.status, record.steps, record.answer().predictor
        ('finished', 2, 'working')
        >>> read(Path("runs") / record.run_id) == record
        True
    """

    schema_version: int
    run_id: str
    status: Status
    error: str | None
    partial: bool
    config: dict[str, Any]
    provenance: dict[str, str]
    source: dict[str, Any]
    task_classes: tuple[tuple[int, ...], ...]
    n_parameters: int
    steps: int
    versions: dict[str, str]
    device: str
    seed: int
    accuracies: tuple[Accuracies, ...]
    measured: Measured
    final_losses: Mapping[str, float | None]
    source_labels: tuple[int, ...] = ()
    online: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.run_id) > MAX_RUN_ID:
            allowed = f"at most {MAX_RUN_ID} characters, as it is the name of a folder"
            raise UsageError(f"run_id: given {reprlib.repr(self.run_id)}; allowed: {allowed}")
        losses = {name: _finite(value) for name, value in self.final_losses.items()}
        object.__setattr__(self, "final_losses", losses)

    def outcome(self) -> dict[str, Any]:
        """All fields except `run_id` and `measured`: equal runs on one machine agree in them."""
        fields = dataclasses.asdict(self)
        del fields["run_id"], fields["measured"]
        return fields

    def find(self, predictor: str, protocol: str) -> Accuracies:
        """The accuracies of one predictor under one protocol.

        Raises:
            UsageError: the run has no such predictor, or not under this protocol.
        """
        of_predictor = {a.protocol: a for a in self.accuracies if a.predictor == predictor}
        if not of_predictor:
            raise unknown(f"predictor of run {self.run_id}", predictor, {a.predictor for a in self.accuracies})
        for name, accuracies in of_predictor.items():
            if name == protocol:
                return accuracies
        raise unknown(f"protocol of predictor '{predictor}' of run {self.run_id}", protocol, of_predictor)

    def class_name(self, number: str) -> str:
        """The name of a class of the stream, by its number; its label in the data set if it has no name."""
        label = dict(zip(map(str, range(len(self.source_labels))), self.source_labels, strict=True)).get(number, number)
        given = self.source.get("classes")
        names = given if isinstance(given, list) and given else CLASS_NAMES.get(str(self.source.get("name")), ())
        return dict(zip(map(str, range(len(names))), map(str, names), strict=True)).get(str(label), str(label))

    def name_of(self, section: str) -> str:
        """The name of the "scenario" or the "method" of the run.

        Raises:
            UsageError: the configuration does not name it.
        """
        options = self.config.get(section)
        name = options.get("name") if isinstance(options, dict) else None
        if not isinstance(name, str):
            raise UsageError(f"run {self.run_id}: given a configuration without {section}.name; allowed: one with it")
        return name

    def answer(self) -> Accuracies:
        """The result of the run: its recommended predictor under its first protocol.

        Raises:
            UsageError: the run ended before its first evaluation.
        """
        if not self.accuracies:
            raise UsageError(f"run {self.run_id} ({self.status}) has no accuracies: it ended before it was evaluated")
        return self.accuracies[0]


def write(record: Record, run_dir: Path) -> Path:
    """Write `record.json` into the folder of the run, atomically; a missing folder is made.

    Raises:
        ValueError: a number that must be finite is not.
        OSError: the folder cannot be written. A record that was there before stays.
    """
    text = json.dumps(dataclasses.asdict(record), indent=2, allow_nan=False)
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / RECORD_NAME
    files.write_atomically(path, text + "\n")
    return path


def append(record: Record, output_dir: Path) -> Path:
    """Append the record as one line to `results.jsonl`, atomically; a missing folder or file is made.

    Raises:
        ValueError: a number that must be finite is not.
        OSError: the file cannot be written. Its lines are as before.
    """
    line = json.dumps(dataclasses.asdict(record), allow_nan=False)
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / RESULTS_NAME
    files.append_line(path, line)
    return path


def read(path: Path) -> Record:
    """Read a record.

    Args:
        path: a `record.json`, or the folder of a run.

    Raises:
        UsageError: there is no record, it is damaged, or a newer release wrote it.
    """
    path, content = _content(path, RECORD_NAME)
    try:
        return _record(content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def read_all(path: Path) -> list[Record]:
    """Read all records of a `results.jsonl`, in their order.

    A line that cannot be read, such as one that a crash has torn, is left out. One warning names all of them.

    Args:
        path: the file, or the folder it is in.

    Raises:
        UsageError: there is no such file, or it cannot be opened.
    """
    path, found, damages = read_lines(path)
    if damages:
        more = f" and {len(damages) - MOST_NAMED} more" if len(damages) > MOST_NAMED else ""
        named = ", ".join(damages[:MOST_NAMED])
        warnings.warn(f"{path}: {named}{more} cannot be read; left out", stacklevel=2)
    return found


def read_lines(path: Path) -> tuple[Path, list[Record], list[str]]:
    """Read all records of a file of many, without a warning.

    Args:
        path: the file, or the folder that holds a `results.jsonl`.

    Returns:
        The path of the file, the records in their order, and for each line that cannot be read its number and why.

    Raises:
        UsageError: there is no such file, or it cannot be opened.
    """
    path, content = _content(path, RESULTS_NAME)
    found, damages = [], []
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            try:
                found.append(_record(line))
            except UsageError as error:
                damages.append(f"line {number} ({error})")
    return path, found, damages


def read_unlisted(folder: Path, listed: Sequence[Record]) -> list[Record]:
    """The records in the folders of runs below `folder` whose runs are not among `listed`.

    These runs failed or were interrupted, or their line in `results.jsonl` is damaged. A record that cannot be read is
    left out with a warning.

    Raises:
        UsageError: the folder cannot be read.
    """
    known = {record.run_id for record in listed}
    try:
        paths = sorted(path for path in folder.glob(f"*/{RECORD_NAME}") if path.parent.name not in known)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror}") from error
    found = []
    for path in paths:
        try:
            found.append(read(path))
        except UsageError as error:
            warnings.warn(f"{error}; it is left out", stacklevel=2)
    return found


def repetitions(records: Iterable[Record]) -> list[list[Record]]:
    """Groups of two or more finished runs that differ in the seed alone, in the order of their first runs.

    If several runs of a group have one seed, the last counts. Output options and the place of the data may differ.
    """
    records = list(records)
    changed = _changed_data(records)
    groups: dict[str, dict[int, Record]] = {}
    for record in records:
        if record.status == "finished":
            key: dict[str, Any] = setup(record)
            if str(record.source.get("name")) in changed:
                key["checksum"] = record.source.get("checksum")
            groups.setdefault(json.dumps(key, sort_keys=True), {})[record.seed] = record
    return [list(of_seed.values()) for of_seed in groups.values() if len(of_seed) > 1]


_SAME_DATA = ("name", "train_samples", "test_samples", "complete")
"""Facts in which runs on the same data agree. So does the checksum, but records of the first release have none."""


def setup(record: Record) -> dict[str, dict[str, Any]]:
    """All that decides the result of a run but its seed: the options of every group, and facts about the data.

    Output options, the device and the place of the data are left out, and the checksum of the data, which records of
    the first release lack. A configuration of an earlier release comes in the form of this one.
    """
    config = {group: dict(options) for group, options in in_present_form(record.config).items() if group != "output"}
    training = {name: v for name, v in config.get("training", {}).items() if name not in OF_A_RUN}
    source = {name: fact for name, fact in record.source.items() if name in _SAME_DATA}
    return config | {"training": training, "source": source}


def _changed_data(records: Iterable[Record]) -> set[str]:
    """The names of data sets whose content was another one in some of the runs."""
    checksums = {(str(each.source.get("name")), str(each.source.get("checksum") or "")) for each in records}
    names = [name for name, checksum in checksums if checksum]
    return {name for name in names if names.count(name) > 1}


def is_of_many(path: Path) -> bool:
    """Whether `path` is a `results.jsonl`, or the folder of one.

    Raises:
        UsageError: the path cannot be looked at.
    """
    try:
        return path.suffix == ".jsonl" or (path / RESULTS_NAME).is_file()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _content(path: Path, name: str) -> tuple[Path, bytes]:
    """The file at `path`, or the one called `name` in the folder at `path`."""
    folder = None
    try:
        if path.is_dir():
            folder, path = path, path / name
        return path, path.read_bytes()
    except FileNotFoundError as error:
        if folder is None:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
        raise UsageError(f"{folder}: holds no {name}; name the folder of a run, or of all runs") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: cannot be read: no path has a zero byte in it") from error


def _record(text: bytes) -> Record:
    content = strict_json.parse(text)
    _check_version(content)
    record: Record = strict_json.decode(Record, content, "")
    return record


def _check_version(content: Any) -> None:
    """Before anything else, since another version may have other fields."""
    version = _field(content, "schema_version")
    strict_json.decode(int, version, "schema_version")
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"schema_version: given {reprlib.repr(version)}, written by a newer release; "
            f"allowed: up to {SCHEMA_VERSION}; upgrade synergy-cl to read it"
        )
    if version < 1:
        raise UsageError(f"schema_version: given {reprlib.repr(version)}; allowed: from 1 to {SCHEMA_VERSION}")


def _field(content: Any, name: str) -> Any:
    if not isinstance(content, dict) or name not in content:
        raise UsageError(f"not a record: it has no field '{name}'")
    return content[name]


def _finite_row(row: tuple[float | None, ...]) -> tuple[float | None, ...]:
    known = [value for value in row if value is not None]
    # A sum that is finite has finite parts; to look at each takes long.
    return row if math.isfinite(sum(known)) else tuple(map(_finite, row))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
