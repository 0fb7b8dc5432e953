"""Steps that repeat: recorded once on buffers that stay, then replayed.

A step is launched operation by operation, and on a GPU that takes longer than the operations themselves. Steps that
agree in all their flags and shapes do the same operations on other numbers. Such steps share one set of buffers and one
recording, which is launched as a whole. What a recording does is what `compute` did when it was recorded: it depends on
no counter of the host, and on no tensor that is replaced later.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from synergy.decisions import Row, branch, is_open, rows
from synergy.device import memory_errors
from synergy.engine.context import Context
from synergy.engine.waits import WaitWatch
from synergy.memory.base import Memory
from synergy.methods.base import Method
from synergy.ops.vectors import Flat, PerParameter
from synergy.types import Batch, Split, Step, View, ViewDraws

AHEAD = 32
"""Most steps that are decided, and brought to the device, at once. A run that is asked to stop finishes them."""
WARM_UPS = 2
"""Steps of a kind that are taken before one is recorded: libraries and optimisers prepare themselves in the first."""
RESTLESS = 20
"""So many steps in a row, each with another learning rate, and no step is recorded any more."""
SHORT_OF_MEMORY = (
    "out of memory while a step was recorded; lower --batch_size, --minibatch_size, --buffer_size, --fisher_memory_mb "
    "or the network, or give --eager, which needs less"
)

Play: TypeAlias = Callable[[], Step]


class CannotRecord(Exception):  # noqa: N818 - not an error: the step is taken as it is
    """A step cannot be recorded, for the reason given."""


class Recorder(Protocol):
    """Makes recordings of steps."""

    def warming(self) -> AbstractContextManager[object]:
        """The context of a step that is taken before one of its kind is recorded."""

    def record(self, compute: Play) -> Play:
        """What does again what `compute` does, on the same buffers, and returns what is then in them.

        Raises:
            CannotRecord: it does something that no recording can hold.
            TrainingError: there is no memory for it.
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
        # Recordings share memory: a step ends before the next begins, and what it returns is copied at once.
        with memory_errors(SHORT_OF_MEMORY):
            try:
                graph = torch.cuda.CUDAGraph()
                recording = torch.cuda.graph(
                    graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
                )
                with recording:
                    step = compute()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                raise CannotRecord(f"CUDA cannot record it ({reason[0]})") from error

        def play() -> Step:
            graph.replay()
            return step

        return play


