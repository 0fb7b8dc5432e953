"""Ways to stop a call at any of its lines."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Stop:
    """Stops a call when it comes to the n-th line of the library that it runs (n from 1; 0 for never)."""

    def __init__(self, at: int, how: Callable[[], object]) -> None:
        self.lines = 0
        self._at, self._how = at, how

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if "/synergy/" not in frame.f_code.co_filename or self._is_guarded(frame):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._at:
                sys.settrace(None)
                self._how()
        return self

    def _is_guarded(self, frame: FrameType) -> bool:
        """Whether no accident can come here.

        An exception at the very line that leaves a `with` block would keep a lock and a mode of torch for ever. Only a
        tracer can raise there: signals come between other instructions, and they wait in this file.
        """
        return self._how is accident and frame.f_code.co_filename.endswith("/synergy/randomness.py")

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
            assert not torch._C._len_torch_dispatch_stack(), f"line {self._at} leaves a mode behind"
        return False


def interrupt() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def accident() -> None:
    """An exception at a place where none can come from: more than Ctrl-C does."""
    raise KeyboardInterrupt
