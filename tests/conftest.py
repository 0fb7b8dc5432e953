"""Shared by all tests: real data only where they are, no deadlines on a loaded machine, few threads."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("synergy", deadline=None)
settings.load_profile("synergy")
# The tensors of the tests are small: a second thread waits more than it works.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests on real data where nobody said where those are."""
    if os.environ.get("SYNERGY_DATA"):
        return
    skip = pytest.mark.skip(reason="SYNERGY_DATA is not set")
    for item in items:
        if "real_data" in item.keywords:
            item.add_marker(skip)
