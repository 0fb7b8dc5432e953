"""Errors of a step in the user's terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from synergy.device import check_shortage
from synergy.stream.template import check_normalised, check_range


@contextmanager
def explained(n: int) -> Iterator[None]:
    """Within, a known error of a step with `n` samples becomes one in the user's terms.

    Raises:
        UsageError: a BatchNorm cannot normalise such a batch, or an embedding has no row for a number.
        TrainingError: memory ran out.
    """
    try:
        yield
    except ValueError as error:
        check_normalised(error, n)
        raise
    except LookupError as error:
        check_range(error)
        raise
    except (RuntimeError, MemoryError) as error:
        check_shortage(error)
        raise
