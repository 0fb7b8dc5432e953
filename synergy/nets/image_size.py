"""The size of images that a network needs, and images brought to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from synergy.errors import UsageError


@dataclass(frozen=True)
class ImageSize:
    """What a network needs of its images.

    Attributes:
        channels: of an image; None for any number.
        height, width: pixels; None for any size.

    Examples:
        >>> import torch
        >>> ImageSize(3, 32, 32).fitted(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 3, 32, 32])
    """

    channels: int | None
    height: int | None
    width: int | None

    def check(self, name: str, shape: tuple[int, ...], *, resized: bool, what: str = "net") -> None:
        """Raises UsageError unless images of `shape` `(C, H, W)` fit the network called `name`.

        Args:
            resized: whether `fitted` will be applied: then any size does, and one channel does for several.
            what: what messages call the network.
        """
        if len(shape) != 3:
            raise UsageError(
                f"{what} {name}: given samples of shape {shape}; allowed: images, (channels, height, width)"
            )
        needed = tuple(own or given for own, given in zip((self.channels, self.height, self.width), shape, strict=True))
        if resized and shape[0] in (1, needed[0]):
            return
        if needed != shape:
            fix = "" if shape[0] not in (1, needed[0]) else "; give --resize to scale them"
            raise UsageError(f"{what} {name}: needs images of shape {needed}, given {shape}{fix}")

    def fitted(self, images: Tensor) -> Tensor:
        """Images `[B, C, H, W]` in this size, bilinearly scaled; one channel is repeated."""
        if self.channels is not None and images.shape[1] != self.channels:
            images = images.expand(-1, self.channels, -1, -1)
        size = (self.height or images.shape[2], self.width or images.shape[3])
        if images.shape[2:] == size:
            return images
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
