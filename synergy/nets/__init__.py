"""The networks, one file each. To add one, write its file and add its line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from synergy.registry import FORMS, Registry

if TYPE_CHECKING:
    from torch import nn

NETS: Mapping[str, str] = MappingProxyType(
    {
        "linear": "synergy.nets.linear:Linear",
        "mlp": "synergy.nets.mlp:MLP",
        "resnet18": "synergy.nets.resnet:ResNet18",
    }
)
"""Name -> "module:Class", imported when asked for: listing the names needs no torch."""

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "hf": "synergy.nets.hugging_face:hugging_face",
        "timm": "synergy.nets.timm_models:timm_model",
    }
)
"""Prefix of a name -> "module:function" that makes the class: `hf:NAME`, `timm:NAME`."""

BACKBONES: Mapping[str, str] = MappingProxyType(
    {
        "hf": "synergy.nets.hugging_face_features:backbone",
        "timm": "synergy.nets.timm_features:backbone",
    }
)
"""Prefix of the name of a frozen backbone -> "module:function" that finds it."""

NET_CLASSES: Registry[nn.Module] = Registry(
    "network",
    NETS,
    "torch.nn:Module",
    "synergy.nets.base:NetConfig",
    "synergy.nets",
    families=FAMILIES,
    forms=f"hf:NAME, timm:NAME, {FORMS}",
)
"""Our names, `hf:NAME`, `timm:NAME`, `module:Class`, `file.py:Class` and entry points."""


def net_class(name: str) -> type[nn.Module]:
    """The class of a network, by a name in any form.

    Raises:
        UsageError: there is no such class, or it is no network.

    Examples:
        >>> net_class("resnet18").__name__
        'ResNet18'
    """
    return NET_CLASSES.load(name)
