"""A model of timm as a frozen backbone, where timm can be imported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from synergy import UsageError
from synergy.nets.frozen_backbone import find
from synergy.nets.timm_models import headless
from tests.nets.test_timm_models import MISSING

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def test_features_are_those_of_the_weights_in_the_file(tmp_path: Path) -> None:
    model = headless("resnet10t").eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    backbone = find(f"timm:resnet10t@{tmp_path / 'weights.safetensors'}")
    preparation = backbone.preparation((1, 8, 8))
    assert preparation is not None and preparation.size.height == 176 and len(preparation.mean) == 3
    images = preparation(torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    net, features = backbone.load((1, 8, 8))
    assert not net.training and not any(parameter.requires_grad for parameter in net.parameters())
    with torch.no_grad():
        torch.testing.assert_close(features(images), model(images))


def test_a_wrong_name_is_one_line() -> None:
    with pytest.raises(UsageError, match="timm has no such model"):
        find("timm:resnet10z")
