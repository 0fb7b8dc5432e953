"""What MLflow holds of a run, read back from a local SQLite store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from synergy.disk.series import Series
from synergy.runs import records
from synergy.runs.config import build
from synergy.runs.evaluate import Evaluations
from synergy.runs.listeners import Listener
from synergy.runs.prepare import prepare
from synergy.runs.records import Record
from synergy.runs.resume import resume
from synergy.runs.session import execute
from synergy.state import State

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables, which take long to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def runs(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for runs with such a store in it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


def config_of(folder: Path, **options: Any) -> Any:
    small = {"n_tasks": 2, "max_steps_per_task": 6, "experiment_id": "one", "log": ("mlflow",), "buffer_size": 40}
    return build("rot-digits", "synergy", small | {"output_dir": str(folder)} | options)


def stored(folder: Path) -> tuple[MlflowClient, Any]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("synergy")
    assert experiment is not None
    (only,) = client.search_runs([experiment.experiment_id])
    return client, only


def check_numbers(client: MlflowClient, run_id: str, record: Record) -> None:
    """The curves and the final numbers are those of the record, each point once."""
    for each in record.accuracies:
        key = f"{each.protocol}/{each.predictor}"
        curve = [(point.step, point.value) for point in client.get_metric_history(run_id, f"accuracy/{key}")]
        rows = [[value or 0.0 for value in row[: t + 1]] for t, row in enumerate(each.matrix)]
        wanted: list[tuple[int, object]] = [(t + 1, pytest.approx(sum(row) / len(row))) for t, row in enumerate(rows)]
        assert curve == wanted
        first = client.get_metric_history(run_id, f"accuracy_on_task/{key}/1")
        assert [point.value for point in first] == [pytest.approx(row[0]) for row in rows]
        metrics = client.get_run(run_id).data.metrics
        assert metrics[f"final/{key}/final_average"] == pytest.approx(each.metrics["final_average"])
    losses = [point.step for point in client.get_metric_history(run_id, "loss/loss")]
    assert losses == sorted(set(losses)) and losses[-1] == record.steps


def test_options_curves_and_table_are_there(runs: Path) -> None:
    record, folder = execute(prepare(config_of(runs)))
    client, found = stored(runs)
    assert (found.info.run_name, found.info.status) == ("one", "FINISHED")
    assert found.data.params["method.name"] == "synergy" and found.data.params["method.buffer_size"] == "40"
    assert found.data.params["training.seed"] == "0"
    check_numbers(client, found.info.run_id, record)
    (artifact,) = client.list_artifacts(found.info.run_id)
    local = Path(found.info.artifact_uri.removeprefix("file://")) / artifact.path
    table = mlflow.artifacts.load_dict(local.as_uri())
    assert table["columns"][:3] == ["predictor", "protocol", "final_average"]
    assert [row[0] for row in table["data"]] == [each.predictor for each in record.accuracies]
    assert table["data"][0][2] == pytest.approx(record.answer().metrics["final_average"])
    assert (folder / "mlflow.json").exists()


def test_a_resumed_run_goes_on_in_the_same_run_and_says_nothing_twice(runs: Path) -> None:
    config = config_of(runs, checkpoint_every=4)
    count = iter(range(100))
    record, folder = execute(prepare(config), None, lambda: next(count) >= 8)
    assert record.status == "interrupted" and stored(runs)[1].info.status == "KILLED"
    record, _ = resume(folder)
    client, found = stored(runs)
    assert found.info.status == "FINISHED"
    check_numbers(client, found.info.run_id, record)


def test_a_run_killed_after_a_task_tells_it_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was logged between the last checkpoint and the kill is not logged again."""
    add = Series.add

    def killed(self: Series, state: State, *, step: int, task: int) -> None:
        if task == 1:
            raise KeyboardInterrupt
        add(self, state, step=step, task=task)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Series, "add", killed)
        execute(prepare(config_of(runs, checkpoint_every=4)))
    assert stored(runs)[1].data.metrics["accuracy/domain-IL/semantic"] > 0
    record, _ = resume(runs / "one")
    client, found = stored(runs)
    assert found.info.status == "FINISHED"
    check_numbers(client, found.info.run_id, record)


def test_a_store_of_ones_own_is_taken(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(empty_store, tmp_path / "elsewhere" / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    monkeypatch.chdir(tmp_path)
    execute(prepare(config_of(tmp_path / "runs")))
    assert not (tmp_path / "runs" / "mlflow.db").exists()
    client = MlflowClient(f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}")
    mine = client.get_experiment_by_name("mine")
    assert mine is not None and len(client.search_runs([mine.experiment_id])) == 1


class Breaks(Listener):
    """Destroys the store after the first task."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        if index == 0:
            self.path.write_bytes(b"no database")


def test_a_store_that_breaks_in_the_middle_is_one_warning(runs: Path) -> None:
    with pytest.warns(UserWarning) as told:
        record, folder = execute(prepare(config_of(runs)), Breaks(runs / "mlflow.db"))
    assert record.status == "finished" and records.read(folder) == record
    mine = [str(each.message) for each in told if "no more logging" in str(each.message)]
    assert len(mine) == 1
    assert mine[0].startswith("no more logging to mlflow: MlflowException: ") and mine[0].endswith("; training goes on")


def test_a_server_that_is_not_there_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.warns(UserWarning, match="no more logging to mlflow: MlflowException: .*; training goes on"):
        record, _ = execute(prepare(config_of(tmp_path)))
    assert record.status == "finished"
