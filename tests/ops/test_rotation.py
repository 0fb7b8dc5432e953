"""Nearest-neighbour rotation by a gather, compared with Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from synergy.data import sources
from synergy.ops.rotation import gather_pixels, rotation_index

ANGLES = [0.0, 12.3, 45.0, 69.9, 90.0, 111.1, 166.6, 180.0, 359.0, -30.0]


def by_pillow(image: Tensor, angle: float) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.asarray(Image.fromarray(image.numpy()).rotate(angle, Image.Resampling.NEAREST))


def differing_pixels(images: Tensor, angle: float) -> float:
    """The share of pixels that differ from Pillow's."""
    index = rotation_index(torch.tensor(angle), *images.shape[2:])
    ours = gather_pixels(images, index)[:, 0].numpy()
    return float(np.mean([(a != by_pillow(b[0], angle)).mean() for a, b in zip(ours, images, strict=True)]))


@pytest.mark.parametrize("angle", ANGLES)
def test_equals_pillow_on_enlarged_digits(angle: float) -> None:
    digits = torch.from_numpy((load_digits().images[:30] * 15).astype(np.uint8))
    enlarged = digits.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, 2:30, 2:30]
    assert differing_pixels(enlarged[:, None].contiguous(), angle) <= 0.005


@pytest.mark.real_data
@pytest.mark.parametrize("angle", ANGLES)
def test_equals_pillow_on_mnist(angle: float) -> None:
    assert differing_pixels(sources.load("mnist").test.raw[:200], angle) <= 0.005


def test_a_quarter_turn_is_exact() -> None:
    image = torch.arange(30, dtype=torch.uint8).view(1, 1, 6, 5)[..., :5, :]
    turned = gather_pixels(image, rotation_index(torch.tensor(90.0), 5, 5))
    assert torch.equal(turned, torch.rot90(image, 1, (2, 3)))


def test_every_image_may_have_its_own_angle() -> None:
    images = torch.randint(0, 256, (4, 2, 7, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    angles = torch.tensor([0.0, 33.0, 90.0, 250.0])
    together = gather_pixels(images, rotation_index(angles, 7, 9))
    alone = [
        gather_pixels(image[None], rotation_index(angle, 7, 9)) for image, angle in zip(images, angles, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


@given(st.floats(-720, 720), st.integers(1, 12), st.integers(1, 12))
def test_every_index_is_a_pixel_or_the_border(angle: float, height: int, width: int) -> None:
    index = rotation_index(torch.tensor(angle), height, width)
    assert index.shape == (height * width,)
    assert int(index.min()) >= 0 and int(index.max()) <= height * width


def test_the_border_is_black() -> None:
    turned = gather_pixels(
        torch.full((1, 1, 20, 20), 200, dtype=torch.uint8), rotation_index(torch.tensor(45.0), 20, 20)
    )
    assert turned[0, 0, 0, 0] == 0
    assert turned[0, 0, 10, 10] == 200
