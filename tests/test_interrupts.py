"""Ctrl-C waits where it must, and is never lost."""

from __future__ import annotations

import signal
import threading

import pytest

from synergy.interrupts import uninterrupted


def test_a_second_signal_does_not_wait() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append(1)
        signal.raise_signal(signal.SIGINT)
        done.append(2)
    assert done == [1]


def test_sigterm_waits_where_python_handles_it() -> None:
    done = []

    def stop(*_: object) -> None:
        done.append("stop")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            done.append("step")
        assert done == ["step", "stop"] and signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)


def test_within_each_other_the_outer_one_decides() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        done.append("the rest")
    assert done == ["the rest"]


def test_an_interrupt_is_not_lost_where_an_error_is_on_its_way() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("it")
    assert str(caught.value.__context__) == "it"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_left_alone() -> None:
    handlers = []

    def look() -> None:
        with uninterrupted():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
