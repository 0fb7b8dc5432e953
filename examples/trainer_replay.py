"""A tiny transformer learns three pairs of topics with the Trainer, one after the other: alone, with replay, with both.

    python examples/trainer_replay.py

Prints the accuracy on the texts of all topics after the last pair, for three seeds, and that on the last pair alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from typing import Any

import torch
from torch import Tensor

from synergy.methods.synergy import SynergyConfig

try:
    from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments
    from transformers.utils import logging as remarks
except ImportError as error:
    sys.exit(f"{error}; install what this example needs with: pip install 'synergy-cl[adapters]'")

from synergy.stream.faces.trainer import ReplayCallback

TOPICS, LENGTH, WORDS = 6, 8, 10
WAYS = ("alone", "replay", "replay + anchor")


def texts(topics: tuple[int, ...], n: int, rng: torch.Generator) -> list[dict[str, Tensor]]:
    """Texts whose words are those of a topic with probability 0.5, else any."""
    labels = torch.tensor(topics)[torch.randint(len(topics), (n,), generator=rng)]
    own = labels[:, None] * WORDS + torch.randint(WORDS, (n, LENGTH), generator=rng)
    other = torch.randint(TOPICS * WORDS, (n, LENGTH), generator=rng)
    words = torch.where(torch.rand(n, LENGTH, generator=rng) < 0.5, own, other)
    mask = torch.ones_like(words)
    return [{"input_ids": w, "attention_mask": m, "labels": k} for w, m, k in zip(words, mask, labels, strict=True)]


def callback(way: str, seed: int) -> list[Any]:
    """What the Trainer is given: nothing, replay alone, or replay with consistency and the anchor."""
    if way == "alone":
        return []
    anchor: dict[str, Any] = {"reg_weight": 0.0, "penalty_weight": 0.0} if way == "replay" else {}
    config = SynergyConfig(buffer_size=60, minibatch_size=16, ema_alpha=0.98, fisher_update_freq=0.02, **anchor)
    return [ReplayCallback(config, seed)]


def accuracies(model: Any, samples: list[dict[str, Tensor]]) -> tuple[float, float]:
    """Percent of the samples that the model answers right: of all topics, and of the last pair."""
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    labels = batch.pop("labels")
    with torch.no_grad():
        right = 100 * (model.eval()(**batch).logits.argmax(1) == labels).double()
    return right.mean().item(), right[labels >= TOPICS - 2].mean().item()


def learned(way: str, seed: int, steps: int) -> tuple[float, float]:
    """Accuracy on all topics and on the last pair, after the pairs were learned one after the other."""
    rng = torch.Generator().manual_seed(seed)
    test = texts(tuple(range(TOPICS)), 600, rng)
    torch.manual_seed(seed)
    small: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "initializer_range": 0.2,  # with the usual 0.02 so small a model needs hundreds of steps before it learns
    }
    texts_of: dict[str, Any] = {"vocab_size": TOPICS * WORDS, "max_position_embeddings": LENGTH, "num_labels": TOPICS}
    make: Any = BertConfig
    config = make(**small, **texts_of, attn_implementation="eager")
    model, callbacks = BertForSequenceClassification(config), callback(way, seed)
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, TOPICS, 2):
            arguments = TrainingArguments(
                folder, max_steps=steps, per_device_train_batch_size=16, learning_rate=3e-3, seed=seed, use_cpu=True,
                report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
            )  # fmt: skip
            data: Any = texts((first, first + 1), 16 * steps, rng)
            trainer = Trainer(model, arguments, train_dataset=data, callbacks=callbacks)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
    return accuracies(model, test)


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120, help="optimiser steps of each pair of topics")
    parser.add_argument("--seeds", type=int, default=3, help="seeds, from 0 on")
    given = parser.parse_args()
    quiet: Any = remarks.set_verbosity_error
    quiet()
    print("accuracy on all topics, %   " + "".join(f"seed {seed}  " for seed in range(given.seeds)) + "mean  last pair")
    for way in WAYS:
        found = [learned(way, seed, given.steps) for seed in range(given.seeds)]
        whole, last = zip(*found, strict=True)
        columns = (*whole, sum(whole) / len(whole), sum(last) / len(last))
        print(f"{way:26s}" + "".join(f"{each:8.1f}" for each in columns), flush=True)


if __name__ == "__main__":
    main()
