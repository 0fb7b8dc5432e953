"""Steps on static buffers: the way a recorded step works, without a recording, on any device.

A recorded step reads its batch and its decisions from the same addresses every time. So does this one, and it computes
them several steps after they were decided. If it gives the same bits as `observe`, the method's `compute` depends on
nothing else: on no counter of the host, and on no tensor that a later step replaces.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from synergy.decisions import branch, on_device, static_copy, tensors
from synergy.methods.base import Method
from synergy.types import Batch, Step


class StaticSteps:
    """Computes the steps of a method on buffers of their own, one set for each branch.

    Args:
        method: one that never waits for the device.

    Examples:
        >>> from synergy import testing
        >>> from synergy.types import Batch
        >>> method = testing.trained("er", "seq-digits", buffer_size=50)
        >>> raw, labels = next(testing.scenario("seq-digits").task(0).batches(0))
        >>> batch = Batch(raw, method.setting.view.plain(raw), labels)
        >>> steps = StaticSteps(method)
        >>> [sorted(step.losses) for step in steps.ahead([batch, batch])]
        [['loss'], ['loss']]
        >>> steps.branches
        1
    """

    def __init__(self, method: Method[Any]) -> None:
        assert method.waits is None, f"{type(method).__name__} waits for the device: {method.waits}"
        self._method = method
        self._buffers: dict[Hashable, tuple[Batch, Any]] = {}

    @property
    def branches(self) -> int:
        """Sets of buffers so far."""
        return len(self._buffers)

    def ahead(self, batches: Sequence[Batch]) -> list[Step]:
        """Decide for all batches, then compute them one after the other."""
        decided = self._method.decide_ahead([len(batch) for batch in batches])
        return [self.step(batch, now) for batch, now in zip(batches, decided, strict=True)]

    def step(self, batch: Batch, decided: Any) -> Step:
        """Copy batch and decisions into the buffers of their branch, and compute there."""
        given = (batch, on_device(decided, batch.labels.device))
        key = branch(given)
        if key not in self._buffers:
            self._buffers[key] = static_copy(given, batch.labels.device)
        buffers = self._buffers[key]
        for buffer, value in zip(tensors(buffers), tensors(given), strict=True):
            buffer.copy_(value)
        return self._method.compute(*buffers)
