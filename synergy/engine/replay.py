"""Steps that repeat: recorded once on buffers that stay, then replayed.

A step is launched operation by operation, and on a GPU that takes longer than the operations themselves. Steps that
agree in all their flags and shapes do the same operations on other numbers. Such steps share one set of buffers and one
recording, which is launched as a whole. What a recording does is what `compute` did when it was recorded: it depends on
no counter of the host, and on no tensor that is replaced later.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from synergy.decisions import Row, branch, is_open, rows
from synergy.engine.context import Context
from synergy.engine.holdings import addresses, settings, why_not
from synergy.engine.recorders import CannotRecord, Recorder
from synergy.engine.waits import WaitWatch
from synergy.methods.base import Method
from synergy.types import Batch, Split, Step, View, ViewDraws

AHEAD = 32
"""Most steps that are decided, and brought to the device, at once. A run that is asked to stop finishes them."""
WARM_UPS = 2
"""Steps of a kind that are taken before one is recorded: libraries and optimisers prepare themselves in the first."""
RESTLESS = 20
"""So many steps in a row, each with another learning rate, and no step is recorded any more."""


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
        >>> from synergy.engine.recorders import StaticBuffers
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
        self.refusal: str | None = why_not(method)
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
        holds = (tuple(settings(self._method)), tuple(addresses([source, vars(self._method)])))
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
