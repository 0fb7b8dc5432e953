"""A run at work in its folder, from wherever it is to its record."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synergy.device import device_name, exactness, memory_errors
from synergy.disk.series import Series
from synergy.errors import TrainingError
from synergy.release import release
from synergy.runs import csv_log, records
from synergy.runs.clock import Clock
from synergy.runs.config import RunConfig
from synergy.runs.folder import new_folder, owned, writing, writing_into
from synergy.runs.listeners import Listener, Listeners
from synergy.runs.metrics import summary, transfers_forward
from synergy.runs.prepare import Prepared, prepare
from synergy.runs.records import Accuracies, Measured, Record, Status
from synergy.runs.trackers import TRACKER_CLASSES, TrackedRun
from synergy.runs.trackers.base import Guarded
from synergy.runs.training import Stopped, Training
from synergy.scenarios.base import AnyScenario
from synergy.state import State
from synergy.types import ProtocolName

CHECKPOINTS_NAME = "checkpoint"


class Session:
    """A run in its own folder, from any step to its end. Its state is enough to go on.

    Args:
        prepared: the parts, fresh.
        folder: of the run, with its configuration in it. No other process may run in it.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from synergy.runs.config import build
        >>> config = build("seq-digits", "sgd", {"max_tasks": 2, "max_steps_per_task": 3})
        >>> with TemporaryDirectory() as folder:
        ...     record, _ = Session(prepare(config), Path(folder) / "run").proceed()
        >>> record.status, record.steps
        ('finished', 6)
    """

    def __init__(self, prepared: Prepared, folder: Path) -> None:
        config = prepared.config
        self.prepared = prepared
        self.folder = folder
        self.checkpoints = Series(folder / CHECKPOINTS_NAME, config.output.keep)
        self.clock = Clock(prepared.device)
        self.training = Training(
            prepared.worker,
            prepared.scenario,
            prepared.schedule,
            seed=config.training.seed,
            save=None if config.output.checkpoint_every is None else self._save,
            save_every=config.output.checkpoint_every,
        )

    def state_dict(self) -> State:
        return {
            "run": origin(self.prepared),
            "clock": self.clock.state_dict(),
            "training": self.training.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on exactly where `state` was taken. Raises ValueError if it belongs to another run."""
        self.clock.load_state_dict(state["clock"])
        self.training.load_state_dict(state["training"])

    def proceed(
        self, listener: Listener | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> tuple[Record, Path]:
        """Train, evaluate, and leave the record; see `execute`."""
        training = self.training
        listener = Listeners(*([] if listener is None else [listener]), *self._trackers())
        training.listener, training.should_stop = listener, should_stop
        status: Status = "finished"
        error = None
        try:
            try:
                with exactness(self.prepared.worker.means.precision), memory_errors():
                    training.run()
            except TrainingError as failure:
                status, error = "failed", str(failure)
            except Stopped:
                status, error = "interrupted", f"stopped after step {training.steps}"
            measured = self.clock.read(training)
            record = _record(self.prepared, training, self.folder.name, status, error, measured)
            with writing_into(self.folder):
                records.write(record, self.folder)
            if status == "finished":
                with writing(self.folder.parent):
                    publish(record, self.folder.parent)
            listener.recorded(record)
        finally:
            listener.close()
        return record, self.folder

    def _trackers(self) -> list[Listener]:
        config = self.prepared.config
        run = TrackedRun(self.folder, config.as_mapping(), self.training.steps)
        return [Guarded(name, TRACKER_CLASSES.load(name), run) for name in config.output.trackers()]

    def _save(self, training: Training) -> None:
        """A checkpoint that cannot be written is no reason to stop: what is lost is time, and only if more goes wrong.

        Only what depends on the machine is forgiven; a state that cannot be saved at all is a defect.
        """
        try:
            self.checkpoints.add(self.state_dict(), step=training.steps, task=len(training.evaluations))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            place = f"no checkpoint after step {training.steps}: cannot write to '{self.checkpoints.folder}'"
            warnings.warn(f"{place}: {reason}; training goes on", stacklevel=2)


def execute(
    prepared: Prepared, listener: Listener | None = None, should_stop: Callable[[], bool] = lambda: False
) -> tuple[Record, Path]:
    """Train, evaluate, and leave config and record in the run's own folder below `output_dir`.

    Returns:
        The record and the folder. A run that was stopped or failed has a record too, and its status says so.

    Raises:
        UsageError: the output folder cannot be written, or a CSV table that is there already is damaged.
    """
    folder = new_folder(Path(prepared.config.output.output_dir), prepared.config)
    with owned(folder):
        return Session(prepared, folder).proceed(listener, should_stop)


def run(config: RunConfig, listener: Listener | None = None) -> Record:
    """Prepare and execute in one call; the record says how it ended."""
    return execute(prepare(config), listener)[0]


def publish(record: Record, output_dir: Path) -> None:
    """Put a finished run into the tables of all runs.

    Raises:
        UsageError: a CSV table that is there already is damaged.
        OSError: the folder cannot be written.
    """
    try:
        # First, so that a run among the results has its rows wherever a kill came in between.
        if csv_log.is_wanted(record):
            csv_log.write_csv(record, output_dir)
    finally:
        records.append(record, output_dir)


def origin(prepared: Prepared) -> dict[str, Any]:
    """What a state of this run goes together with: its configuration, data, device and versions."""
    config = prepared.config.as_mapping()
    source = prepared.source.as_mapping()
    return {"config": config, "source": source, "device": device_name(prepared.device), "versions": versions(prepared)}


def _record(
    prepared: Prepared, training: Training, run_id: str, status: Status, error: str | None, measured: Measured
) -> Record:
    config, scenario = prepared.config, prepared.scenario
    return Record(
        schema_version=records.SCHEMA_VERSION,
        run_id=run_id,
        status=status,
        error=error,
        partial=config.partial,
        config=config.as_mapping(),
        provenance=dict(config.provenance),
        source=prepared.source.as_mapping(),
        task_classes=_task_classes(scenario),
        n_parameters=prepared.n_parameters,
        steps=training.steps,
        versions=versions(prepared),
        device=device_name(prepared.device),
        seed=config.training.seed,
        accuracies=accuracies(training),
        measured=measured,
        final_losses=training.last_losses,
        source_labels=scenario.source_labels,
        online=tuple(training.online.tasks),
    )


def _task_classes(scenario: AnyScenario) -> tuple[tuple[int, ...], ...]:
    return tuple(scenario.task(index).classes for index in range(scenario.n_tasks))


def accuracies(training: Training) -> tuple[Accuracies, ...]:
    """The matrix and metrics of every predictor and protocol that was evaluated at least once."""
    keys = list(dict.fromkeys(key for evaluation in training.evaluations for key in evaluation))
    task_classes = _task_classes(training.scenario)
    return tuple(_accuracies(*key, training, task_classes) for key in keys)


def _accuracies(
    predictor: str, protocol: ProtocolName, training: Training, task_classes: tuple[tuple[int, ...], ...]
) -> Accuracies:
    of_untrained = training.baseline[("untrained", protocol)].accuracies
    missing = (None,) * len(of_untrained)
    rows = [evaluation.get((predictor, protocol)) for evaluation in training.evaluations]
    matrix = tuple(missing if row is None else row.accuracies for row in rows)
    last = rows[-1]
    compared = of_untrained if transfers_forward(protocol, task_classes) else ()
    own = {} if last is None else training.scenario.own_metrics(len(rows) - 1, last.per_class)
    return Accuracies(
        predictor=predictor,
        protocol=protocol,
        matrix=matrix,
        baseline=of_untrained,
        per_class={} if last is None else {str(label): value for label, value in last.per_class.items()},
        calibration_error=None if last is None else last.calibration_error,
        metrics=summary(matrix, compared) | own | _online(predictor, protocol, training),
    )


def _online(predictor: str, protocol: ProtocolName, training: Training) -> dict[str, float]:
    """The accuracy on the stream, for the predictor and the protocol that it is of."""
    mean = training.online.mean()
    judged = (training.method.outputs_of, training.scenario.protocols[0])
    return {"online_accuracy": mean} if mean is not None and (predictor, protocol) == judged else {}


def versions(prepared: Prepared) -> dict[str, str]:
    """Releases of Python and the libraries that decide a result, and the hash of each file of the user's own."""
    names = ("synergy-cl", "torch", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: release(name) for name in names}, **prepared.code}
