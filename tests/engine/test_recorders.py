"""What becomes of a recording that fails: no memory ends the run with one line and its checkpoint, the rest runs on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from synergy.engine import worker
from synergy.engine.recorders import (
    SHORT_OF_MEMORY,
    CannotRecord,
    CudaGraphs,
    NoRoomToRecord,
    Recorder,
    StaticBuffers,
    not_recorded,
)
from synergy.engine.worker import Means
from synergy.runs.config import CONFIG_NAME, build
from synergy.runs.prepare import prepare
from synergy.runs.resume import resume
from synergy.runs.session import execute
from synergy.types import Step

FAILED = (
    "CUDA error: operation failed due to a previous error during capture\nfor debugging consider CUDA_LAUNCH_BLOCKING"
)


def raised_at_the_end(first: BaseException) -> RuntimeError:
    """As `torch.cuda.graph` raises it: its end fails too, since the recording is broken."""
    try:
        try:
            raise first
        finally:
            raise RuntimeError(FAILED)
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    "first",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_no_memory_is_told_although_the_end_of_the_recording_fails_too(first: RuntimeError) -> None:
    for error in (first, raised_at_the_end(first)):
        with pytest.raises(NoRoomToRecord) as caught:
            not_recorded(error)
        assert str(caught.value) == SHORT_OF_MEMORY and "--fisher_memory_mb" in SHORT_OF_MEMORY


def test_the_reason_is_the_first_line_of_the_first_error() -> None:
    waits = RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")
    for error in (waits, raised_at_the_end(waits)):
        assert str(not_recorded(error)) == (
            "CUDA cannot record it (CUDA error: operation not permitted when stream is capturing)"
        )
    none = RuntimeError("CUDA graphs may only be used in Pytorch built with CUDA >= 11.0 or ROCM >= 5.3")
    assert "CUDA graphs may only be used" in str(not_recorded(none))
    assert str(not_recorded(raised_at_the_end(KeyError("not torch's")))).startswith("CUDA cannot record it (CUDA error")
    assert "RuntimeError" in str(not_recorded(RuntimeError()))


def test_ctrl_c_during_a_recording_is_no_reason_to_go_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        not_recorded(raised_at_the_end(KeyboardInterrupt()))


def test_where_graphs_are_missing_steps_are_computed_anew_on_the_usual_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of torch without CUDA has no graphs: what it says is what a driver without them says."""
    usual = object()
    left: list[object] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: usual)
    monkeypatch.setattr(torch.cuda, "set_stream", left.append)
    if torch.version.cuda is not None:
        pytest.skip("this build of torch has graphs")
    with pytest.raises(CannotRecord, match=r"^CUDA cannot record it .*CUDAGraph"):
        CudaGraphs(torch.device("cuda")).record(lambda: Step({}))
    assert left == [usual]


def test_only_cuda_records_and_eager_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CudaGraphs", lambda device: StaticBuffers())
    assert isinstance(Means(torch.device("cuda")).recorder(), StaticBuffers)
    assert Means(torch.device("cuda"), eager=True).recorder() is None
    assert Means(torch.device("cpu")).recorder() is None and Means(torch.device("mps")).recorder() is None


class Filling(StaticBuffers):
    """Has memory for some recordings, and for no more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def record(self, compute: Callable[[], Step]) -> Callable[[], Step]:
        self.room -= 1
        if self.room < 0:
            raise not_recorded(torch.OutOfMemoryError("CUDA out of memory"))
        return compute


def test_a_run_that_finds_no_memory_for_a_recording_keeps_its_checkpoint_and_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "max_tasks": 2,
        "max_steps_per_task": 12,
        "ema_update_freq": 0.5,
        "fisher_update_freq": 0.3,
    }
    given |= {"buffer_size": 40, "checkpoint_every": 4, "device": "cpu"}
    whole, _ = execute(prepare(build("seq-digits", "synergy", {**given, "output_dir": str(tmp_path / "whole")})))
    filling: list[Recorder] = [Filling(1)]
    monkeypatch.setattr(Means, "recorder", lambda means: None if means.eager else filling[0])
    config = build("seq-digits", "synergy", {**given, "output_dir": str(tmp_path / "stopped")})
    record, folder = execute(prepare(config))
    assert (record.status, record.error) == ("failed", SHORT_OF_MEMORY)
    assert list((folder / "checkpoint").iterdir()), "there is a checkpoint"
    file = folder / CONFIG_NAME
    file.write_text(file.read_text().replace("eager = false", "eager = true"))
    finished, _ = resume(folder)
    assert finished.status == "finished" and finished.outcome()["accuracies"] == whole.outcome()["accuracies"]
    assert finished.final_losses == whole.final_losses
