"""Which release of the package, and of those it stands on, is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release(name: str = "synergy-cl") -> str:
    """Such as "2.9.0", or "not installed": `main.py` also runs from a folder that was only copied."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
