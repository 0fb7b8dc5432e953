"""From an encoded image to pixels: the one way, for every source."""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from synergy.errors import UsageError

BROKEN = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for files that are broken in one way or another."""
GREY, COLOUR = "L", "RGB"
"""The kinds of image that are kept: one channel, three channels."""
_GREYS = ("1", "L", "LA")
_DEEP = ("I", "F")
"""What the names of Pillow's kinds of image with more than 8 bits begin with."""


def opened(encoded: bytes | str, location: str) -> Image.Image:
    """The image, turned by its EXIF orientation as `datasets` turns it.

    Raises:
        UsageError: it cannot be read; the message names its `location`.
    """
    try:
        return _turned(_file(encoded))
    except BROKEN as error:
        raise UsageError(f"{location} is not a readable image") from error


def single(encoded: bytes | str, location: str, size: int | None) -> Image.Image:
    """One still image of 8 bits, grey (mode L) or in colour (mode RGB), turned by its EXIF orientation.

    Args:
        encoded: the content of a file, or its path.
        location: what messages call it.
        size: pixels of both sides. The image is scaled until it covers that square, and its middle is kept. None leaves
            the size as it is.

    Raises:
        UsageError: it cannot be read, is animated, or has more than 8 bits.
    """
    try:
        image = _file(encoded)
        moving = _moves(image)
        if size is not None:
            image.draft(
                None, (size, size)
            )  # a JPEG of a larger size is decoded at a half, a quarter or an eighth of it
        image = _turned(image)
        if not moving and not image.mode.startswith(_DEEP):
            return _sized(_eight_bits(image), size)
    except BROKEN as error:
        raise UsageError(f"{location} is not a readable image") from error
    if moving:
        raise UsageError(f"{location} is animated; allowed: images of one frame (save the frame that counts)")
    raise UsageError(f"{location} has the mode {image.mode}; allowed: 8 bits, grey or colour (scale it to 0 to 255)")


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """`uint8 [C, H, W]` of an image of mode L (C = 1) or RGB (C = 3)."""
    array = np.asarray(image)
    return array[np.newaxis] if array.ndim == 2 else array.transpose(2, 0, 1)


def _file(encoded: bytes | str) -> Image.Image:
    if isinstance(encoded, bytes):
        return Image.open(io.BytesIO(encoded))
    with io.FileIO(encoded) as file:
        return Image.open(io.BytesIO(file.readall()))


def _turned(image: Image.Image) -> Image.Image:
    image.load()
    return ImageOps.exif_transpose(image) if ExifTags.Base.Orientation in image.getexif() else image


def _moves(image: Image.Image) -> bool:
    """Whether there is a second frame. A photo of a telephone may hold a second picture (MPO), which is no frame."""
    if image.format == "MPO":
        return False
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode in (GREY, COLOUR):
        return image
    if image.mode in _GREYS:
        return image.convert(GREY)
    # Pillow wants the transparency of a palette to be kept in a channel first.
    return (image.convert("RGBA") if image.mode == "P" else image).convert(COLOUR)


def _sized(image: Image.Image, size: int | None) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
