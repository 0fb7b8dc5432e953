"""Data sets made for a test, as Parquet files in the layout of the hub."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

Pixels: TypeAlias = NDArray[np.uint8]


def pictures(count: int, *shape: int, seed: int = 0) -> Pixels:
    """Random images `[count, *shape]`, with the channels last if there are any."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def png(pixels: Pixels, exif: Image.Exif | bytes = b"") -> bytes:
    """An image `[H, W]` or `[H, W, C]` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", exif=exif)
    return buffer.getvalue()


def write_parquet(
    path: Path, images: list[bytes | None], labels: list[Any], image: str = "image", label: str = "label"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = pa.array(
        [{"bytes": encoded, "path": None} for encoded in images],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    parquet.write_table(pa.table({image: structs, label: labels}), path)


def write_split(path: Path, images: Pixels, labels: list[Any], image: str = "image", label: str = "label") -> None:
    write_parquet(path, [png(pixels) for pixels in images], labels, image, label)
