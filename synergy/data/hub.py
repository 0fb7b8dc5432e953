"""Data sets of the Hugging Face hub: the only file that imports `datasets`, which is the extra `hub`.

The functions import `datasets` themselves: it takes a second, which a run with cached data does not need.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synergy.data import labelled, parquet
from synergy.data.cache import Decoded
from synergy.data.decoding import Encoded, decoded
from synergy.data.labelled import HeldOut
from synergy.data.parquet import Part
from synergy.data.published import Published
from synergy.errors import UsageError, unknown

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


TRAIN = "train"
TESTS = ("test", "validation", "valid", "val")
"""Names of the split with the test set, in the order of preference."""
UNLABELLED = -1
"""What stands for no label on the hub."""


@dataclass(frozen=True)
class HubReader:
    """Reads the images of any image classification data set that `datasets` can load.

    Attributes:
        source: its name on the hub, or the absolute path of its folder.
        name: of the data set here.
        is_local: whether it is a folder.
        held_out: the test set where it has no test split.
        size: pixels of both sides, or None (see `images.single`).
        label: name of the column of the classes; None for the one of class labels, or else called "label".
        domains: name of the column of the domains; None if there is none.

    Examples:
        >>> HubReader("me/birds", "birds", False, HeldOut(0.2, seed=0)).facts()
        ['me/birds', None, None, None, {'share': 0.2, 'seed': 0}, []]
    """

    source: str
    name: str
    is_local: bool
    held_out: HeldOut
    size: int | None = None
    label: str | None = None
    domains: str | None = None

    @property
    def origin(self) -> str:
        where = "folder of datasets" if self.is_local else f"hub {self.source}"
        return f"{where}, its test split or else {self.held_out}"

    @property
    def labels(self) -> None:
        return None

    def facts(self) -> object:
        files = sorted(path for path in Path(self.source).rglob("*") if path.is_file()) if self.is_local else []
        stamps = [[str(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in files]
        return [self.source, self.size, self.label, self.domains, asdict(self.held_out), stamps]

    def complete(self, counts: tuple[int, int]) -> bool:
        return True

    def read(self) -> Decoded:
        try:
            require_datasets()
            import datasets

            with _quiet(), tempfile.TemporaryDirectory() as scratch:
                if not self.is_local:
                    require_hub()
                splits = datasets.load_dataset(self.source, cache_dir=scratch)
                return self._decoded(splits)
        except HubError as error:
            raise UsageError(f"split:hf:{self.source}: {error}") from error
        except UsageError:
            raise
        except _hub_errors() as error:
            raise UsageError(
                f"split:hf:{self.source}: cannot be loaded ({_reason(error)}); allowed: the name of a data set of the "
                "hub, OWNER/NAME, or a folder of Parquet files or images"
            ) from error

    def _decoded(self, splits: Mapping[str, datasets.Dataset]) -> Decoded:
        import datasets

        if TRAIN not in splits:
            raise UsageError(f"split:hf:{self.source}: has the splits {', '.join(splits)}; allowed: one called train")
        used = [TRAIN, *[name for name in TESTS if name in splits][:1]]
        whole = datasets.concatenate_datasets([splits[name] for name in used])
        image, label = self._image(whole.features), self._label(whole.features)
        classes, labels = self._numbered(whole, label)
        domains, numbers = ((), None) if self.domains is None else self._numbered(whole, self.domains)
        test = np.arange(len(whole)) >= len(splits[TRAIN])
        if not test.any():
            test = self.held_out.chosen(labels if numbers is None else labels + len(classes) * numbers)
        labelled.check_classes(f"split:hf:{self.source}", classes, labels[~test], labels[test])
        order = np.concatenate([np.flatnonzero(~test), np.flatnonzero(test)])
        rows = whole.select_columns([image]).cast_column(image, datasets.Image(decode=False)).select(order)
        pixels = decoded(self._encoded(rows, image, order, len(splits[TRAIN])), len(order), self.size)
        n = int(np.count_nonzero(~test))
        parts = (None, None) if numbers is None else (numbers[~test], numbers[test])
        return Decoded(pixels[:n], labels[~test], pixels[n:], labels[test], classes, domains, *parts)

    def _encoded(self, rows: datasets.Dataset, image: str, order: NDArray[np.int64], train: int) -> Iterator[Encoded]:
        for row, number in zip(rows, order.tolist(), strict=True):
            where = f"row {number} of train" if number < train else f"row {number - train} of the test split"
            cell = row[image]
            if cell is None or (cell["bytes"] is None and cell["path"] is None):
                raise UsageError(f"split:hf:{self.source}: {where} has no image")
            yield Encoded(where, cell["path"] if cell["bytes"] is None else cell["bytes"])

    def _image(self, features: Mapping[str, Any]) -> str:
        """The column of the images."""
        import datasets

        found = [name for name, kind in features.items() if isinstance(kind, datasets.Image) or _is_encoded(kind)]
        if len(found) != 1:
            columns = ", ".join(features)
            count = f"{len(found)} columns" if found else "no column"
            raise UsageError(f"split:hf:{self.source}: has {count} of images among {columns}; allowed: one")
        return found[0]

    def _label(self, features: Mapping[str, Any]) -> str:
        """The column of the classes."""
        import datasets

        of_labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
        if self.label is None and len(of_labels) == 1:
            return of_labels[0]
        return self._column(self.label or "label", features)

    def _column(self, name: str, features: Mapping[str, Any]) -> str:
        if name not in features:
            raise unknown(f"column in {self.source}", name, features)
        return name

    def _numbered(self, whole: datasets.Dataset, column: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The names in a column, and which of them each row has."""
        import datasets

        kind = whole.features[self._column(column, whole.features)]
        values = list(whole[column])
        missing = [row for row, value in enumerate(values) if value is None or value == "" or value == UNLABELLED]
        if missing:
            raise UsageError(f"split:hf:{self.source}: row {missing[0]} has no '{column}'; allowed: one in every row")
        if isinstance(kind, datasets.ClassLabel):
            return tuple(kind.names), np.array(values, np.int64)
        if not isinstance(values[0], str | int):
            raise UsageError(
                f"split:hf:{self.source}: '{column}' holds {type(values[0]).__name__} values; allowed: names"
            )
        names = [str(value) for value in values]
        order = labelled.ordered(names)
        return order, labelled.numbered(names, order)


def _is_encoded(kind: object) -> bool:
    """Whether a column holds images as files hold them, though nobody says so."""
    return isinstance(kind, Mapping) and kind.keys() == {"bytes", "path"}


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
