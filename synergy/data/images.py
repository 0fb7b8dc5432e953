"""From an encoded image to pixels: the one way, for every source."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from synergy.errors import UsageError

BROKEN = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for files that are broken in one way or another."""


def opened(encoded: bytes | Path, location: str) -> Image.Image:
    """The image, turned by its EXIF orientation as `datasets` turns it.

    Raises:
        UsageError: it cannot be read; the message names its `location`.
    """
    try:
        image = Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)
        image.load()
        return ImageOps.exif_transpose(image) if ExifTags.Base.Orientation in image.getexif() else image
    except BROKEN as error:
        raise UsageError(f"{location} is not a readable image") from error


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """`uint8 [C, H, W]` of an image of mode L (C = 1) or RGB (C = 3)."""
    array = np.asarray(image)
    return array[np.newaxis] if array.ndim == 2 else array.transpose(2, 0, 1)
