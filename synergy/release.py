"""The installed releases of this package and of others."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release(name: str = "synergy-cl") -> str:
    """The release of an installed package, such as "2.9.0", or "not installed".

    `main.py` also runs from a copied folder, where this package is not installed.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
