"""The scenarios, one stream, one file. To add one, write its file and add its line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from synergy.errors import unknown

if TYPE_CHECKING:
    from synergy.scenarios.base import Scenario

SCENARIOS: Mapping[str, str] = MappingProxyType(
    {
        "perm-mnist": "synergy.scenarios.permuted:PermutedMnist",
        "rot-mnist": "synergy.scenarios.rotated:RotatedMnist",
        "seq-mnist": "synergy.scenarios.split:SplitMnist",
        "mnist-360": "synergy.scenarios.mnist360:Mnist360",
        "seq-cifar10": "synergy.scenarios.split:SplitCifar10",
        "seq-cifar100": "synergy.scenarios.split:SplitCifar100",
        "seq-tinyimg": "synergy.scenarios.split:SplitTinyImagenet",
        "gcil-cifar100": "synergy.scenarios.gcil:GcilCifar100",
        "perm-digits": "synergy.scenarios.permuted:PermutedDigits",
        "rot-digits": "synergy.scenarios.rotated:RotatedDigits",
        "seq-digits": "synergy.scenarios.split:SplitDigits",
    }
)
"""Name -> where its class is. Loaded when asked for, so that listing the names needs no torch."""


def scenario_class(name: str) -> type[Scenario[Any]]:
    """The class of a scenario. Raises UsageError if there is none of that name."""
    if name not in SCENARIOS:
        raise unknown("scenario", name, SCENARIOS)
    module, _, attribute = SCENARIOS[name].partition(":")
    found: type[Scenario[Any]] = vars(import_module(module))[attribute]
    return found
