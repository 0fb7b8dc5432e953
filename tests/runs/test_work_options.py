"""Options of how a method works in a run: optimiser, schedule, clipping, class weights, where memories keep samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from synergy import build
from synergy.errors import UsageError
from synergy.runs.config_file import FileContent, from_toml, in_present_form, read_config
from synergy.runs.prepare import prepare
from synergy.runs.session import run
from synergy.state import same
from synergy.types import Batch
from tests.commands import call

MADE = """
import torch

def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)

def halving(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)

def nothing(optimizer):
    return None
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "made.py"
    path.write_text(MADE)
    return path


def after_steps(**options: Any) -> Any:
    """The state of a method after a few steps of a run."""
    method = options.pop("method", "er")
    memory = {} if method == "si" else {"buffer_size": 40}
    prepared = prepare(build("seq-digits", method, memory | options))
    task, view = prepared.scenario.task(0), prepared.scenario.view
    prepared.method.begin_task(task)
    for raw, labels in list(task.batches(0))[:6]:
        prepared.worker.step(Batch(raw, view.plain(raw), labels))
        prepared.worker.schedule()
    return prepared


def weights(prepared: Any) -> torch.Tensor:
    values: torch.Tensor = prepared.method.weights.values
    return values


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "adagrad"])
def test_an_optimiser_by_name(name: str) -> None:
    prepared = after_steps(optimizer=name, lr=0.01)
    assert type(prepared.method.optimizer).__name__.lower() == name
    assert prepared.method.optimizer.param_groups[0]["lr"] == 0.01


def test_an_optimiser_and_a_schedule_from_a_file(made: Path) -> None:
    prepared = after_steps(optimizer=f"{made}:momentum", schedule=f"{made}:halving")
    (group,) = prepared.method.optimizer.param_groups
    assert group["momentum"] == 0.9 and group["lr"] == 0.05 / 2**3


def test_clipping_bounds_every_step() -> None:
    start = weights(prepare(build("seq-digits", "er", {"buffer_size": 40}))).clone()
    assert (weights(after_steps(clip_norm=1e-3, lr=1.0)) - start).norm() <= 6 * 1e-3
    assert (weights(after_steps(lr=1.0)) - start).norm() > 6 * 1e-3


def test_a_class_without_weight_is_not_learned() -> None:
    ignoring = after_steps(class_weights=[0.0] * 10)
    assert torch.equal(weights(ignoring), weights(prepare(build("seq-digits", "er", {"buffer_size": 40}))))
    assert not torch.equal(weights(after_steps(class_weights=[1.0, 5.0] * 5)), weights(after_steps()))


def test_memory_on_the_host_changes_no_bit() -> None:
    one, other = after_steps(), after_steps(memory_on="host")
    assert other.method.memory.store.on_host and same(one.method.state_dict(), other.method.state_dict())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"optimizer": "adma"}, "unknown optimizer 'adma'; did you mean 'adam'"),
        ({"optimizer": "adam", "method": "si"}, "optimizer: given adam for si"),
        ({"clip_norm": 1.0, "method": "hal"}, "allowed: sgd without clip_norm"),
        ({"class_weights": [1.0, 2.0]}, "class_weights: given 2; allowed: 10"),
        ({"class_weights": [1.0] * 10, "method": "gss"}, "class_weights: given for gss"),
        ({"schedule": "nowhere.py:make"}, "cannot read the file"),
        ({"schedule": "cosine"}, "schedule: given 'cosine'; allowed: package.module:function"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        after_steps(**options)


def test_functions_that_are_not_there_or_make_something_else(made: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'halving'"):
        after_steps(schedule=f"{made}:halfing")
    with pytest.raises(UsageError, match="scheduler: it made a NoneType"):
        after_steps(schedule=f"{made}:nothing")


def test_a_run_with_all_of_them_is_resumed_to_the_same_bits(made: Path, tmp_path: Path) -> None:
    flags = f"--dataset seq-digits --model er --buffer_size 40 --n_epochs 1 --max_tasks 2 --optimizer {made}:momentum "
    flags += f"--schedule {made}:halving --clip_norm 1 --memory_on host --checkpoint_every 20 --keep 9 "
    flags += f"--output_dir {tmp_path}/runs"
    whole = call(*f"run {flags} --experiment_id whole".split())
    assert whole.code == 0, whole.err
    assert call(*f"run {flags} --experiment_id part".split()).code == 0
    part = tmp_path / "runs" / "part"
    for checkpoint in sorted((part / "checkpoint").iterdir())[1:]:
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    (part / "record.json").unlink()
    (tmp_path / "runs" / "results.jsonl").unlink()
    resumed = call("resume", part)
    assert resumed.code == 0 and "goes on after step 20" in resumed.out + resumed.err
    from synergy.runs import records

    one, other = (records.read(tmp_path / "runs" / name) for name in ("whole", "part"))
    assert [each.matrix for each in one.accuracies] == [each.matrix for each in other.accuracies]
    assert one.final_losses == other.final_losses


def test_a_run_repeats_with_dropout(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(
        "from torch import nn\n\n"
        "class Dropping(nn.Sequential):\n"
        "    def __init__(self, shape, n_classes):\n"
        "        layers = [nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, n_classes)]\n"
        "        super().__init__(*layers)\n"
    )
    options = {"net": f"{net}:Dropping", "buffer_size": 40, "n_epochs": 1, "max_tasks": 2, "output_dir": str(tmp_path)}
    one, other = (run(build("seq-digits", "er", options)) for _ in range(2))
    assert one.outcome() == other.outcome()


def test_an_option_that_is_newer_than_the_file_means_what_runs_did_before(tmp_path: Path) -> None:
    config = build("seq-digits", "synergy", {"buffer_size": 40})
    assert config.method.as_mapping()["ema_warmup"] == 30
    path = tmp_path / "config.toml"
    path.write_text("\n".join(line for line in config.to_toml().splitlines() if "ema_warmup" not in line))
    assert read_config(path).method.as_mapping()["ema_warmup"] == 1
    content = from_toml(path)
    assert isinstance(content, FileContent) and content.complete()["ema_warmup"] == 1
    old = config.as_mapping()
    del old["method"]["ema_warmup"], old["training"]["memory_on"]
    now = in_present_form(old)
    assert now["method"]["ema_warmup"] == 1 and now["training"]["memory_on"] == "device"
