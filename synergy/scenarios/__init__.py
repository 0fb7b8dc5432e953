"""The scenarios, one stream, one file. To add one, write its file and add its line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from synergy.registry import FORMS, Registry

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
"""Name -> "module:Class", imported when asked for: listing the names needs no torch."""

FAMILIES: Mapping[str, str] = MappingProxyType({"split": "synergy.scenarios.own:own_scenario"})
"""Prefix of a name -> "module:function" that makes the class: `split:FOLDER` is a stream of your own data."""

SCENARIO_CLASSES: Registry[Scenario[Any]] = Registry(
    "scenario",
    SCENARIOS,
    "synergy.scenarios.base:Scenario",
    "synergy.scenarios.base:ScenarioConfig",
    "synergy.scenarios",
    required=("protocols",),
    families=FAMILIES,
    forms=f"split:FOLDER, split:FILE.csv, split:hf:OWNER/NAME, {FORMS}",
)
"""Our names, `split:FOLDER`, `module:Class`, `file.py:Class` and entry points."""


def scenario_class(name: str) -> type[Scenario[Any]]:
    """The class of a scenario, by a name in any form.

    Raises:
        UsageError: there is no such class, or it is no scenario.

    Examples:
        >>> scenario_class("rot-digits").__name__
        'RotatedDigits'
    """
    return SCENARIO_CLASSES.load(name)
