"""Augmentation of a batch at once equals that of one sample after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from synergy.data.view import ImageView, crop_and_flip, scaled


def one_by_one(raw: Tensor, offsets: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Pad, cut out, mirror, sample by sample."""
    height, width = raw.shape[2:]
    results = []
    for image, (top, left), flip in zip(raw, offsets.tolist(), flips.tolist(), strict=True):
        padded = torch.nn.functional.pad(image, (padding,) * 4)
        cut = padded[:, top : top + height, left : left + width]
        results.append(cut.flip(2) if flip else cut)
    return torch.stack(results)


@given(data=st.data())
def test_equals_one_by_one(data: st.DataObject) -> None:
    batch, channels = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    padding = data.draw(st.integers(0, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    raw = torch.from_numpy(rng.integers(1, 256, (batch, channels, height, width), dtype=np.uint8))
    draws = ImageView(padding=padding, flip=True).decide(batch, rng)
    assert draws is not None
    ours = crop_and_flip(raw, draws, padding=padding)
    assert torch.equal(ours, one_by_one(raw, draws[:, :2], draws[:, 2].bool(), padding))


def test_draws_cover_every_offset_and_both_sides() -> None:
    draws = ImageView(padding=2, flip=True).decide(2000, np.random.default_rng(0))
    assert draws is not None
    assert sorted(set(draws[:, :2].flatten().tolist())) == [0, 1, 2, 3, 4]
    assert sorted(set(draws[:, 2].tolist())) == [0, 1]
    assert 0.45 < draws[:, 2].double().mean() < 0.55


def test_every_sample_and_every_call_has_its_own_draw() -> None:
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).expand(20, 1, 8, 8)
    view, rng = ImageView(padding=4, flip=True), np.random.default_rng(0)
    one, other = (view(image, view.decide(20, rng)) for _ in range(2))
    assert len(torch.unique(one.flatten(1), dim=0)) > 10
    assert not torch.equal(one, other)


def test_without_augmentation_nothing_is_drawn() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    raw = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    view = ImageView()
    assert view(raw, view.decide(1, rng)).flatten().tolist() == torch.tensor([0.0, 0.2, 1.0]).tolist()
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_scaling_is_a_division_to_the_bit(dtype: torch.dtype) -> None:
    raw = torch.arange(256, dtype=torch.uint8).repeat(33).view(11, 3, 16, 16)
    with torch.inference_mode():  # the divisor is kept: it must not be of inference for all time
        scaled(raw, dtype)
    found = scaled(raw, dtype)
    assert found.dtype == dtype and torch.equal(found, raw.to(dtype).div(255))
    assert not found.is_inference()


def test_normalisation_per_channel() -> None:
    raw = torch.tensor([[255, 0], [0, 255]], dtype=torch.uint8).view(1, 2, 1, 2)
    view = ImageView(mean=(0.5, 0.25), std=(0.5, 0.25), dtype=torch.float64).plain(raw)
    torch.testing.assert_close(view.flatten(), torch.tensor([1.0, -1.0, -1.0, 3.0], dtype=torch.float64))
    assert torch.equal(raw.flatten(), torch.tensor([255, 0, 0, 255], dtype=torch.uint8))
