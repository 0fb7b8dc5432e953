"""Where the decisions of a method stand, and the way back to that place after a step that failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from synergy.memory.store import Store
from synergy.methods.base import Method
from synergy.ops.vectors import PerParameter


class Bookmark:
    """The host side of a method as it is now: its generators and counters, and those of its memories.

    Tensors, networks and optimisers are no part of it: `decide` leaves them alone.

    Examples:
        >>> from synergy import testing
        >>> method = testing.trained("er", "seq-digits", buffer_size=50)
        >>> bookmark = Bookmark(method)
        >>> first = method.decide(4)
        >>> bookmark.go_back()
        >>> again = method.decide(4)
        >>> bool((first.places == again.places).all())
        True
    """

    def __init__(self, method: Method[Any]) -> None:
        self._steps_back: list[Callable[[], None]] = []
        self._memories = method.memories()
        for part in (method, *self._memories):
            self._mark(part)

    def go_back(self) -> None:
        """Let the next decisions be those that came after the bookmark."""
        for memory in self._memories:
            memory.drop_prepared()
        for step_back in self._steps_back:
            step_back()

    def _mark(self, part: object) -> None:
        attributes = vars(part)
        counters = {name: value for name, value in attributes.items() if isinstance(value, int | float)}
        self._steps_back.append(lambda: attributes.update(counters))
        for value in attributes.values():
            if isinstance(value, np.random.Generator):
                self._mark_generator(value)
            elif isinstance(value, Store | PerParameter):
                self._mark(value)

    def _mark_generator(self, rng: np.random.Generator) -> None:
        state = rng.bit_generator.state

        def step_back() -> None:
            rng.bit_generator.state = state

        self._steps_back.append(step_back)
