"""The callback for the Trainer of transformers: what a batch holds, what the loss is, what stays afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("accelerate")
transformers: Any = pytest.importorskip("transformers")

from synergy import UsageError  # noqa: E402
from synergy.methods.synergy import SynergyConfig  # noqa: E402
from synergy.stream.faces.trainer import ReplayCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning:torch", "ignore::DeprecationWarning"
)


def model() -> Any:
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(
        **small,
        vocab_size=20,
        max_position_embeddings=4,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    return transformers.BertForSequenceClassification(config)


def batch(seed: int, n: int = 4) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    words = torch.randint(20, (n, 4), generator=rng)
    return {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": torch.arange(n) % 3}


def joined(net: Any, **options: Any) -> ReplayCallback:
    """A callback in training on a model, with one batch in memory."""
    config = SynergyConfig(**{"buffer_size": 4, "minibatch_size": 4, "fisher_update_freq": 1.0, **options})
    callback = ReplayCallback(config)
    callback.on_train_begin(None, None, None, model=net)
    net.train()(**batch(0))
    return callback


def test_replay_joins_the_batch_and_the_loss_is_that_of_both() -> None:
    net, plain = model(), model().train()
    callback = joined(net, reg_weight=0.0, penalty_weight=0.0)
    outputs = net(**batch(1))
    both = {name: torch.cat([batch(1)[name], batch(0)[name]]) for name in batch(0)}
    torch.testing.assert_close(outputs.loss, plain(**both).loss)
    assert outputs.logits.shape == (4, 3), "the Trainer sees the logits of its own batch"
    assert len(callback.memory) == 4 and callback.memory.seen == 8


def test_the_terms_are_those_of_synergy() -> None:
    net, plain = model(), model().train()
    callback = joined(net, reg_weight=0.5, penalty_weight=2.0, ema_update_freq=0.0)
    callback.on_step_end(None, None, None, model=net)
    with torch.no_grad():
        for moved in (net, plain):
            moved.classifier.weight.add_(0.1)
    assert callback.fisher is not None and callback.semantic is not None
    outputs = net(**batch(1))
    memory = callback.memory.all()
    earlier = {"input_ids": batch(0)["input_ids"], "attention_mask": batch(0)["attention_mask"]}
    both = {name: torch.cat([batch(1)[name], batch(0)[name]]) for name in batch(0)}
    of_both = plain(**both)
    consistency = F.mse_loss(of_both.logits[4:], model().eval()(**earlier).logits)
    names = [name for name, _ in net.named_parameters()]
    penalty = 0.01 * callback.fisher[names.index("classifier.weight")].sum()
    torch.testing.assert_close(outputs.loss, of_both.loss + 0.5 * consistency + 2.0 * penalty)
    assert len(memory) == 4 and penalty > 0


def test_evaluation_is_left_alone_and_the_model_is_given_back() -> None:
    net = model()
    callback = joined(net)
    with torch.no_grad():
        alone = net.eval()(**batch(1))
    torch.testing.assert_close(alone.loss, model().eval()(**batch(1)).loss)
    callback.on_train_end(None, None, None)
    assert not net._forward_hooks and not net._forward_pre_hooks


def test_the_average_follows() -> None:
    net = model()
    callback = joined(net, ema_update_freq=1.0, penalty_weight=0.0)
    assert callback.semantic is not None
    before = callback.semantic.get_parameter("classifier.weight").clone()
    with torch.no_grad():
        net.classifier.weight.add_(1.0)
    callback.on_step_end(None, None, None, model=net)
    after = callback.semantic.get_parameter("classifier.weight")
    assert not torch.equal(after, before)
    assert not torch.allclose(after, net.classifier.weight)


def test_what_cannot_be_trained_or_has_no_labels_is_told() -> None:
    callback = ReplayCallback()
    with pytest.raises(UsageError, match="nothing in it asks for a gradient"):
        callback.on_train_begin(None, None, None, model=model().requires_grad_(False))
    net = model()
    joined(net)
    with pytest.raises(UsageError, match="without 'labels'"):
        net.train()(input_ids=batch(0)["input_ids"])


def trainer(net: Any, callback: ReplayCallback, folder: Path, **options: Any) -> Any:
    """A Trainer of eight steps that keeps a checkpoint of each second one."""
    arguments = transformers.TrainingArguments(
        str(folder), **{"max_steps": 8, **options}, per_device_train_batch_size=4, use_cpu=True, report_to="none",
        save_steps=2, logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    data = [{name: value[i] for name, value in batch(seed).items()} for seed in range(8) for i in range(4)]
    made = transformers.Trainer(net, arguments, train_dataset=data, callbacks=[callback])
    made.remove_callback(transformers.PrinterCallback)
    return made


def fresh(buffer_size: int = 8) -> ReplayCallback:
    often: dict[str, Any] = {"fisher_update_freq": 0.5, "ema_update_freq": 0.5, "ema_alpha": 0.5}
    return ReplayCallback(SynergyConfig(buffer_size=buffer_size, minibatch_size=4, penalty_weight=5.0, **often))


@pytest.mark.slow
def test_a_checkpoint_of_the_trainer_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    whole, of_whole = model(), fresh()
    trainer(whole, of_whole, tmp_path / "whole").train()
    resumed, of_resumed = model(), fresh()
    trainer(resumed, of_resumed, tmp_path / "whole").train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-4"))
    assert of_resumed.steps == of_whole.steps == 8 and of_whole.fisher is not None and of_resumed.fisher is not None
    assert of_whole.semantic is not None and of_resumed.semantic is not None
    for one, other in ((whole, resumed), (of_whole.semantic, of_resumed.semantic)):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(of_whole.fisher, of_resumed.fisher, strict=True))
    assert torch.equal(of_whole.memory.all().raw, of_resumed.memory.all().raw)
    files = {file.name for file in (tmp_path / "whole/checkpoint-4/replay").iterdir()}
    assert files == {"tensors.safetensors", "state.json", "manifest.json"}


@pytest.mark.slow
def test_a_checkpoint_elsewhere_is_named_and_one_that_does_not_fit_is_told(tmp_path: Path) -> None:
    trainer(model(), fresh(), tmp_path / "first", max_steps=4).train()
    checkpoint = str(tmp_path / "first/checkpoint-2")
    with pytest.raises(UsageError, match="checkpoint-2"):
        trainer(model(), fresh(), tmp_path / "other").train(resume_from_checkpoint=checkpoint)
    callback = fresh()
    callback.restore(checkpoint)
    trainer(model(), callback, tmp_path / "other", max_steps=4).train(resume_from_checkpoint=checkpoint)
    assert callback.steps == 4
    smaller = fresh(buffer_size=4)
    with pytest.raises(UsageError, match="replay does not fit: "):
        trainer(model(), smaller, tmp_path / "first").train(resume_from_checkpoint=checkpoint)


def test_the_trainer_runs_with_it(tmp_path: Path) -> None:
    callback = ReplayCallback(SynergyConfig(buffer_size=8, minibatch_size=4, fisher_update_freq=0.5))
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=4, per_device_train_batch_size=4, use_cpu=True, report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, gradient_accumulation_steps=2,
    )  # fmt: skip
    data = [{name: value[i] for name, value in batch(seed).items()} for seed in range(8) for i in range(4)]
    net = model()
    before = net.classifier.weight.detach().clone()
    trainer = transformers.Trainer(net, arguments, train_dataset=data, callbacks=[callback])
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    assert callback.steps == 4 and callback.memory.seen == 32
    assert not torch.equal(net.classifier.weight, before)
    assert not net._forward_hooks
