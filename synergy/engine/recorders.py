"""What makes recordings of steps: CUDA graphs on a GPU, nothing but the same buffers elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeAlias

import torch

from synergy.device import is_shortage
from synergy.errors import TrainingError
from synergy.types import Step

SHORT_OF_MEMORY = (
    "out of memory while a step was recorded; lower --batch_size, --minibatch_size, --buffer_size, --fisher_memory_mb "
    "or the network; or give --eager, which needs less (a run that goes on: eager = true in its config.toml)"
)

Play: TypeAlias = Callable[[], Step]


class CannotRecord(Exception):  # noqa: N818 - not an error: the step is taken as it is
    """A step cannot be recorded, for the reason given."""


class NoRoomToRecord(TrainingError):  # noqa: N818 - says what is missing
    """There is no memory for a recording."""


def not_recorded(error: RuntimeError) -> CannotRecord:
    """What it means that a recording failed.

    Args:
        error: the end of a recording that failed raises an error of its own, in front of the first one.

    Raises:
        NoRoomToRecord: there was no memory for it.
        KeyboardInterrupt: Ctrl-C came while it was made.
    """
    found: list[BaseException] = [error]
    while (earlier := found[-1].__context__) is not None:
        found.append(earlier)
    for each in reversed(found):
        if not isinstance(each, Exception):
            raise each
        if is_shortage(each):
            raise NoRoomToRecord(SHORT_OF_MEMORY) from each
    lines = [line for each in reversed(found) if isinstance(each, RuntimeError) for line in str(each).splitlines()]
    reason = next((line.strip() for line in lines if line.strip()), type(error).__name__)
    return CannotRecord(f"CUDA cannot record it ({reason})")


class Recorder(Protocol):
    """Makes recordings of steps."""

    def warming(self) -> AbstractContextManager[object]:
        """The context of a step that is taken before one of its kind is recorded."""

    def record(self, compute: Play) -> Play:
        """What does again what `compute` does, on the same buffers, and returns what is then in them.

        Raises:
            CannotRecord: it does something that no recording can hold.
            NoRoomToRecord: there is no memory for it.
        """


class StaticBuffers:
    """No recording: every step is computed on the buffers, on any device. So the rules of replay hold on a CPU too.

    Examples:
        >>> step = Step({})
        >>> StaticBuffers().record(lambda: step)() is step
        True
    """

    def warming(self) -> AbstractContextManager[object]:
        return nullcontext()

    def record(self, compute: Play) -> Play:
        return compute


class CudaGraphs:
    """Recordings as CUDA graphs.

    Args:
        device: a CUDA device.

    Examples:
        >>> if torch.cuda.is_available():
        ...     recorder = CudaGraphs(torch.device("cuda"))
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def warming(self) -> Iterator[None]:
        """Within, work goes to the stream that records: its libraries are ready afterwards."""
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)

    def record(self, compute: Play) -> Play:
        usual = torch.cuda.current_stream(self._device)
        try:
            graph = torch.cuda.CUDAGraph()
            # Recordings share memory: a step ends before the next begins, and what it returns is copied at once.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                step = compute()
        except RuntimeError as error:
            raise not_recorded(error) from error
        finally:
            torch.cuda.set_stream(usual)  # a recording that fails leaves its own

        def play() -> Step:
            graph.replay()
            return step

        return play
