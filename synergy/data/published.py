"""The published data sets, with the layout of their hub repositories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Published:
    """One data set of the Hugging Face hub.

    Attributes:
        name: of the data set here, and of its folder in a data folder.
        hub_id: its repository on the hub.
        image, label: names of the two columns that are read.
        channels, size: of every image, `uint8 [channels, size, size]`.
        classes: labels are 0 … classes - 1.
        train_samples, test_samples: numbers of published samples.
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
            # Its published test set has no labels; the validation set serves as the test set everywhere.
            Published("tiny-imagenet", "zh-plus/tiny-imagenet", "image", "label", 3, 64, 200, 100_000, 10_000, "valid"),
        )
    }
)

CLASS_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        name: tuple(names.split())
        for name, names in {
            "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
            "cifar100": """
                apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
                can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
                dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
                lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
                pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
                seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
                tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
                worm
            """,
        }.items()
    }
)
"""The names of the labels 0, 1, … of a data set. Data sets that are not listed have no names."""
