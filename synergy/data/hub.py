"""Data sets of the Hugging Face hub: the only file that imports `datasets`, which is the extra `hub`.

The functions import `datasets` themselves: it takes a second, which a run with cached data does not need.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from synergy.data import parquet
from synergy.data.cache import Decoded
from synergy.data.parquet import Part
from synergy.data.published import Published
from synergy.errors import UsageError

if TYPE_CHECKING:
    import datasets

_ROWS = 1_000
"""Rows in one read."""


class HubError(Exception):
    """The hub did not give the data set. The message is one line with the reason."""


def from_hub(published: Published) -> Decoded:
    """Download and decode a data set.

    Raises:
        HubError: `datasets` is not installed, or the hub, the network or the local copy failed.
        UsageError: its content differs from the published layout.
    """
    require_datasets()
    import datasets

    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        try:
            require_hub()
            splits = datasets.load_dataset(published.hub_id, cache_dir=scratch)
        except _hub_errors() as error:
            raise HubError(_reason(error)) from error
        wanted = ("train", published.test_split)
        if not set(wanted) <= set(splits):
            raise UsageError(f"{published.hub_id} has the splits {', '.join(splits)}; expected {' and '.join(wanted)}")
        train, test = ([_part(published, splits[split], f"{published.hub_id} [{split}]")] for split in wanted)
        return parquet.from_parts(published, train, test)


def _part(published: Published, split: datasets.Dataset, where: str) -> Part:
    parquet.check_table(published, split.features.arrow_schema, len(split), where)
    return Part(where, len(split), split.with_format("arrow").iter(batch_size=_ROWS))


def require_datasets() -> None:
    """Raises HubError, which names the extra, if `datasets` is not installed."""
    try:
        import datasets  # noqa: F401 - only to see whether it is there
    except ImportError as error:
        raise HubError("the package 'datasets' is missing: pip install 'synergy-cl[hub]'") from error


def require_hub() -> None:
    """Raise at once if the hub does not answer; `datasets` would try for half a minute.

    Raises:
        OSError: and what the HTTP library raises (see `_hub_errors`).
    """
    from huggingface_hub import constants, get_session

    if not constants.HF_HUB_OFFLINE:
        get_session().head(constants.ENDPOINT, timeout=10)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, `datasets` shows no log, and no progress bars unless the environment asks for them."""
    import datasets

    verbosity = datasets.logging.get_verbosity()
    bars = "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ and not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


def _hub_errors() -> tuple[type[Exception], ...]:
    """Errors of `load_dataset` where the hub, the network or its own cache fails."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the HTTP library in use
    from pyarrow import ArrowException

    # OSError includes ConnectionError and FileNotFoundError. A download by Xet fails with RuntimeError, an incomplete
    # cache of the hub with ValueError.
    return (OSError, RuntimeError, ValueError, DatasetsError, HTTPError, ArrowException)


def _reason(error: Exception) -> str:
    """The error in one short line. Where `datasets` wraps an error, the wrapped one says more."""
    from datasets.exceptions import DatasetsError

    said = error.__cause__ if isinstance(error, DatasetsError) and error.__cause__ is not None else error
    return f"{type(said).__name__}: {' '.join(str(said).split())[:200]}"
