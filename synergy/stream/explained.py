"""Errors of a step in the user's terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from synergy.device import check_shortage
from synergy.engine.recorders import NoRoomToRecord
from synergy.errors import TrainingError, UsageError

SHORT_OF_MEMORY = (
    "out of memory; give smaller batches, or lower minibatch_size, buffer_size or fisher_memory_mb; the learner is as "
    "it was before"
)
"""What an OOM becomes."""


@contextmanager
def explained(n: int) -> Iterator[None]:
    """Within, a known error of a pass or a step with `n` samples becomes one in the user's terms.

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
    except NoRoomToRecord as error:
        raise TrainingError(f"{SHORT_OF_MEMORY}; or give eager=True, which needs less memory") from error
    except (RuntimeError, MemoryError) as error:
        check_shortage(error, SHORT_OF_MEMORY)
        raise


def needs_more_samples(error: BaseException | None) -> bool:
    """Whether the error is a BatchNorm's that met a single sample in training."""
    return "more than 1 value per channel" in str(error)


def check_normalised(error: BaseException | None, n: int, one_by_one: bool = False) -> None:
    """Raises UsageError if the error is a BatchNorm's that met a single sample in training.

    Args:
        error: any.
        n: size of the batch.
        one_by_one: whether the method cuts every batch into single samples.
    """
    if not needs_more_samples(error):
        return
    if one_by_one:
        raise UsageError(
            "network: given one with BatchNorm for a method that learns samples one by one; allowed: GroupNorm or "
            "LayerNorm instead"
        ) from error
    raise UsageError(
        f"samples: given a batch of {n}, by which a BatchNorm cannot normalise; allowed: at least 2 (or a net with "
        "GroupNorm or LayerNorm instead)"
    ) from error


def check_range(error: LookupError) -> None:
    """Raises UsageError if the error is an embedding's that has no row for a number."""
    if "index out of range" in str(error):
        raise UsageError(
            "samples: a number is larger than the network's embedding has rows for, or negative; allowed: 0 to its "
            "num_embeddings - 1"
        ) from error
