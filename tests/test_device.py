"""An error about memory becomes one that says what to lower; any other error stays as it is."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from synergy.device import OUT_OF_MEMORY, PRECISIONS, autocast, exactness, find_device, memory_errors
from synergy.errors import TrainingError, UsageError
from synergy.runs import records
from tests.commands import BRIEF, run


def raises(error: Exception) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


@pytest.mark.parametrize(
    "asked",
    [
        raises(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
        raises(MemoryError()),
        lambda: torch.empty(2**60, dtype=torch.uint8),
        lambda: torch.empty(2**62, 2**10, dtype=torch.uint8),
        lambda: np.empty(2**60, dtype=np.uint8),
    ],
    ids=["of CUDA", "of Python", "of the CPU's allocator", "of any machine", "of numpy"],
)
def test_no_room(asked: Callable[[], object]) -> None:
    with pytest.raises(TrainingError, match=r"^out of memory; lower --batch_size, ") as caught, memory_errors():
        asked()
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), UsageError("lr: no")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_errors():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("size", [10**13, 10**18])
def test_a_memory_larger_than_the_machine_ends_in_one_line(tmp_path: Path, size: int) -> None:
    outcome = run(tmp_path, "rot-digits", "er", *BRIEF, "--buffer_size", size)
    assert (outcome.code, outcome.err) == (1, f"synergy: error: run failed: {OUT_OF_MEMORY}\n")
    (path,) = tmp_path.glob("*/record.json")
    assert records.read(path).status == "failed"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"^device: given {name}, which this machine does not have; available: cpu$"):
        find_device(name)
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_bf16_computes_in_bfloat16(precision: str) -> None:
    left, right = torch.ones(2, 2), torch.ones(2, 2)
    with autocast(precision, torch.device("cpu"))():
        assert (left @ right).dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


def test_exactness_is_put_back() -> None:
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.deterministic
    with pytest.raises(ZeroDivisionError), exactness("tf32"):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.backends.cudnn.deterministic
        raise ZeroDivisionError
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.deterministic) == before


def test_freed_memory_is_kept_where_there_is_glibc() -> None:
    """In a process of its own: once the heap is large enough, large tensors cause no page faults any more."""
    code = (
        "import resource, torch\n"
        "from synergy.device import keep_freed_memory\n"
        "assert keep_freed_memory()\n"
        "for _ in range(20): torch.zeros(4_000_000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): torch.zeros(4_000_000)\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 20 * 16_000_000 / 4096 / 4\n"
    )
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("needs glibc")
    subprocess.run([sys.executable, "-c", code], check=True)
