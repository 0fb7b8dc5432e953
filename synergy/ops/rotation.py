"""Nearest-neighbour rotation about the centre: a gather with a precomputed index map."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_index(angles: Tensor, height: int, width: int) -> Tensor:
    """The source pixel of every target pixel, for each angle.

    Args:
        angles: `[...]`, degrees, counter-clockwise as one looks at the image. Computed in float64.
        height, width: of the image, in pixels.

    Returns:
        `int64 [..., height * width]`, indices into the flattened image. The index is `height * width` where the source
        lies outside: a gather from an image with one zero pixel appended gives a black border.

    Examples:
        >>> import torch
        >>> rotation_index(torch.tensor(90.0), 2, 2)
        tensor([1, 3, 0, 2])
    """
    radians = torch.deg2rad(angles.to(torch.float64))[..., None]
    cos, sin = torch.cos(radians), torch.sin(radians)
    row, column = torch.meshgrid(
        torch.arange(height, dtype=torch.float64, device=angles.device) + 0.5 - height / 2,
        torch.arange(width, dtype=torch.float64, device=angles.device) + 0.5 - width / 2,
        indexing="ij",
    )
    # The centre of a target pixel, turned back by the angle (rows grow downwards), lies in its source pixel.
    source_column = torch.floor(cos * column.flatten() - sin * row.flatten() + width / 2).to(torch.int64)
    source_row = torch.floor(sin * column.flatten() + cos * row.flatten() + height / 2).to(torch.int64)
    inside = (source_column >= 0) & (source_column < width) & (source_row >= 0) & (source_row < height)
    return torch.where(inside, source_row * width + source_column, height * width)


def gather_pixels(images: Tensor, index: Tensor) -> Tensor:
    """Move pixels: `out[n, c, i] = images[n, c, index[i]]`; 0 where the index is `H * W`.

    Args:
        images: `[N, C, H, W]`.
        index: `int64 [H * W]`, one map for all images, or `[N, H * W]`, one for each.

    Returns:
        `[N, C, H, W]`.

    Examples:
        >>> import torch
        >>> image = torch.tensor([[1, 2], [3, 4]]).view(1, 1, 2, 2)
        >>> gather_pixels(image, rotation_index(torch.tensor(90.0), 2, 2)).flatten()
        tensor([2, 4, 1, 3])
    """
    n, channels, height, width = images.shape
    padded = images.new_zeros(n, channels, height * width + 1)
    padded[..., :-1] = images.flatten(2)
    if index.dim() == 1:
        moved = padded.index_select(2, index)
    else:
        moved = padded.gather(2, index[:, None].expand(n, channels, height * width))
    return moved.view(n, channels, height, width)
