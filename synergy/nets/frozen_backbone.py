"""Pre-trained backbones that stay as they are: from images or texts to the features below the head."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from synergy.errors import UsageError, unknown
from synergy.nets import BACKBONES
from synergy.nets.image_size import ImageSize

Features: TypeAlias = Callable[[Tensor], Tensor]
"""From a batch of inputs `[B, ...]` to its features, float `[B, F]`."""


@dataclass(frozen=True)
class Preparation:
    """What is done to images in [0, 1] before a backbone sees them.

    Attributes:
        size: that the images are scaled to, whole.
        mean, std: per channel, of values in [0, 1]; empty where the backbone does not say.

    Examples:
        >>> Preparation(ImageSize(3, 4, 4), (0.5,) * 3, (0.5,) * 3)(torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 3, 4, 4])
    """

    size: ImageSize
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same images as the backbone wants them."""
        images = self.size.fitted(images)
        if not self.mean:
            return images
        mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std

    def facts(self) -> list[object]:
        """What changes when the result does, in JSON's types."""
        return [self.size.channels, self.size.height, self.size.width, list(self.mean), list(self.std)]


class FrozenBackbone(ABC):
    """A pre-trained network without its head. It is loaded only where features have to be computed.

    Attributes:
        name: for messages and records, such as "hf:dino".
        fingerprint: "sha256 …" of the weights and the settings.
    """

    name: str
    fingerprint: str

    @abstractmethod
    def preparation(self, shape: tuple[int, ...]) -> Preparation | None:
        """What is done to images of `shape` `(C, H, W)`; None for texts, which are taken as they are.

        Raises:
            UsageError: it does not take such samples.
        """

    @abstractmethod
    def load(self, shape: tuple[int, ...]) -> tuple[torch.nn.Module, Features]:
        """The network on the CPU, in evaluation mode, without gradients, and what gives the features of a batch.

        Args:
            shape: of a sample, before `preparation`.

        Raises:
            UsageError: the weights are not all there, or do not fit.
        """


def find(name: str) -> FrozenBackbone:
    """The backbone called `hf:NAME` or `timm:NAME`. Nothing is loaded.

    Raises:
        UsageError: there is no such backbone.
    """
    family, _, rest = name.partition(":")
    if family not in BACKBONES:
        raise unknown("kind of backbone", f"{family}:", [f"{known}:" for known in BACKBONES])
    module, _, function = BACKBONES[family].partition(":")
    found: FrozenBackbone = vars(import_module(module))[function](rest)
    return found


def fingerprint(files: Iterable[Path]) -> str:
    """Such as "sha256 2cf2…": of the names and the contents of files.

    Raises:
        UsageError: one cannot be read.
    """
    total = hashlib.sha256()
    for path in sorted(files):
        try:
            with path.open("rb") as file:
                total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise UsageError(f"features: cannot read {path}: {error.strerror}") from error
    return f"sha256 {total.hexdigest()}"
