"""Your own Dataset and DataLoader, your own CNN, your own transform; on a GPU if there is one.

Put your own classes in place of `Photos` and `Convolutional`. The dataset gives uint8 images, so that memory stores
bytes. One batched function turns them into inputs of the network, for the stream and for replay alike.

    python examples/own_data.py
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from synergy import Learner


class Photos(Dataset[tuple[Tensor, int]]):
    """The photos of a day, `uint8 [1, 8, 8]`, and their labels: two new digits each day."""

    def __init__(self, day: int, *, held_out: bool = False) -> None:
        bunch = load_digits()
        chosen = (bunch.target // 2 == day) & ((np.arange(len(bunch.target)) % 5 == 0) == held_out)
        self.images = torch.from_numpy((bunch.images[chosen] * 15.9).astype(np.uint8))[:, None]
        self.labels = bunch.target[chosen].tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


class Convolutional(nn.Module):
    """A small CNN for images of 16 by 16."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(32 * 4 * 4, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images))
        return logits


def enlarged(raw: Tensor) -> Tensor:
    """Stored bytes `[B, 1, 8, 8]` -> inputs of the network, `float32 [B, 1, 16, 16]`, from -1 to 1."""
    return F.interpolate(raw.float() / 127.5 - 1, scale_factor=2, mode="bilinear", align_corners=False)


def shifted(raw: Tensor, rng: np.random.Generator) -> Tensor:
    """Move a batch by up to one pixel. The learner owns the generator, and saves and restores it."""
    down, right = rng.integers(-1, 2, size=2).tolist()
    return raw.roll((down, right), dims=(2, 3))


def main() -> None:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, formatter_class=shown)
    parser.add_argument("--epochs", type=int, default=5, help="passes over the photos of a day (default 5)")
    epochs = parser.parse_args().epochs
    if epochs < 1:
        parser.error(f"--epochs: given {epochs}; allowed: whole numbers from 1 on")

    torch.manual_seed(0)
    learner = Learner(
        Convolutional(),
        method="synergy",
        buffer_size=200,
        lr=0.1,
        ema_alpha=0.95,
        transform=enlarged,
        augment=shifted,
        device="auto",
    )
    print(f"learning on {learner.device}")
    for day in range(5):
        loader = DataLoader(Photos(day), batch_size=16, shuffle=True)
        for _ in range(epochs):
            for images, labels in loader:
                learner.observe(images, labels)
        tests = [Photos(past, held_out=True) for past in range(day + 1)]
        right = [learner.evaluate(test.images, test.labels)["semantic"] for test in tests]
        print(f"after day {day + 1}, % right of each day so far: {'  '.join(f'{each:5.1f}' for each in right)}")
    summary = learner.memory.summary()
    print(f"{summary['samples']} photos in memory, {summary['bytes'] / 1024:.0f} KiB: {summary['per_class']}")


if __name__ == "__main__":
    main()
