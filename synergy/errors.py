"""The errors a user can cause, and the wording they share: what was given, what is allowed, the nearest fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHORTAGES = (
    "allocate memory",
    "Storage size calculation overflowed",
    "Overflow when unpacking long",
    "CUDA error: out of memory",
    "STATUS_ALLOC_FAILED",
)
"""What PyTorch says in a plain RuntimeError or TypeError of too little memory, or of a size beyond every machine."""
OVERFLOW = "cannot be converted to type"
"""What PyTorch says in a plain RuntimeError of a Python number that is too large for the type of a tensor."""


PYTHON_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What code that is not ours raises of Python's own errors."""


class UsageError(ValueError):
    """A user's mistake. The command line prints it as one line and exits with code 2.

    Examples:
        >>> raise UsageError("seed: given -1; allowed: at least 0")
        Traceback (most recent call last):
        synergy.errors.UsageError: seed: given -1; allowed: at least 0
    """


class TrainingError(RuntimeError):
    """Training cannot go on: a loss is not finite, or memory ran out. Exit code 1.

    Examples:
        >>> raise TrainingError("the loss became nan at step 3; lower --lr")
        Traceback (most recent call last):
        synergy.errors.TrainingError: the loss became nan at step 3; lower --lr
    """


def unknown(kind: str, given: str, allowed: Iterable[str]) -> UsageError:
    """The error for an unknown name: says the name, the nearest match, and all names there are.

    Examples:
        >>> print(unknown("method", "DER++", ["der", "derpp"]))
        unknown method 'DER++'; did you mean 'derpp'? allowed: der, derpp
    """
    names = sorted(allowed)
    spelt = {_plain(name): name for name in names}
    nearest = get_close_matches(_plain(given), spelt, n=1, cutoff=0.5)
    hint = f"; did you mean '{spelt[nearest[0]]}'?" if nearest else ";"
    return UsageError(f"unknown {kind} '{given}'{hint} allowed: {', '.join(names)}")


def counted(number: int, what: str) -> str:
    """A number and what it counts, as messages say it.

    Examples:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{number} {what}" + "s" * (number != 1)


def _plain(name: str) -> str:
    """A name in one spelling: small letters, `_` for `-`, and `pp` for `++`."""
    return name.casefold().replace("+", "p").replace("-", "_")
