"""MLflow runs. The only file that imports mlflow."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from synergy.disk import files, strict_json
from synergy.disk.locks import locked
from synergy.runs.trackers.base import TrackedRun, Tracker, curves, final_numbers, flat, require, results

if TYPE_CHECKING:
    from synergy.runs.evaluate import Evaluations
    from synergy.runs.records import Record

STATE_NAME = "mlflow.json"
"""File in a run's folder that says which run of MLflow is its own."""
LONGEST_PARAMETER = 500
"""Characters of an option's value; older servers take no more."""
MOST_PARAMETERS = 100
"""Parameters in one request."""
PATIENCE = 300.0
"""Seconds to wait for another process that makes the store."""
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflow(Tracker):
    """Logs options as parameters, losses and accuracies as metrics, and the final table as `results.json`.

    The store is `MLFLOW_TRACKING_URI`; if that is unset, `mlflow.db` (SQLite) in the folder of all runs. The experiment
    is `MLFLOW_EXPERIMENT_NAME`, or `synergy`. A metric is logged once at each step: a resumed run asks what is there.

    Args:
        run: what is logged.

    Examples:
        >>> from synergy.runs.trackers import TRACKER_CLASSES
        >>> TRACKER_CLASSES.load("mlflow") is MLflow
        True
    """

    def __init__(self, run: TrackedRun) -> None:
        from mlflow.tracking import MlflowClient

        super().__init__(run)
        given = os.environ.get("MLFLOW_TRACKING_URI")
        parent = run.folder.parent.resolve()
        lock = parent / ".mlflow.lock"
        lock.touch()
        # One process at a time makes the tables of a new store, and the experiment.
        with locked(lock, patience=PATIENCE):
            self._client = MlflowClient(tracking_uri=given or f"sqlite:///{parent / 'mlflow.db'}")
            artifacts = None if given else (parent / "mlflow-artifacts").as_uri()
            experiment = _experiment(self._client, artifacts)
        self._told: set[tuple[str, int]] = set()
        self._status = "KILLED"
        self._id = self._known() or self._new(experiment)

    @classmethod
    def check(cls) -> None:
        require("mlflow", "mlflow")

    @classmethod
    def failures(cls) -> tuple[type[Exception], ...]:
        from mlflow.exceptions import MlflowException

        return (MlflowException,)

    def _known(self) -> str | None:
        """The run that an earlier process began; None if there is none, or the store does not have it."""
        from mlflow.exceptions import MlflowException

        try:
            state = strict_json.parse((self.run.folder / STATE_NAME).read_bytes())
            known = str(state["run_id"]) if isinstance(state, dict) else ""
            metrics = self._client.get_run(known).data.metrics
        except (OSError, ValueError, LookupError, MlflowException):
            return None
        for name in metrics:
            self._told |= {(name, each.step) for each in self._client.get_metric_history(known, name)}
        self._client.update_run(known, status="RUNNING")
        return known

    def _new(self, experiment: str) -> str:
        from mlflow.entities import Param

        made = str(self._client.create_run(experiment, run_name=self.run.name).info.run_id)
        files.write_atomically(self.run.folder / STATE_NAME, json.dumps({"run_id": made}) + "\n")
        parameters = [Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in flat(self.run.config)]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(made, params=parameters[first : first + MOST_PARAMETERS])
        return made

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        if new_steps:
            self._log({f"loss/{name}": value for name, value in losses.items()}, step)

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        self._log(curves(index, evaluations), index + 1)

    def recorded(self, record: Record) -> None:
        self._log(final_numbers(record), record.steps)
        columns, rows = results(record)
        table: dict[str, Any] = {column: [row[n] for row in rows] for n, column in enumerate(columns)}
        self._client.log_table(self._id, table, "results.json")
        self._status = _STATUS[record.status]

    def close(self) -> None:
        self._client.set_terminated(self._id, self._status)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = {name: value for name, value in numbers.items() if (name, step) not in self._told}
        if new:
            self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in new.items()])


def _experiment(client: Any, artifacts: str | None) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "synergy")
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name, artifact_location=artifacts) if found is None else found.experiment_id)
