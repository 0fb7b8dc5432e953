"""Ways to stop a call at any of its lines."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Stop:
    """Stops a call when it comes to the n-th line of the library that it runs (n from 1; 0 for never)."""

    def __init__(self, at: int, how: Callable[[], object]) -> None:
        self.lines = 0
        self._at, self._how = at, how

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if "/synergy/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._at:
                sys.settrace(None)
                self._how()
        return self

    def during(self, call: Callable[[T], object], argument: T) -> bool:
        """Whether the call was stopped."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            call(argument)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def interrupt() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def accident() -> None:
    """An exception at a place where none can come from: more than Ctrl-C does."""
    raise KeyboardInterrupt
