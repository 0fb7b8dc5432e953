"""The rows of `synergy list`: of our own names from a file, so that no class, and no torch, is imported for them.

`make docs` writes the file; a test compares it with the classes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from synergy.errors import UsageError
from synergy.methods import METHOD_CLASSES
from synergy.nets import NET_CLASSES
from synergy.registry import Registry
from synergy.scenarios import SCENARIO_CLASSES

PATH = Path(__file__).with_name("catalogue.json")

HEADINGS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "method": ("method", "task boundaries", "protocols", "what it does"),
        "scenario": ("scenario", "protocols", "task boundaries", "data", "network", "batch size", "epochs", "stream"),
        "network": ("network", "options", "what it is"),
    }
)
"""By the kind of the registry. The last column is for terminals that can break its lines."""


def rows(registry: Registry[Any]) -> list[list[str]]:
    """A row for each name, the heading first.

    A class of another package that fails to load is left out with a warning.
    """
    known = json.loads(PATH.read_text(encoding="utf-8"))
    found = [list(HEADINGS[registry.kind])]
    for name in registry.names():
        try:
            own = known[registry.kind].get(name) if name in registry.table else None
            found.append(own or row(registry, name))
        except UsageError as error:
            warnings.warn(f"{name}: {error}; it is left out", stacklevel=2)
    return found


def row(registry: Registry[Any], name: str) -> list[str]:
    """The row of a name, from its class."""
    from synergy.terminal.described import summary

    kind = registry.load(name)
    return [name, *CELLS[registry.kind](name, kind), summary(kind)]


def written() -> str:
    """The text of the file, from the classes."""
    registries: tuple[Registry[Any], ...] = (METHOD_CLASSES, SCENARIO_CLASSES, NET_CLASSES)
    table = {each.kind: {name: row(each, name) for name in each.table} for each in registries}
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def _of_method(name: str, kind: Any) -> list[str]:
    protocols = "all" if len(kind.protocols) == 4 else ", ".join(sorted(kind.protocols))
    return ["needed" if kind.needs_boundaries else "not needed", protocols]


def _of_scenario(name: str, kind: Any) -> list[str]:
    known = "known" if kind.boundaries else "none"
    sizes = [str(kind.default_batch_size), str(kind.default_epochs)]
    return [", ".join(kind.protocols), known, kind.dataset, kind.default_net, *sizes]


def _of_net(name: str, kind: Any) -> list[str]:
    options = NET_CLASSES.config_of(name, kind).specs()
    return [", ".join(f"--{spec.name} (default {spec.default})" for spec in options)]


CELLS: Mapping[str, Callable[[str, Any], list[str]]] = MappingProxyType(
    {"method": _of_method, "scenario": _of_scenario, "network": _of_net}
)