class Replays:
    """The steps of a method, recorded and replayed where that is possible.

    Args:
        method: at work.
        recorder: makes the recordings.
        device: of its networks; None for the CPU.
        within: context of the computation: its precision.
        drawing: context of a step that draws random numbers.
        lent: the same for a step that is recorded.
        warm_ups: steps of a kind that are taken before one is recorded.

    Attributes:
        refusal: why steps are not recorded; None while they are.
        restless: steps in a row, each of which left the method with other tensors, or its optimisers with other
            settings, than it found.

    Examples:
        >>> from synergy import testing
        >>> method = testing.trained("er", "seq-digits", buffer_size=50)
        >>> raw, labels = next(testing.scenario("seq-digits").task(0).batches(0))
        >>> batch = Batch(raw, method.setting.view.plain(raw), labels)
        >>> replays = Replays(method, StaticBuffers(), warm_ups=0)
        >>> [sorted(step.losses) for step in replays.ahead([batch, batch])]
        [['loss'], ['loss']]
        >>> replays.recordings
        1
    """

    def __init__(
        self,
        method: Method[Any],
        recorder: Recorder,
        *,
        device: torch.device | None = None,
        within: Context = nullcontext,
        drawing: Context = nullcontext,
        lent: Context = nullcontext,
        warm_ups: int = WARM_UPS,
    ) -> None:
        self.refusal: str | None = _waiting(method) or _counting(method)
        self._method = method
        self._recorder = recorder
        self._device = torch.device("cpu") if device is None else device
        self._within, self._drawing, self._lent = within, drawing, lent
        self._warm_ups = warm_ups
        self._view: View | None = None
        self._source: Split | None = None
        self._recordings: dict[Hashable, _Recording] = {}
        self._met: dict[Hashable, int] = {}
        """How many steps of a kind were taken before one is recorded."""
        self._holds: Hashable = None
        self.restless = 0

    @property
    def recordings(self) -> int:
        """Kinds of steps that are recorded now."""
        return len(self._recordings)

    @property
    def reach(self) -> int:
        """Most steps that may be decided ahead."""
        return 1 if self.refusal is not None else AHEAD

    def ahead(self, batches: Sequence[Batch]) -> Iterator[Step]:
        """Decide for all batches, then compute them one after the other."""
        decided = self.decide([len(batch) for batch in batches], [None] * len(batches))
        return (self.step((b.raw, b.labels, b.inputs), row) for b, row in zip(batches, decided, strict=True))

    def decide(self, sizes: Sequence[int], draws: Sequence[ViewDraws]) -> list[Row]:
        """The decisions of the next steps, on the device.

        Args:
            sizes: of the stream batches.
            draws: the random part of the view of each; None for a batch that comes with its inputs.
        """
        method = self._method
        decided = [method.decide(n) for n in sizes] if len(sizes) == 1 else method.decide_ahead(sizes)
        trees = list(zip(draws, decided, strict=True))
        if any(map(is_open, trees)):
            self.refusal = self.refusal or "an augmentation of your own draws while a step is computed"
        return rows(trees, self._device)

    def step(
        self, samples: tuple[Tensor, ...], row: Row, view: View | None = None, source: Split | None = None
    ) -> Step:
        """Learn from one batch. What is returned is the caller's own.

        Args:
            samples: raw samples and labels of the stream batch, and without a `view` its inputs. With a `source` its
                positions there alone, `int64 [B]`.
            row: from `decide`.
            view: what the network sees of the raw samples; the same at every step.
            source: samples from which the step gathers the batch. Recorded steps look at its tensors.
        """
        self._view, self._source = view, source
        if self.refusal is None:
            self._follow()
        if self.refusal is not None:
            return self._computed(samples, row)
        key = (branch(samples), branch(row.decided))
        if key not in self._recordings:
            met = self._met.get(key, 0)
            self._met[key] = met + 1
            if met < self._warm_ups:
                return self._warmed(samples, row, last=met == self._warm_ups - 1)
            recording = self._recorded(samples, row)
            if recording is None:
                return self._computed(samples, row)
            self._recordings[key] = recording
        recording = self._recordings[key]
        recording.take(samples, row)
        with self._lent():
            return _kept(recording.play())

    def forget(self) -> None:
        """Drop all recordings: something that the method holds or looks at is about to change."""
        self._recordings.clear()
        self._met.clear()
        self._holds = None

    def refuse(self, reason: str) -> None:
        """Record nothing any more, for this reason."""
        self.refusal = reason
        self.forget()

    def _computed(self, samples: tuple[Tensor, ...], row: Row) -> Step:
        with self._drawing():
            return self._compute(samples, row.on_device())

    def _warmed(self, samples: tuple[Tensor, ...], row: Row, *, last: bool) -> Step:
        if not last:
            with self._recorder.warming():
                return self._computed(samples, row)
        with self._recorder.warming(), WaitWatch() as watch:
            step = self._computed(samples, row)
        if watch.found:
            self.refuse(f"the step waits for the device ({watch.found[0]})")
        return step

    def _recorded(self, samples: tuple[Tensor, ...], row: Row) -> _Recording | None:
        try:
            with self._lent():
                return _Recording(self._recorder, self._compute, samples, row)
        except CannotRecord as reason:
            self.refuse(str(reason))
            return None

    def _compute(self, samples: tuple[Tensor, ...], planned: tuple[ViewDraws, Any]) -> Step:
        if self._source is not None:
            (indices,) = samples
            samples = (self._source.raw.index_select(0, indices), self._source.labels.index_select(0, indices))
        raw, labels, *given = samples
        draws, decided = planned
        with self._within():
            inputs = given[0] if self._view is None else self._view(raw, draws)
            return self._method.compute(Batch(raw, inputs, labels), decided)

    def _follow(self) -> None:
        """Start anew if the method holds other tensors than before, or its optimisers have other settings."""
        source = [] if self._source is None else [self._source.raw, self._source.labels]
        holds = (tuple(_settings(self._method)), tuple(_addresses([source, vars(self._method)])))
        self.restless = self.restless + 1 if self._holds not in (None, holds) else 0
        if holds != self._holds:
            self.forget()
            self._holds = holds
        if self.restless == RESTLESS:
            self.refuse("the learning rate, or a tensor that the method holds, is another one at every step")


