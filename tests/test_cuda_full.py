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
    said = capsys.readouterr().out
    assert "interrupted" in said and "finished" in said and "replayed / convolutions" in said


def test_parity_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_full, "BOUND", -1.0)
    with pytest.raises(SystemExit, match="working differs too much"):
        cuda_full.parity(torch.device("cpu"), tiny=True)
