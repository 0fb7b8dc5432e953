"""The script for a GPU machine runs through on a CPU, and goes on with a run that was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import cuda_full


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:buffer_size")
def test_it_runs_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--runs", "seq-digits:synergy:40:0"]
    cpu = ["--device", "cpu", "--tiny", "--out", str(tmp_path)]
    cuda_full.main([*cpu, "--parts", *cuda_full.CHECKS])
    cuda_full.main([*cpu, "--parts", "run", *run, "--minutes", "0"])
    cuda_full.main([*cpu, "--parts", "run", *run])
    cuda_full.main([*cpu, "--parts", "run", *run])
    said = capsys.readouterr().out
    assert said.count("finished before") == 1
    assert "interrupted" in said and "finished" in said and "replayed / convolutions" in said


def test_parity_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_full, "BOUND", -1.0)
    with pytest.raises(SystemExit, match="working differs too much"):
        cuda_full.parity(torch.device("cpu"), tiny=True)


def test_all_planned_runs_can_be_built() -> None:
    configs = {each: cuda_full.planned(each, tiny=False, given={}) for each in cuda_full.PLAN}
    assert next(iter(configs)) == "seq-cifar10:clser:500:0" and len(configs) == len(cuda_full.PLAN) == 39
    assert not any(config.partial for config in configs.values())
    tuned = configs["seq-cifar10:clser:500:0"].method
    assert configs["seq-cifar100:clser:500:0:n_tasks=5"].method == tuned, "the values of seq-cifar10"
    assert configs["seq-cifar100:clser:500:0:n_tasks=5"].scenario.as_mapping()["n_tasks"] == 5
    without = configs["seq-cifar10:mean-er:500:0"].method.as_mapping()
    with_it = configs["seq-cifar10:synergy:500:0"].method.as_mapping()
    assert {name for name in without if without[name] != with_it[name]} <= {"penalty_weight", "fisher_update_freq"}
    assert without["penalty_weight"] == without["fisher_update_freq"] == 0 < with_it["penalty_weight"]
