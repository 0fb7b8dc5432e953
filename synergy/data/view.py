"""From stored samples to a network's inputs: one batched operation on the device, the same for stream and replay."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from synergy.types import ViewDraws


@dataclass(frozen=True)
class ImageView:
    """Random crop and flip, then scaling to [0, 1] and normalisation per channel.

    Attributes:
        padding: zero pixels added on each side before a crop of the original size; 0 for no crop.
        flip: whether to mirror left and right with probability 1/2.
        mean: per channel, of values in [0, 1]; empty for no normalisation.
        std: likewise.
        dtype: of the result.

    Examples:
        >>> import numpy as np, torch
        >>> view = ImageView(padding=1, flip=True)
        >>> raw = torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
        >>> view(raw, view.decide(2, np.random.default_rng(0))).shape
        torch.Size([2, 1, 4, 4])
        >>> view.plain(raw).max()
        tensor(1.)
    """

    padding: int = 0
    flip: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    dtype: torch.dtype = torch.float32

    def decide(self, n: int, rng: np.random.Generator) -> Tensor | None:
        """Draw a crop and a flip for each of `n` samples, on the host.

        Returns:
            `int64 [n, 3]`: first row and first column of the crop (0 to 2 * padding), and 1 for a flip, else 0.
            None if nothing is random.
        """
        if not (self.padding or self.flip):
            return None
        draws = np.zeros((n, 3), dtype=np.int64)
        draws[:, :2] = rng.integers(0, 2 * self.padding + 1, size=(n, 2))
        if self.flip:
            draws[:, 2] = rng.random(n) < 0.5
        return torch.from_numpy(draws)

    def __call__(self, raw: Tensor, draws: ViewDraws) -> Tensor:
        """View for training of `uint8 [B, C, H, W]`, as float of the same shape; `draws` are from `decide`."""
        return self.plain(self.augment(raw, draws))

    def augment(self, raw: Tensor, draws: ViewDraws) -> Tensor:
        """The random part alone: `[B, C, H, W]`, cropped and flipped by `draws`; as it is without any."""
        return crop_and_flip(raw, draws, padding=self.padding) if isinstance(draws, Tensor) else raw

    def plain(self, raw: Tensor) -> Tensor:
        """The view for evaluation: scaled and normalised only."""
        inputs = scaled(raw, self.dtype)
        if not self.mean:
            return inputs
        return inputs.sub_(_per_channel(self.mean, inputs.dtype, inputs.device)).div_(
            _per_channel(self.std, inputs.dtype, inputs.device)
        )


@dataclass(frozen=True, eq=False)
class FeatureView:
    """Features with mean 0 and standard deviation 1, each by itself. Nothing is random.

    Attributes:
        mean, std: of each feature, `float32 [F]`, on the device of the samples.

    Examples:
        >>> view = FeatureView.of(torch.tensor([[0.0, 5.0], [4.0, 5.0]]))
        >>> view.plain(torch.tensor([[4.0, 6.0]]))
        tensor([[1., 1.]])
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor) -> FeatureView:
        """The view that brings these samples, `float32 [N, F]`, to mean 0 and standard deviation 1.

        A feature that is the same in all samples becomes 0.
        """
        exact = features.double()
        std = exact.std(0, correction=0)
        return cls(exact.mean(0).float(), torch.where(std > 0, std, 1.0).float())

    def decide(self, n: int, rng: np.random.Generator) -> None:
        """Nothing is random."""

    def __call__(self, raw: Tensor, draws: ViewDraws) -> Tensor:
        """View for training of `float32 [B, F]`, the same as `plain`."""
        return self.plain(raw)

    def plain(self, raw: Tensor) -> Tensor:
        """The view for evaluation."""
        return (raw - self.mean) / self.std


@dataclass(frozen=True)
class StoredView:
    """Samples as they are stored: features of a frozen backbone. Nothing is random.

    Examples:
        >>> AS_STORED.plain(torch.tensor([[0.5, 2.0]]))
        tensor([[0.5000, 2.0000]])
    """

    def decide(self, n: int, rng: np.random.Generator) -> None:
        """Nothing is random."""

    def __call__(self, raw: Tensor, draws: ViewDraws) -> Tensor:
        """View for training of `[B, ...]`, the same as `plain`."""
        return self.plain(raw)

    def plain(self, raw: Tensor) -> Tensor:
        """The view for evaluation. A copy: a network may write into its inputs."""
        return raw.clone()


AS_STORED = StoredView()

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_DIVISORS = {dtype: torch.tensor(255, dtype=dtype, device="cpu") for dtype in _FLOATS}
"""On the host, where a scalar costs no transfer."""

CIFAR = ImageView(padding=4, flip=True, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2615))
TINY_IMAGENET = ImageView(padding=4, flip=True, mean=(0.4802, 0.4480, 0.3975), std=(0.2770, 0.2691, 0.2821))


def scaled(raw: Tensor, dtype: torch.dtype) -> Tensor:
    """Whole numbers `[...]` divided by 255, as `dtype`: `uint8` in [0, 1]."""
    # In one operation; a conversion and a division take half as long again.
    return raw / _DIVISORS[dtype] if raw.dtype is torch.uint8 else raw.to(dtype).div(255)


def crop_and_flip(raw: Tensor, draws: Tensor, *, padding: int) -> Tensor:
    """Crop each sample of `[B, C, H, W]` from its zero-padded self and mirror some, as one gather.

    Args:
        raw: samples of any dtype.
        draws: `int64 [B, 3]`: first row and first column of the crop in the padded image (0 to 2 * padding), and 1 to
            mirror after the crop, else 0.
        padding: pixels on each side.

    Returns:
        `[B, C, H, W]`.
    """
    batch, channels, height, width = raw.shape
    draws = draws.to(raw.device, non_blocking=True)  # where they are already, in a step
    padded = raw.new_zeros(batch, channels, height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = raw
    rows = draws[:, :1] + torch.arange(height, device=raw.device)
    columns = torch.arange(width, device=raw.device).expand(batch, width)
    columns = draws[:, 1:2] + torch.where(draws[:, 2:].bool(), columns.flip(1), columns)
    index = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    pixels = padded.flatten(2).gather(2, index.view(batch, 1, -1).expand(batch, channels, -1))
    return pixels.view(batch, channels, height, width)


@cache
def _per_channel(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Made once for each device: to bring numbers there is to wait for it."""
    return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)
