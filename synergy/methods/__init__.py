"""The methods, one file each. To add one, write its file and add its line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from synergy.registry import Registry

if TYPE_CHECKING:
    from synergy.methods.base import Method

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "sgd": "synergy.methods.sgd:FineTuning",
        "joint": "synergy.methods.joint:Joint",
        "er": "synergy.methods.er:ER",
        "er_ace": "synergy.methods.er_ace:ErAce",
        "agem_r": "synergy.methods.agem_r:AGemR",
        "agem": "synergy.methods.agem:AGem",
        "gem": "synergy.methods.gem:Gem",
        "fdr": "synergy.methods.fdr:FDR",
        "lwf": "synergy.methods.lwf:LwF",
        "ewc_on": "synergy.methods.ewc_on:EwcOn",
        "si": "synergy.methods.si:SI",
        "der": "synergy.methods.der:DER",
        "derpp": "synergy.methods.derpp:DERpp",
        "kder": "synergy.methods.kder:KDER",
        "gss": "synergy.methods.gss:GSS",
        "hal": "synergy.methods.hal:HAL",
        "mer": "synergy.methods.mer:MER",
        "icarl": "synergy.methods.icarl:ICaRL",
        "pnn": "synergy.methods.pnn:PNN",
        "gdumb": "synergy.methods.gdumb:GDumb",
        "ncm": "synergy.methods.ncm:NCM",
        "slda": "synergy.methods.slda:SLDA",
        "ranpac": "synergy.methods.ranpac:RanPAC",
        "esmer": "synergy.methods.esmer:ESMER",
        "clser": "synergy.methods.clser:CLSER",
        "synergy": "synergy.methods.synergy:Synergy",
    }
)
"""Name -> "module:Class", imported when asked for: listing the names needs no torch."""

METHOD_CLASSES: Registry[Method[Any]] = Registry(
    "method", METHODS, "synergy.methods.base:Method", "synergy.methods.base:MethodConfig", "synergy.methods"
)
"""Our names, `module:Class`, `file.py:Class` and entry points."""


def method_class(name: str) -> type[Method[Any]]:
    """The class of a method, by a name in any form.

    Raises:
        UsageError: there is no such class, or it is no method.

    Examples:
        >>> method_class("er").__name__
        'ER'
    """
    return METHOD_CLASSES.load(name)
