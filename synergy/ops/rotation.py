"""Nearest-neighbour rotation about the centre, as a gather with a precomputed index map."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_index(angles: Tensor, height: int, width: int) -> Tensor:
    """For each angle, which source pixel every target pixel takes.

    Args:
        angles: `[...]`, degrees, counter-clockwise as one looks at the image. Computed in float64.
        height, width: of the image, in pixels.

    Returns:
        `int64 [..., height * width]`, indices into the flattened image; `height * width` where the source lies outside,
        so that a gather from an image with one zero pixel appended gives the black border.
    """
    radians = torch.deg2rad(angles.to(torch.float64))[..., None]
    cos, sin = torch.cos(radians), torch.sin(radians)
    row, column = torch.meshgrid(
        torch.arange(height, dtype=torch.float64, device=angles.device) + 0.5 - height / 2,
        torch.arange(width, dtype=torch.float64, device=angles.device) + 0.5 - width / 2,
        indexing="ij",
    )
    # The target pixel's centre, turned back by the angle (rows grow downwards), lies in this source pixel.
    source_column = torch.floor(cos * column.flatten() - sin * row.flatten() + width / 2).to(torch.int64)
    source_row = torch.floor(sin * column.flatten() + cos * row.flatten() + height / 2).to(torch.int64)
    inside = (source_column >= 0) & (source_column < width) & (source_row >= 0) & (source_row < height)
    return torch.where(inside, source_row * width + source_column, height * width)


def gather_pixels(images: Tensor, index: Tensor) -> Tensor:
    """Move pixels: `out[n, c, i] = images[n, c, index[i]]`, zero where the index lies one past the end.

    Args:
        images: `[N, C, H, W]`.
        index: `int64 [H * W]`, one map for all images, or `[N, H * W]`, one for each.
    """
    n, channels, height, width = images.shape
    padded = images.new_zeros(n, channels, height * width + 1)
    padded[..., :-1] = images.flatten(2)
    if index.dim() == 1:
        moved = padded.index_select(2, index)
    else:
        moved = padded.gather(2, index[:, None].expand(n, channels, height * width))
    return moved.view(n, channels, height, width)
