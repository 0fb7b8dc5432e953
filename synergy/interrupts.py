"""Ctrl-C at a time when nothing is half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class uninterrupted:  # noqa: N801  # a context, used as a verb
    """Within, Ctrl-C (SIGINT) and SIGTERM wait for the end; a second one does not wait.

    Whatever handler is installed is called at the end, so that Ctrl-C raises KeyboardInterrupt there. A second signal
    calls it at once: what runs within must be able to go back. Python handles signals in the main thread only; in
    other threads this does nothing.

    Examples:
        >>> done = []
        >>> try:
        ...     with uninterrupted():
        ...         signal.raise_signal(signal.SIGINT)
        ...         done.append("all of it")
        ... except KeyboardInterrupt:
        ...     print(done)
        ['all of it']
    """

    def __init__(self) -> None:
        self._before: dict[int, signal._HANDLER] = {}
        self._waiting: list[tuple[int, FrameType | None]] = []
        self._active = True

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):  # anything else is the system's own: to end the process, or to ignore the signal
                self._before[number] = handler
                signal.signal(number, self._wait)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._active = False
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for number, frame in self._waiting:
            self._call(number, frame)

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._waiting.append((number, frame))
        if len(self._waiting) > 1 or not self._active:
            self._waiting.clear()
            self._call(number, frame)

    def _call(self, number: int, frame: FrameType | None) -> None:
        handler = self._before[number]
        if callable(handler):
            handler(number, frame)
