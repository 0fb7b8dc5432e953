"""Folders of images, made for a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synergy.errors import UsageError
from tests.data.parquet_files import Pixels, pictures


def write(folder: Path, counts: Mapping[str, int], *shape: int, ending: str = ".png") -> dict[str, Pixels]:
    """A folder for each class with random images; their pixels by path."""
    written = {}
    for seed, (label, count) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number, pixels in enumerate(pictures(count, *(shape or (6, 6, 3)), seed=seed)):
            path = f"{label}/{number:03}{ending}"
            Image.fromarray(pixels).save(folder / path)
            written[path] = pixels
    return written


def stripes(folder: Path, counts: Mapping[str, int], side: int = 8) -> None:
    """Classes that can be told apart: each has a bright row of its own, in noise."""
    rng = np.random.default_rng(0)
    for place, (label, count) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(0, 100, (side, side), dtype=np.uint8)
            pixels[place % side] = 255
            Image.fromarray(pixels).save(folder / label / f"{number:03}.png")


def refused(read: Callable[[], object], cache: Path, *parts: str) -> None:
    """Reading ends in one line that has these parts, and nothing is cached."""
    with pytest.raises(UsageError) as caught:
        read()
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)
    assert not cache.exists()
