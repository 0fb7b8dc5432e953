"""The published data sets, as their hub repositories lay them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Published:
    """One data set of the Hugging Face hub.

    Attributes:
        name: what it is called here, and the name of its folder in a data folder.
        hub_id: its repository on the hub.
        image, label: names of the two columns that are read.
        channels, size: of every image, `uint8 [channels, size, size]`.
        classes: labels are 0 … classes - 1.
        train_samples, test_samples: how many were published.
        test_split: the hub's name of the split that serves as the test set.
    """

    name: str
    hub_id: str
    image: str
    label: str
    channels: int
    size: int
    classes: int
    train_samples: int
    test_samples: int
    test_split: str


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        published.name: published
        for published in (
            Published("mnist", "ylecun/mnist", "image", "label", 1, 28, 10, 60_000, 10_000, "test"),
            Published("cifar10", "uoft-cs/cifar10", "img", "label", 3, 32, 10, 50_000, 10_000, "test"),
            Published("cifar100", "uoft-cs/cifar100", "img", "fine_label", 3, 32, 100, 50_000, 10_000, "test"),
            # Its test set was published without labels; everyone tests on the validation set.
            Published("tiny-imagenet", "zh-plus/tiny-imagenet", "image", "label", 3, 64, 200, 100_000, 10_000, "valid"),
        )
    }
)
