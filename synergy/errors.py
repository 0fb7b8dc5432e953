"""The errors a user can cause, and the wording they share: what was given, what is allowed, the nearest fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHORTAGES = ("allocate memory", "Storage size calculation overflowed")
"""What PyTorch says in a plain RuntimeError when the CPU has no room, or when no machine could have it."""


class UsageError(ValueError):
    """A mistake of the user's. The command line prints it as one line and exits with code 2."""


class TrainingError(RuntimeError):
    """Training cannot go on (a loss is no longer finite, memory ran out). Exit code 1."""


def unknown(kind: str, given: str, allowed: Iterable[str]) -> UsageError:
    """The error for a name that does not exist: names it, the nearest match, and all that do exist."""
    names = sorted(allowed)
    spelt = {_plain(name): name for name in names}
    nearest = get_close_matches(_plain(given), spelt, n=1, cutoff=0.5)
    hint = f"; did you mean '{spelt[nearest[0]]}'?" if nearest else ";"
    return UsageError(f"unknown {kind} '{given}'{hint} allowed: {', '.join(names)}")


def _plain(name: str) -> str:
    """A name without what people write differently: capitals, dashes, and `++` for `pp`."""
    return name.casefold().replace("+", "p").replace("-", "_")
