"""Devices and the precision of computation."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch

from synergy.errors import OVERFLOW, SHORTAGES, TrainingError, UsageError

PRECISIONS = ("fp32", "tf32", "bf16")
OUT_OF_MEMORY = "out of memory; lower --batch_size, --minibatch_size, --buffer_size, --fisher_memory_mb or the network"
FISHER_MEMORY_MB, FISHER_MEMORY_MB_CUDA = 1024, 16384
"""Usual bound on intermediate results of a Fisher pass; on CUDA at most half of what is free."""
TOO_LARGE = "training diverged: a number of the step is too large for float32; lower the learning rate or a loss weight"


def find_device(name: str | torch.device) -> torch.device:
    """The device called `name`: "cpu", "cuda", "cuda:1", "mps", or "auto" for cuda if available and cpu otherwise.

    Raises:
        UsageError: the machine lacks this device.

    Examples:
        >>> find_device("cpu")
        device(type='cpu')
    """
    numbers = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if name == "auto":
        return torch.device("cuda" if numbers["cuda"] else "cpu")
    try:
        found = torch.device(name)
    except (RuntimeError, TypeError):
        found = None  # the text names no device
    if found is None or (found.index or 0) >= numbers.get(found.type, 0):
        there = ", ".join(kind for kind, number in numbers.items() if number)
        raise UsageError(f"device: given {name}, which this machine does not have; available: {there}")
    # The CPU is the same with and without a number.
    return torch.device("cpu") if found.type == "cpu" else found


def usual_precision(device: torch.device) -> str:
    """The precision where none is given: "tf32" on CUDA, whose cards take several times as long for "fp32"."""
    return "tf32" if device.type == "cuda" else "fp32"


def usual_layouts(device: torch.device) -> tuple[str, ...]:
    """The memory layouts where none is given, the best first; a network may be unable to take it."""
    return ("channels_last", "contiguous") if device.type == "cuda" else ("contiguous",)


def usual_fisher_memory(device: torch.device) -> int:
    """The bound on intermediate results of a Fisher pass where none is given, MiB."""
    return fitting_memory(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else FISHER_MEMORY_MB


def fitting_memory(free: int) -> int:
    """The usual bound on a CUDA device with so many free bytes, MiB: a power of two, at most half of what is free.

    Last bits of the Fisher information depend on the bound. So it is the same whatever little is taken already.

    Examples:
        >>> fitting_memory(79 * 2**30), fitting_memory(11 * 2**30), fitting_memory(9 * 2**30)
        (16384, 4096, 4096)
    """
    return min(FISHER_MEMORY_MB_CUDA, 1 << max(0, (free // 2**21).bit_length() - 1))


def autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """The context of a step. With bf16, convolutions and matrix products run in bfloat16; parameters keep float32."""
    if precision != "bf16":
        return nullcontext
    # Without the cache of cast weights: a step changes weights in place and uses them again.
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, cache_enabled=False)


@contextmanager
def exactness(precision: str) -> Iterator[None]:
    """Within, CUDA uses algorithms that repeat bit by bit, in full float32 unless `precision` is "tf32"."""
    mode = "tf32" if precision == "tf32" else "ieee"
    matmul = torch.backends.cuda.matmul
    convolution = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # put there at run time
    before = matmul.fp32_precision, convolution.fp32_precision, torch.backends.cudnn.deterministic
    matmul.fp32_precision, convolution.fp32_precision, torch.backends.cudnn.deterministic = mode, mode, True
    try:
        yield
    finally:
        matmul.fp32_precision, convolution.fp32_precision, torch.backends.cudnn.deterministic = before


@contextmanager
def memory_errors(message: str = OUT_OF_MEMORY) -> Iterator[None]:
    """Within, a lack of memory or a number too large for its tensor is a TrainingError that says what to lower.

    Args:
        message: for a lack of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError, TypeError) as error:
        check_shortage(error, message)
        raise


def check_shortage(error: RuntimeError | MemoryError | TypeError, message: str = OUT_OF_MEMORY) -> None:
    """Raises TrainingError, which says what to lower, if memory ran out or a number is too large for its tensor.

    Args:
        error: any.
        message: for a lack of memory.
    """
    if is_shortage(error):
        raise TrainingError(message) from error
    if OVERFLOW in str(error):
        raise TrainingError(TOO_LARGE) from error


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out.

    Examples:
        >>> is_shortage(RuntimeError("CUDA error: out of memory")), is_shortage(RuntimeError("shapes do not match"))
        (True, False)
    """
    told = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return told or any(shortage in str(error) for shortage in SHORTAGES)


def device_name(device: torch.device) -> str:
    """The name of a device, such as "cpu (AMD EPYC, 2 threads)" or "cuda (NVIDIA H200)"."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({_processor()}, {threads} thread{'s' * (threads != 1)})"
    return device.type


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def keep_freed_memory() -> bool:
    """Let the C library keep the memory of freed tensors for the next ones, up to 256 MB, in this process.

    By default glibc gives large blocks back to the system at once. Then every large intermediate result starts with
    page faults, which take longer than its arithmetic. The command line calls this; call it yourself in a script of
    your own.

    Returns:
        Whether it has an effect: only with glibc on Linux.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    kept = (library.mallopt(option, size) for option, size in ((_MMAP_THRESHOLD, 32 * 2**20), (_TRIM_THRESHOLD, 2**28)))
    return all(kept)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of options of glibc's `mallopt`."""
