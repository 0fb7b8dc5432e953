"""Train a small ResNet of transformers on CIFAR-100 and save it, for `--features` on other data.

    SYNERGY_DATA=folder python benchmarks/features_backbone.py FOLDER

It has 1.3 million weights and learns for five epochs, one thread. `FOLDER` is then as `save_pretrained` leaves it, with
the normalisation of its images.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from synergy.data.sources import Source, load
from synergy.data.view import CIFAR

try:
    from transformers import ResNetConfig, ResNetForImageClassification
except ImportError as error:
    sys.exit(f"{error}; install what this benchmark needs with: pip install 'synergy-cl[transformers]'")

BATCH = 128


def model() -> Any:
    """The network with random weights."""
    torch.manual_seed(0)
    make: Any = ResNetConfig
    widths = [32, 64, 128, 256]
    config = make(embedding_size=32, hidden_sizes=widths, depths=[1, 1, 1, 1], layer_type="basic", num_labels=100)
    return ResNetForImageClassification(config)


def learn(net: Any, source: Source, epochs: int) -> None:
    """Train in place, with crops and flips; a line after each epoch."""
    rng, n = np.random.default_rng(0), len(source.train)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=epochs * (n // BATCH))
    for epoch in range(epochs):
        net.train()
        for indices in torch.from_numpy(rng.permutation(n)).split(BATCH)[: n // BATCH]:
            inputs = CIFAR(source.train.raw[indices], CIFAR.decide(BATCH, rng))
            loss = F.cross_entropy(net(inputs).logits, source.train.labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: {accuracy(net.eval(), source):.1f} % of the test images", flush=True)


def accuracy(net: Any, source: Source) -> float:
    """Percent of the test images that are answered right."""
    right = 0
    with torch.no_grad():
        for raw, labels in zip(source.test.raw.split(500), source.test.labels.split(500), strict=True):
            right += int((net(CIFAR.plain(raw)).logits.argmax(1) == labels).sum())
    return 100 * right / len(source.test)


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the network goes")
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net = model()
    learn(net, load("cifar100"), given.epochs)
    net.save_pretrained(given.folder)
    settings = {"do_normalize": True, "image_mean": CIFAR.mean, "image_std": CIFAR.std}
    (given.folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    main()
