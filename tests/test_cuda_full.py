"""The script for a GPU machine runs through on a CPU, and goes on with a run that was stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import cuda_full
from synergy.engine.recorders import Play, StaticBuffers

CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:buffer_size")
def test_it_runs_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--runs", "seq-digits:synergy:40:0"]
    cpu = ["--device", "cpu", "--tiny", "--out"]
    cuda_full.main([*cpu, str(tmp_path), "--parts", *cuda_full.CHECKS])
    cuda_full.main([*cpu, str(tmp_path / "here"), "--parts", "run", *run, "--minutes", "0"])
    there = shutil.copytree(tmp_path / "here", tmp_path / "there")
    cuda_full.main([*cpu, str(there), "--parts", "run", *run])
    cuda_full.main([*cpu, str(there), "--parts", "run", *run])
    said = capsys.readouterr().out
    assert said.count("finished before") == 1
    assert "interrupted" in said and "finished" in said and "replayed / convolutions" in said


def test_a_run_that_cannot_begin_is_named_at_the_end_and_the_others_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^failed: seq-digits:nothing:40:0$"):
        cuda_full.whole_runs(CPU, True, tmp_path, ["seq-digits:nothing:40:0", "seq-digits:er:40:0"], minutes=1)
    said = capsys.readouterr().out
    assert "unknown method 'nothing'" in said and "finished" in said


@pytest.mark.slow
@pytest.mark.parametrize("part", ["fisher_diagonal", "fisher_one_by_one"])
def test_parity_can_fail(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One number of a Fisher pass is wrong in the eighth digit."""
    right = vars(cuda_full)[part]

    def wrong(*given: Any, **named: Any) -> list[Tensor]:
        found: list[Tensor] = right(*given, **named)
        found[0].mul_(1 + 1e-7)
        return found

    monkeypatch.setattr(cuda_full, part, wrong)
    with pytest.raises(SystemExit, match="a Fisher pass, together and one by one: they differ too much"):
        cuda_full.parity(CPU, tiny=True)


@pytest.mark.slow
def test_parity_of_devices_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second device computes in float32."""
    made = iter((torch.float64, torch.float32))
    bench = cuda_full.Bench
    monkeypatch.setattr(
        cuda_full,
        "Bench",
        lambda device, kind, tiny, dtype, fisher: bench(device, kind, tiny, next(made), fisher=fisher),
    )
    with pytest.raises(SystemExit, match="working, cpu and cpu: they differ too much"):
        cuda_full.parity(CPU, tiny=True)


class Careless(StaticBuffers):
    """Plays what it recorded first."""

    def record(self, compute: Play) -> Play:
        step = compute()
        return lambda: step


@pytest.mark.parametrize("part", ["replay", "methods"])
def test_replays_that_do_nothing_are_found(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_full, "StaticBuffers", Careless)
    with pytest.raises(SystemExit, match="other bits"):
        cuda_full.CHECKS[part](CPU, True)


def test_all_planned_runs_can_be_built() -> None:
    configs = {each: cuda_full.planned(each, tiny=False, given={}) for each in cuda_full.PLAN}
    assert list(configs)[:2] == ["rot-mnist:synergy:500:0", "seq-cifar10:clser:500:0"]
    assert len(configs) == len(cuda_full.PLAN) == 40
    assert not any(config.partial for config in configs.values())
    tuned = configs["seq-cifar10:clser:500:0"].method
    assert configs["seq-cifar100:clser:500:0:n_tasks=5"].method == tuned, "the values of seq-cifar10"
    assert configs["seq-cifar100:clser:500:0:n_tasks=5"].scenario.as_mapping()["n_tasks"] == 5
    without = configs["seq-cifar10:mean-er:500:0"].method.as_mapping()
    with_it = configs["seq-cifar10:synergy:500:0"].method.as_mapping()
    assert {name for name in without if without[name] != with_it[name]} <= {"penalty_weight", "fisher_update_freq"}
    assert without["penalty_weight"] == without["fisher_update_freq"] == 0 < with_it["penalty_weight"]
