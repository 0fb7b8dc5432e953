"""The releases of this package and of others."""

from __future__ import annotations

from importlib import metadata

VERSION = "0.1.0"
"""The release of this package. `pyproject.toml` takes it from here: a tree that was never installed knows it too."""


def release(name: str = "synergy-cl") -> str:
    """The release of this package or of an installed one, such as "2.9.0", or "not installed"."""
    if name == "synergy-cl":
        return VERSION
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
