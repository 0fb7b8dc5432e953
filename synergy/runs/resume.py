"""Resume a run that was killed, was stopped or failed, from its newest good checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synergy.disk import checkpoint, files
from synergy.disk.series import progress
from synergy.errors import UsageError, counted
from synergy.runs import csv_log, records
from synergy.runs.config import CONFIG_NAME, RunConfig
from synergy.runs.config_file import in_present_form, read_config
from synergy.runs.folder import owned, shell_word, writing, writing_into
from synergy.runs.groups import BY_DEVICE, GROUPS
from synergy.runs.listeners import Listener
from synergy.runs.prepare import Prepared, prepare
from synergy.runs.records import Record
from synergy.runs.session import Session, origin
from synergy.state import State, restore_fresh, same

ELSEWHERE = frozenset(("data_dir", "device", "eager"))
"""Training options that may change: where the data are, where to compute, and whether steps are replayed."""
MOST_QUOTED = 600
"""Most characters that a message quotes from a file."""


@dataclass(frozen=True)
class Reopened:
    """A run that is ready to go on.

    Attributes:
        session: restored from a checkpoint; fresh if no checkpoint is good.
        checkpoint: the one it was restored from.
        skipped: for each newer checkpoint, in one line, why it was not used.
    """

    session: Session
    checkpoint: Path | None
    skipped: tuple[str, ...]


@contextmanager
def reopened(folder: Path) -> Iterator[Reopened]:
    """The run in `folder`. Within, no other process works on it.

    Raises:
        UsageError: `folder` is not that of a run, the run is finished or is running, its folder cannot be written, or
            its data or configuration have changed.
    """
    if not _is_run(folder):
        raise UsageError(f"{folder}: not the folder of a run, it has no {CONFIG_NAME}; name one below --output_dir")
    config = read_config(folder / CONFIG_NAME)
    # The record needs the name of the folder, which "." lacks.
    folder = folder.resolve() if folder.name in ("", "..") else folder
    config = replace(config, output=replace(config.output, output_dir=str(folder.parent)))
    prepared = None
    if any(vars(config.training)[name] is None for name in BY_DEVICE):
        # The file is replaced, and the lock with it.
        with owned(folder):
            _record_of(folder)  # what cannot go on is told before anything changes
            prepared = _settled(config, folder)
            config = prepared.config
    with owned(folder):
        record = _record_of(folder)
        with writing_into(folder):
            files.remove_leftovers(folder / records.RECORD_NAME)
            # A folder that cannot be written is found before the training.
            files.try_writing(folder / records.RECORD_NAME)
        yield _restored(config, folder, record, prepared)


def resume(
    folder: Path, listener: Listener | None = None, should_stop: Callable[[], bool] = lambda: False
) -> tuple[Record, Path]:
    """Go on with the run in `folder` from its newest good checkpoint, or from the beginning.

    The record's `outcome()` equals that of a run that was never stopped, bit by bit.

    Returns:
        The record and the folder, as `session.execute`.

    Raises:
        UsageError: as `reopened` does.
    """
    with reopened(folder) as run:
        return run.session.proceed(listener, should_stop)


def _is_run(folder: Path) -> bool:
    try:
        return (folder / CONFIG_NAME).is_file()
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror}; name a folder below --output_dir") from error


def _refuse_finished(record: Record, folder: Path) -> None:
    if record.status == "finished":
        with writing(folder.parent):
            publish_late(record, folder.parent)
        raise UsageError(f"{folder}: the run is finished; see it with: synergy report {shell_word(folder)}")


def publish_late(record: Record, output_dir: Path) -> None:
    """Put a run into the tables that it is missing from: it was killed between its record and its tables."""
    path = output_dir / records.RESULTS_NAME
    known = records.read_all(path) if path.exists() else []
    listed = any((each.run_id, each.measured) == (record.run_id, record.measured) for each in known)
    if csv_log.is_wanted(record):
        csv_log.write_csv(record, output_dir, known if listed else [*known, record])
    if not listed:
        records.append(record, output_dir)


def _record_of(folder: Path) -> Record | None:
    """The record of an earlier process, if any. Raises UsageError if it cannot be read, or the run is finished."""
    if not (folder / records.RECORD_NAME).exists():
        return None
    record = records.read(folder)
    _refuse_finished(record, folder)
    return record


def _settled(config: RunConfig, folder: Path) -> Prepared:
    """Prepare a run that was never prepared, and keep the values that its device decides, wherever it goes on."""
    prepared = prepare(config)
    with writing_into(folder):
        files.write_atomically(folder / CONFIG_NAME, prepared.config.to_toml())
    return prepared


def _restored(config: RunConfig, folder: Path, record: Record | None, prepared: Prepared | None) -> Reopened:
    """Restore the run from its newest good checkpoint, else begin anew.

    Args:
        config: of the run.
        folder: of the run.
        record: from an earlier process, if any.
        prepared: the parts, fresh, if they are there.
    """
    session, skipped = Session(prepared or prepare(config), folder), []
    if record is not None:
        _check_same(record.config, record.source, origin(session.prepared), f"{folder / records.RECORD_NAME}")
    with writing_into(session.checkpoints.folder):
        session.checkpoints.clean()
    for path in session.checkpoints.newest_first():
        what = f"checkpoint {path}"
        try:
            state = checkpoint.read(path, session.prepared.device)
            began = origin_of(state, what)
        except UsageError as damage:
            skipped.append(_bounded(str(damage)))
            continue
        check_origin(began, origin(session.prepared), what)
        try:
            restore_fresh(session, state, what)
            _check_name(session, path)
        except UsageError as misfit:
            skipped.append(_bounded(str(misfit)))
            # This session may hold half of the state.
            session = Session(prepare(config), folder)
            continue
        return Reopened(session, path, tuple(skipped))
    return Reopened(session, None, tuple(skipped))


def origin_of(state: State, what: str) -> Mapping[str, Any]:
    """What the state says about the run it belongs to. Raises UsageError if it belongs to none."""
    began = state.get("run")
    parts = ("config", "source", "versions")
    if isinstance(began, Mapping) and all(isinstance(began.get(part), Mapping) for part in parts):
        tables = [*began["config"].values(), began["source"], began["versions"]]
        if all(isinstance(table, Mapping) for table in tables):
            return began
    raise UsageError(f"{what}: it does not belong to a run; use one that does")


def _check_name(session: Session, path: Path) -> None:
    """Raises UsageError unless step and task in the name of a checkpoint are those of its state."""
    given, named = (session.training.steps, session.training.task), progress(path)
    if given != named:
        places = [f"step {step} after {counted(task, 'task')}" for step, task in (given, named)]
        raise UsageError(f"checkpoint {path}: it holds {places[0]}, its name says {places[1]}; restore its name")


def check_origin(began: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
    """Raises UsageError if data or options have changed since the run began; warns if device or release have."""
    _check_same(began["config"], began["source"], now, what)
    then, there = (f"torch {of['versions'].get('torch')} on {of.get('device')}" for of in (began, now))
    if then != there:
        warnings.warn(
            f"begun with {_bounded(then)}, goes on with {there}: last bits of the result may differ", stacklevel=2
        )
    files = [name for name in now["versions"] if name.endswith(".py") or ":" in name]
    changed = [file for file in files if began["versions"].get(file) != now["versions"][file]]
    if changed:
        warnings.warn(f"{', '.join(changed)}: changed since the run began; its result comes from both", stacklevel=2)


def _check_same(config: Mapping[str, Any], source: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
    """Raises UsageError unless data and options agree with those in `what`, the record or checkpoint of the run."""
    for name in ("name", "train_samples", "test_samples"):
        then, there = source.get(name), now["source"][name]
        if not same(then, there):
            raise UsageError(
                f"{what}: made with data of {name} {_bounded(str(then))}, given {there}; set SYNERGY_DATA to those data"
            )
    then, there = source.get("features"), now["source"].get("features")
    if not same(then, there):
        was, now_is = (_backbone(each) for each in (then, there))
        raise UsageError(f"{what}: made with {was}, given {now_is}; put the first back, or train again")
    # Records and checkpoints of the first release have no checksum.
    if source.get("checksum") and now["source"]["checksum"] and source["checksum"] != now["source"]["checksum"]:
        raise UsageError(f"{what}: made with other data, their checksum differs; put those data back, or train again")
    config = in_present_form(config)
    for table in (group.name for group in GROUPS if group.name != "output"):
        then, there = config.get(table, {}), now["config"][table]
        if not isinstance(then, Mapping):
            raise UsageError(f"{what}: it has no configuration; move it away, or train again")
        for name in sorted((then.keys() | there.keys()) - ELSEWHERE, key=str):
            if not same(then.get(name), there.get(name)):
                was, now_is = (_bounded(str(options.get(name))) for options in (then, there))
                change = f"{_bounded(str(name))} was {was}, and is {now_is} in {CONFIG_NAME}"
                raise UsageError(f"{what}: {change}; undo the change, or begin a new run with it")


def _backbone(features: Any) -> str:
    """What a record says about the features of its data."""
    if not isinstance(features, Mapping):
        return "the samples themselves"
    return _bounded(f"features of {features.get('backbone')} ({str(features.get('weights'))[:19]})")


def _bounded(text: str) -> str:
    """A text from a file, shortened to what a message may quote."""
    return text if len(text) <= MOST_QUOTED else f"{text[: MOST_QUOTED * 2 // 3]}...{text[-MOST_QUOTED // 3 :]}"
