"""Shared by all tests: real data only where they are, no deadlines on a loaded machine, few threads."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("synergy", deadline=None)
settings.load_profile("synergy")
# The tensors of the tests are small: a second thread waits more than it works.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A network made in a test, which torch initialises from its global generator, is the same in whatever order."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests on real data where nobody said where those are."""
    if os.environ.get("SYNERGY_DATA"):
        return
    skip = pytest.mark.skip(reason="SYNERGY_DATA is not set")
    for item in items:
        if "real_data" in item.keywords:
            item.add_marker(skip)