class _Recording:
    """One kind of step: its buffers, and what computes there."""

    def __init__(
        self,
        recorder: Recorder,
        compute: Callable[[tuple[Tensor, ...], Any], Step],
        samples: tuple[Tensor, ...],
        row: Row,
    ) -> None:
        self._samples = tuple(sample.clone() for sample in samples)
        self._numbers = row.numbers.clone()
        planned = Row(row.decided, self._numbers).on_device()
        self.play = recorder.record(lambda: compute(self._samples, planned))

    def take(self, samples: tuple[Tensor, ...], row: Row) -> None:
        """Put another step of the same kind into the buffers."""
        for buffer, sample in zip(self._samples, samples, strict=True):
            buffer.copy_(sample)
        self._numbers.copy_(row.numbers)


def _kept(step: Step) -> Step:
    """Copies, since the next step of this kind writes to the same buffers."""
    names, terms = list(step.losses), list(step.losses.values())
    alike = len({term.dtype for term in terms}) == 1
    values = torch.stack(terms).unbind() if alike else [term.clone() for term in terms]
    outputs = None if step.outputs is None else step.outputs.clone()
    return Step(dict(zip(names, values, strict=True)), outputs)


def _waiting(method: Method[Any]) -> str | None:
    if method.waits is not None:
        return f"{type(method).__name__} waits for the device: {method.waits}"
    if any(memory.store.on_host for memory in method.memories()):
        return "the memory is on the host (memory_on)"
    return None


def _counting(method: Method[Any]) -> str | None:
    """Whether an optimiser counts its steps on the host: a recording would stay at the first one."""
    for optimizer in _optimizers(method):
        on_device = all(group.get("capturable") for group in optimizer.param_groups)
        if type(optimizer) is not torch.optim.SGD and not on_device:
            return f"the optimiser {type(optimizer).__name__} counts on the host"
    return None


def _optimizers(method: Method[Any]) -> list[Optimizer]:
    return [part for part in vars(method).values() if isinstance(part, Optimizer)]


def _settings(method: Method[Any]) -> Iterator[Hashable]:
    """The settings of all optimisers, such as the learning rate: a recording holds them as they were."""
    for optimizer in _optimizers(method):
        for group in optimizer.param_groups:
            for name, value in group.items():
                if name != "params":
                    yield value.data_ptr() if isinstance(value, Tensor) else value


def _addresses(part: object) -> Iterator[Hashable]:
    """Where the tensors of a part of a method are; of a network the first parameter, since others move along."""
    if isinstance(part, Tensor):
        yield part.data_ptr(), part.shape
    elif isinstance(part, dict):
        for value in part.values():
            yield from _addresses(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _addresses(value)
    elif isinstance(part, Flat):
        yield from _addresses([part.values, part.grads])
    elif isinstance(part, PerParameter):
        yield from _addresses(part.values)
    elif isinstance(part, Memory):
        yield from _addresses(part.store.slots())
    elif isinstance(part, Optimizer):
        yield from _addresses(list(part.state.values()))
    elif isinstance(part, nn.Module):
        yield id(part)
        yield from _addresses(list(part.parameters())[:1])
