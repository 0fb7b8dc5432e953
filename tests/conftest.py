"""Shared by all tests: randomness that repeats, no deadlines, one thread, real data where they are at hand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# `--hypothesis-profile search` looks for new examples; the usual profile tries the same ones every time.
settings.register_profile("repeat", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, derandomize=False, max_examples=1000)
settings.load_profile("repeat")
# The tensors of the tests are small: a second thread waits more than it works.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts a test, even if the tests were started in the background, where a shell ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A network that a test makes has the same weights in whatever order the tests run."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests on real data unless SYNERGY_DATA names their folder."""
    if os.environ.get("SYNERGY_DATA"):
        return
    skip = pytest.mark.skip(reason="SYNERGY_DATA is not set")
    for item in items:
        if "real_data" in item.keywords:
            item.add_marker(skip)
