"""A model of timm as a network, where timm can be imported; what is said where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from synergy import UsageError, testing
from synergy.nets.base import build
from synergy.nets.timm_models import TimmConfig, library, load, timm_model

try:
    library()
    MISSING = ""
except UsageError as error:
    MISSING = str(error)


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_a_small_model() -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    kind = timm_model("resnet10t", None)
    testing.check_net(lambda generator: build(kind, TimmConfig(), (3, 64, 64), 5, generator), images, 5)
    with pytest.raises(UsageError, match="timm has no such model"):
        build(timm_model("resnet10z", None), TimmConfig(), (3, 64, 64), 5, torch.Generator())


@pytest.mark.skipif(not MISSING, reason="timm is there")
def test_without_timm_the_error_names_the_extra() -> None:
    with pytest.raises(UsageError, match=r"pip install 'synergy-cl\[timm\]'$"):
        build(timm_model("resnet10t", None), TimmConfig(), (3, 64, 64), 5, torch.Generator())


def test_weights_come_from_safetensors_and_must_fit(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    save_file({"weight": torch.ones(3, 2), "bias": torch.ones(3), "head": torch.ones(1)}, tmp_path / "good")
    save_file({"weight": torch.ones(2, 2), "bias": torch.ones(3)}, tmp_path / "other")
    (tmp_path / "bad").write_bytes(b"no tensors")
    load(model, str(tmp_path / "good"))
    assert torch.equal(model.weight, torch.ones(3, 2))
    with pytest.raises(UsageError, match="lacks 'weight' in the model's shape"):
        load(model, str(tmp_path / "other"))
    for name in ("bad", "missing"):
        with pytest.raises(UsageError, match=r"cannot read .* as safetensors"):
            load(model, str(tmp_path / name))
