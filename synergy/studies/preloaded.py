"""What runs import one by one otherwise, at once: the fork server loads this, so that each run starts warm."""

from __future__ import annotations

import gc
from importlib import import_module

import sklearn.datasets
import torch
from torch import nn

from synergy.methods import METHOD_CLASSES
from synergy.nets import NET_CLASSES
from synergy.randomness import TorchRandomness
from synergy.scenarios import SCENARIO_CLASSES
from synergy.studies import pool

LOADED = (
    pool,
    sklearn.datasets,
    *(
        import_module(entry.partition(":")[0])
        for classes in (METHOD_CLASSES, SCENARIO_CLASSES, NET_CLASSES)
        for entry in classes.table.values()
    ),
)
"""Modules in memory. No number is computed: threads of a process do not survive a fork."""

with TorchRandomness(0, "network/layers", torch.device("cpu")).drawing():
    nn.Linear(1, 1, device="meta")  # torch loads a part of itself for the first layer that is made as a run makes it

gc.freeze()  # runs share this memory with the fork server, which ends without searching it for cycles
