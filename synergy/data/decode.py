"""From Parquet files or the hub to arrays: the only file that imports `datasets`.

The functions import `datasets` themselves: it takes a second, which a run with cached data does not need.
"""

from __future__ import annotations

import glob
import io
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from synergy.data.cache import Decoded
from synergy.data.published import Published
from synergy.errors import UsageError

if TYPE_CHECKING:
    import datasets
    import pyarrow

_ROWS = 1_000
"""Rows in one read."""

_MODES = {1: ("L",), 3: ("RGB", "L")}
"""The kinds of image (Pillow's names) that fit each number of channels. Grey-scale becomes RGB without loss."""

_Arrays: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]


class Files(NamedTuple):
    """The Parquet files of a data set, in the order of their names.

    Examples:
        >>> Files((Path("train-0.parquet"),), (Path("test-0.parquet"),)).train[0].name
        'train-0.parquet'
    """

    train: tuple[Path, ...]
    test: tuple[Path, ...]


class HubError(Exception):
    """The hub did not give the data set. The message is one line with the reason."""


def from_files(published: Published, files: Files) -> Decoded:
    """Decode a folder's Parquet files.

    Raises:
        UsageError: a file is damaged, or its content differs from the published layout.
    """
    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        train, test = (
            _joined(published, [(file.name, _read(published, file, scratch)) for file in part]) for part in files
        )
    return Decoded(*train, *test)


def from_hub(published: Published) -> Decoded:
    """Download and decode a data set.

    Raises:
        HubError: the hub, the network or the local copy failed.
        UsageError: its content differs from the published layout.
    """
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
        for split in wanted:
            schema = splits[split].features.arrow_schema
            _check_table(published, schema, len(splits[split]), f"{published.hub_id} [{split}]")
        train, test = (_joined(published, [(f"{published.hub_id} [{split}]", splits[split])]) for split in wanted)
    return Decoded(*train, *test)


def _read(published: Published, file: Path, scratch: str) -> datasets.Dataset:
    """One file's two columns, images still encoded."""
    import datasets
    from pyarrow import parquet

    # Given here, so that a file's own description of its columns has no effect.
    features = datasets.Features(
        {published.image: datasets.Image(decode=False), published.label: datasets.Value("int64")}
    )
    with _named(published, file):
        metadata = parquet.read_metadata(file)
        schema = metadata.schema.to_arrow_schema()
    _check_table(published, schema, metadata.num_rows, file.name)
    with _named(published, file):
        # `load_dataset("parquet", …)` would report each use over the network.
        return datasets.Dataset.from_parquet(
            glob.escape(str(file)), columns=list(features), features=features, cache_dir=scratch
        )


@contextmanager
def _named(published: Published, file: Path) -> Iterator[None]:
    """Within, errors about reading `file` become a UsageError that names it."""
    import pyarrow
    from datasets.exceptions import DatasetsError

    try:
        yield
    # Pyarrow raises its own errors, OSError, or ValueError for text that is not UTF-8; `datasets` wraps some of them.
    except (OSError, ValueError, pyarrow.ArrowException, DatasetsError) as error:
        raise UsageError(
            f"{published.name}: {file.name} is damaged or not a Parquet file ({_reason(error)}); fetch it again"
        ) from error


def _check_table(published: Published, schema: pyarrow.Schema, rows: int, where: str) -> None:
    from pyarrow import types

    if rows == 0:
        raise UsageError(f"{published.name}: {where} holds no samples")
    found = {field.name: field.type for field in schema}
    image, label = found.get(published.image), found.get(published.label)
    encoded = image is not None and types.is_struct(image) and image.get_field_index("bytes") >= 0
    if not encoded or label is None or not types.is_integer(label):
        columns = ", ".join(f"{name} ({kind})" for name, kind in found.items())
        raise UsageError(
            f"{published.name}: {where} has the columns {columns}; expected "
            f"{published.image} (struct with bytes) and {published.label} (integer)"
        )


def _joined(published: Published, parts: Sequence[tuple[str, datasets.Dataset]]) -> _Arrays:
    """Decode the parts of a split, one after the other; each comes with its name for errors."""
    total = sum(len(part) for _, part in parts)
    images = np.empty((total, published.channels, published.size, published.size), np.uint8)
    labels = np.empty(total, np.int64)
    done = 0
    for where, part in parts:
        rows = slice(done, done + len(part))
        _decode(published, where, part, images[rows], labels[rows])
        done = rows.stop
    return images, labels


def _decode(
    published: Published,
    where: str,
    part: datasets.Dataset,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
) -> None:
    """Fill `images` and `labels`, in one thread: Pillow holds the interpreter's lock, so that more are slower."""
    row = 0
    for table in part.with_format("arrow").iter(batch_size=_ROWS):
        column = table[published.label].to_pylist()
        for cell, label in zip(table[published.image].to_pylist(), column, strict=True):
            location = f"{published.name}: row {row} of {where}"
            images[row] = _image(published, cell, location)
            labels[row] = _label(published, label, location)
            row += 1


def _image(published: Published, cell: dict[str, bytes | None] | None, location: str) -> NDArray[np.uint8]:
    """One encoded image as `uint8 [C, H, W]`."""
    encoded = cell["bytes"] if cell is not None else None
    if encoded is None:
        raise UsageError(f"{location} has no image")
    image = _opened(encoded, location)
    _check_image(published, image, location)
    pixels = np.asarray(image.convert(_MODES[published.channels][0]))
    return pixels.reshape(published.size, published.size, published.channels).transpose(2, 0, 1)


def _opened(encoded: bytes, location: str) -> Image.Image:
    """The image, turned by its EXIF orientation as `datasets` turns it."""
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
        return ImageOps.exif_transpose(image) if ExifTags.Base.Orientation in image.getexif() else image
    # Pillow raises SyntaxError, ValueError or struct.error for some broken files.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise UsageError(f"{location} is not a readable image") from error


def _check_image(published: Published, image: Image.Image, location: str) -> None:
    side, modes = published.size, _MODES[published.channels]
    if image.size != (side, side) or image.mode not in modes:
        width, height = image.size
        raise UsageError(
            f"{location} is an image of {width}x{height}, {image.mode}; expected {side}x{side}, {' or '.join(modes)}"
        )


def _label(published: Published, label: int | None, location: str) -> int:
    if label is None or not 0 <= label < published.classes:
        raise UsageError(f"{location} has the label {label}; expected 0 to {published.classes - 1}")
    return label


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
