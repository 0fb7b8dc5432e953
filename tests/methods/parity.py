"""Replays a trace of the published code with a method of ours: same frozen inputs, float64, no randomness."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synergy.data.view import ImageView
from synergy.memory.store import Samples
from synergy.methods import method_class
from synergy.methods.base import Method, Setting
from synergy.nets.mlp import MLP
from synergy.nets.resnet import ResNet18
from synergy.types import Batch

GOLDEN = Path(__file__).parent.parent / "golden"


@dataclass
class Trace:
    """One file of `tests/golden`, whose README.md explains the keys."""

    meta: dict[str, Any]
    arrays: dict[str, Tensor]

    @classmethod
    def read(cls, name: str) -> Trace:
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as content:
            arrays = {key: torch.from_numpy(content[key]) for key in content.files if key != "meta"}
            return cls(json.loads(str(content["meta"])), arrays)

    def net(self) -> nn.Module:
        """The network of the trace with its initial parameters."""
        backbone, generator = self.meta["backbone"], torch.Generator()
        net: nn.Module
        if backbone["kind"] == "mlp":
            net = MLP(backbone["input_size"], backbone["classes"], backbone["hidden"], generator=generator).double()
        else:
            net = ResNet18(backbone["classes"], backbone["width"], generator=generator).double()
        ours = [[name.replace("classifier", "linear"), list(p.shape)] for name, p in net.named_parameters()]
        theirs = [[name.replace("classifier", "linear"), shape] for name, shape in self.meta["parameters"]]
        assert ours == theirs
        nn.utils.vector_to_parameters(self.arrays["init"], net.parameters())
        return net

    def method(self) -> Method[Any]:
        """The method with its memory full and frozen as in the trace."""
        kind = method_class(self.meta["method"])
        options = (
            {"ema_warmup": 1.0} | self.meta["hyper"] | {k: self.meta[k] for k in ("buffer_size", "minibatch_size")}
        )
        config = kind.Config(**{key: value for key, value in options.items() if key in kind.Config.names()})
        setting = Setting(
            build_net=lambda name: self.net(),
            view=ImageView(dtype=torch.float64),
            n_classes=self.meta["backbone"]["classes"],
            seed=0,
        )
        method = kind(config, setting)
        memory = vars(method)["memory"]
        extras = {"logits": self.arrays["buffer_logits"]} if "buffer_logits" in self.arrays else {}
        memory.offer(Samples(self.arrays["buffer_x"], self.arrays["buffer_y"], extras))
        # So many samples seen that no further one is ever taken in.
        memory.seen = 2**50
        return method

    def steps(self) -> list[Batch]:
        x, y = self.arrays["batch_x"], self.arrays["batch_y"]
        return [Batch(raw, raw.double() / 255, labels) for raw, labels in zip(x, y, strict=True)]


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
