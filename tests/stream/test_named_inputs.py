"""Learners whose samples are several named tensors, and whose networks give several outputs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synergy import Learner, UsageError
from synergy.nets.named import Packing
from tests.stream.test_learner import FREE, few


class Reader(nn.Module):
    """The mean embedding of the tokens that the mask shows, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.classifier = nn.Linear(4, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        shown = attention_mask[..., None].to(self.embedding.weight.dtype)
        mean = (self.embedding(input_ids) * shown).sum(1) / shown.sum(1)
        return {"hidden": mean, "logits": self.classifier(mean)}


def texts(n: int, seed: int = 0) -> tuple[dict[str, Tensor], list[str]]:
    """Low tokens are one class, high ones the other; the mask covers a token that misleads."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    ids = torch.randint(0, 5, (n, 4), generator=rng) + 5 * labels[:, None]
    ids[:, 3] = 9 * (1 - labels)
    mask = torch.ones_like(ids)
    mask[:, 3] = 0
    return {"input_ids": ids, "attention_mask": mask}, [("low", "high")[label] for label in labels.tolist()]


@pytest.mark.parametrize("name", FREE)
def test_every_method_learns_saves_and_goes_on(name: str, tmp_path: Path) -> None:
    learner = Learner(Reader(), name, **few(name))
    for step in range(4):
        learner.observe(*texts(6, step))
    learner.save(tmp_path / "learner")
    loaded, copied = Learner.load(tmp_path / "learner", Reader()), copy.deepcopy(learner)
    x, y = texts(6, 9)
    for each in (learner, loaded, copied):
        each.observe(x, y)
    scores = learner.scores(x)
    assert scores.shape == (6, 2)
    assert torch.equal(scores, loaded.scores(x)) and torch.equal(scores, copied.scores(x))


def test_it_learns_by_the_shown_tokens() -> None:
    learner = Learner(Reader(), "synergy", buffer_size=20, minibatch_size=8, lr=0.5)
    for step in range(80):
        learner.observe(*texts(8, step))
    assert learner.evaluate(*texts(40, 999))["working"] > 90


def wrong(change: str) -> Any:
    x, _ = texts(4)
    match change:
        case "name":
            return {"input_ids": x["input_ids"], "mask": x["attention_mask"]}
        case "missing":
            return {"input_ids": x["input_ids"]}
        case "length":
            return {"input_ids": x["input_ids"][:, :3], "attention_mask": x["attention_mask"]}
        case "number":
            return {"input_ids": x["input_ids"][:3], "attention_mask": x["attention_mask"]}
    return x["input_ids"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("name", "given input_ids, mask; allowed: input_ids, attention_mask, as in the first batch"),
        ("missing", "given input_ids; allowed: input_ids, attention_mask"),
        ("length", r"'input_ids' has shape \[4, 3\]; allowed: \[B, 4\], .*pad texts to one length"),
        ("number", r"given tensors for \[3, 4\] samples"),
        ("tensor", "given a Tensor; allowed: a mapping of input_ids, attention_mask"),
    ],
)
def test_another_batch_is_refused_and_nothing_changes(change: str, told: str) -> None:
    learner = Learner(Reader(), "er", buffer_size=40)
    other = copy.deepcopy(learner)
    x, y = texts(4)
    for each in (learner, other):
        each.observe(x, y)
    with pytest.raises(UsageError, match=told):
        learner.observe(wrong(change), y)
    assert torch.equal(learner.scores(x), other.scores(x))


def test_a_first_batch_that_is_wrong_leaves_the_learner_fresh() -> None:
    learner = Learner(Reader(), "er", buffer_size=40)
    x, y = texts(4)
    with pytest.raises(UsageError, match="network: it cannot take samples"):
        learner.observe({"other": x["input_ids"]}, y)
    with pytest.raises(UsageError, match="without entries"):
        learner.observe({}, y)
    learner.observe(x, y)
    assert len(learner.memory) == 4


def test_a_mapping_after_tensors_is_refused() -> None:
    learner = Learner(nn.Linear(4, 2), "er", buffer_size=40)
    learner.observe(torch.eye(4), [0, 1, 0, 1])
    with pytest.raises(UsageError, match="given a mapping; allowed: one tensor"):
        learner.observe(texts(4)[0], [0, 1, 0, 1])


def test_numbers_beside_floats_stay_exact_or_are_refused() -> None:
    mixed = {"ids": torch.tensor([[2**24]]), "values": torch.tensor([[0.5]])}
    packing = Packing.of(mixed)
    back = packing.unpack(packing.pack(mixed))
    assert all(torch.equal(back[name], mixed[name]) and back[name].dtype == mixed[name].dtype for name in mixed)
    with pytest.raises(UsageError, match="above 16777216"):
        packing.pack({**mixed, "ids": torch.tensor([[2**24 + 1]])})


def test_adapters_of_a_transformer(tmp_path: Path) -> None:
    """LoRA on a classifier of transformers: only the adapters and the head move, and only they are saved."""
    transformers: Any = pytest.importorskip("transformers")
    peft: Any = pytest.importorskip("peft")
    from synergy.nets.hugging_face import adapted

    assert peft.__version__

    def made() -> nn.Module:
        torch.manual_seed(0)
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        config = transformers.BertConfig(**small, vocab_size=10, max_position_embeddings=4, num_labels=2)
        net = adapted(transformers.BertForSequenceClassification(config), rank=2)
        net.get_submodule("base_model.model.classifier").requires_grad_(True)
        return net

    x, y = texts(8)
    learner = Learner(
        made(), "synergy", buffer_size=20, minibatch_size=4, fisher_update_freq=1.0, classes=["low", "high"]
    )
    for _ in range(3):
        learner.observe(x, y)
    learner.save(tmp_path / "learner")
    loaded = Learner.load(tmp_path / "learner", made())
    assert same_scores_of(loaded, learner, x)
    names = (tmp_path / "learner" / "state.json").read_text()
    assert "lora_A" in names and "word_embeddings" not in names


def same_scores_of(one: Learner, other: Learner, x: Any) -> bool:
    return all(torch.equal(one.scores(x, name), other.scores(x, name)) for name in one.predictors)
