"""From Parquet files of encoded images, in the layout of the hub, to arrays.

The functions import `pyarrow` themselves: a run with cached data does not need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synergy.data import images
from synergy.data.cache import Decoded
from synergy.data.published import CLASS_NAMES, Published
from synergy.errors import UsageError

if TYPE_CHECKING:
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


class Part(NamedTuple):
    """Some samples of a split.

    Attributes:
        where: its name, for errors.
        rows: number of samples.
        batches: tables of the image and the label column, one after the other.

    Examples:
        >>> Part("train-0.parquet", 0, []).rows
        0
    """

    where: str
    rows: int
    batches: Iterable[Any]


def from_files(published: Published, files: Files) -> Decoded:
    """Decode a folder's Parquet files.

    Raises:
        UsageError: a file is damaged, or its content differs from the published layout.
    """
    train, test = ([_part(published, file) for file in part] for part in files)
    return from_parts(published, train, test)


def inspected(published: Published, file: Path) -> int:
    """The number of samples in a file: all of it is read, the first image of every thousand is decoded.

    Raises:
        UsageError: the file is damaged, or its content differs from the published layout.
    """
    part = _part(published, file)
    for number, batch in enumerate(part.batches):
        place = f"{published.name}: row {number * _ROWS} of {part.where}"
        _image(published, batch[published.image][0].as_py(), place)
        for label in batch[published.label].to_pylist():
            _label(published, label, place)
    return part.rows


def from_parts(published: Published, train: Sequence[Part], test: Sequence[Part]) -> Decoded:
    """Decode the parts of both splits. Raises UsageError if an image or a label differs from the published layout."""
    names = CLASS_NAMES.get(published.name, ())
    return Decoded(*_joined(published, train), *_joined(published, test), classes=names)


def check_table(published: Published, schema: pyarrow.Schema, rows: int, where: str) -> None:
    """Raises UsageError if there are no samples, or the columns differ from the published layout."""
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


def _part(published: Published, file: Path) -> Part:
    """One file's two columns, images still encoded."""
    from pyarrow import parquet

    with _named(published, file):
        metadata = parquet.read_metadata(file)
        schema = metadata.schema.to_arrow_schema()
    check_table(published, schema, metadata.num_rows, file.name)
    return Part(file.name, metadata.num_rows, _batches(published, file))


def _batches(published: Published, file: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with _named(published, file), parquet.ParquetFile(file) as content:
        yield from content.iter_batches(_ROWS, columns=[published.image, published.label])


@contextmanager
def _named(published: Published, file: Path) -> Iterator[None]:
    """Within, errors about reading `file` become a UsageError that names it."""
    import pyarrow

    try:
        yield
    # Pyarrow raises its own errors, OSError, or ValueError for text that is not UTF-8.
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UsageError(
            f"{published.name}: {file.name} is damaged or not a Parquet file ({reason}); fetch it again"
        ) from error


def _joined(published: Published, parts: Sequence[Part]) -> _Arrays:
    """Decode the parts of a split, one after the other."""
    total = sum(part.rows for part in parts)
    pictures = np.empty((total, published.channels, published.size, published.size), np.uint8)
    labels = np.empty(total, np.int64)
    done = 0
    for part in parts:
        rows = slice(done, done + part.rows)
        _decode(published, part, pictures[rows], labels[rows])
        done = rows.stop
    return pictures, labels


def _decode(published: Published, part: Part, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Fill `pictures` and `labels`, in one thread: Pillow holds the interpreter's lock, so that more are slower."""
    row = 0
    for table in part.batches:
        column = table[published.label].to_pylist()
        for cell, label in zip(table[published.image].to_pylist(), column, strict=True):
            location = f"{published.name}: row {row} of {part.where}"
            pictures[row] = _image(published, cell, location)
            labels[row] = _label(published, label, location)
            row += 1


def _image(published: Published, cell: dict[str, bytes | None] | None, location: str) -> NDArray[np.uint8]:
    """One encoded image as `uint8 [C, H, W]`."""
    encoded = cell["bytes"] if cell is not None else None
    if encoded is None:
        raise UsageError(f"{location} has no image")
    image = images.opened(encoded, location)
    _check_image(published, image, location)
    return images.pixels(image.convert(_MODES[published.channels][0]))


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
