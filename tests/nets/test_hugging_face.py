"""Models of transformers as networks: what their head sees, what is trained, and what is said of a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synergy import PresetChoice, UsageError, testing
from synergy.nets import NET_CLASSES
from synergy.nets.base import build
from synergy.nets.hugging_face import HuggingFace, HuggingFaceConfig, hugging_face, take_head
from synergy.nets.transformers_models import given_values
from synergy.ops.vectors import trained
from synergy.runs.config import RunConfig
from synergy.runs.config import build as configured
from synergy.runs.prepare import prepare
from synergy.runs.records import Record
from synergy.runs.resume import resume
from synergy.runs.session import run

transformers: Any = pytest.importorskip("transformers")

VIT = ("hidden_size=16", "num_hidden_layers=2", "num_attention_heads=2", "intermediate_size=32")
SMALL = (*VIT, "image_size=8", "patch_size=4", "num_channels=1")
BERT = (*VIT, "vocab_size=20", "max_position_embeddings=8")
IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TEXTS = torch.randint(1, 20, (3, 6), generator=torch.Generator().manual_seed(0))


def made(name: str, shape: tuple[int, ...], values: tuple[str, ...], seed: int = 0, **options: Any) -> HuggingFace:
    config = HuggingFaceConfig(**{"weights": "random", "net_values": values, **options})
    net = build(hugging_face(name, None), config, shape, 5, torch.Generator().manual_seed(seed))
    assert isinstance(net, HuggingFace)
    return net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with weights, as `save_pretrained` leaves it."""
    config = transformers.AutoConfig.for_model("vit", **given_values(SMALL))
    torch.manual_seed(7)
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize(
    ("name", "values", "inputs"), [("vit", SMALL, IMAGES), ("bert", BERT, TEXTS)], ids=["image", "text"]
)
def test_the_checks_of_a_network_pass(name: str, values: tuple[str, ...], inputs: Tensor) -> None:
    shape = tuple(inputs.shape[1:])
    config = HuggingFaceConfig(weights="random", net_values=values)
    testing.check_net(lambda generator: build(hugging_face(name, None), config, shape, 5, generator), inputs, 5)


@pytest.mark.parametrize(
    ("kind", "values", "inputs"),
    [
        ("vit", SMALL, IMAGES),
        ("resnet", ("embedding_size=8", "hidden_sizes=[8,16]", "depths=[1,1]", "num_channels=1"), IMAGES),
        ("bert", BERT, TEXTS),
        ("distilbert", ("dim=16", "n_layers=1", "n_heads=2", "hidden_dim=32", "vocab_size=20"), TEXTS),
        ("roberta", (*VIT, "vocab_size=20"), TEXTS),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_features_are_what_the_models_own_head_sees(kind: str, values: tuple[str, ...], inputs: Tensor) -> None:
    """The head that was taken out, on the features, gives what the model gave with it."""
    auto = transformers.AutoModelForImageClassification if inputs.dim() == 4 else None
    auto = auto or transformers.AutoModelForSequenceClassification
    model = auto.from_config(transformers.AutoConfig.for_model(kind, **given_values(values))).eval()
    expected = model(inputs).logits
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    width = take_head(model)
    features = model(inputs).logits
    assert features.shape == (3, width)
    torch.testing.assert_close(head(features), expected, rtol=1e-5, atol=1e-6)


def test_pretrained_weights_come_from_the_folder_and_random_ones_from_the_seed(folder: Path) -> None:
    saved = load_file(folder / "model.safetensors")
    name = "vit.embeddings.patch_embeddings.projection.weight"
    one, other = (made(str(folder), (1, 8, 8), (), seed=seed, weights="pretrained") for seed in (0, 1))
    for net in (one, other):
        assert torch.equal(net.model.get_parameter(name), saved[name])
    assert not torch.equal(one.classifier.weight, other.classifier.weight), "the head is fresh"
    random = made(str(folder), (1, 8, 8), ())
    assert not torch.equal(random.model.get_parameter(name), saved[name])


def test_what_is_trained() -> None:
    everything, head, lora = (
        made("vit", (1, 8, 8), SMALL, train=each, lora_rank=2) for each in ("all", "head", "lora")
    )
    assert len(trained(everything)) == len(list(everything.parameters()))
    assert trained(head) == list(head.classifier.parameters())
    names = [name for name, parameter in lora.named_parameters() if parameter.requires_grad]
    assert {name for name in names if "lora_" not in name} == {"classifier.weight", "classifier.bias"}
    assert len(names) == 2 + 2 * 2 * 6, "two factors for each of six linear layers, in two blocks"
    assert lora.model.get_parameter(next(name for name in names if "lora_A" in name)[6:]).shape[0] == 2
    torch.testing.assert_close(lora(IMAGES), head(IMAGES), rtol=0, atol=0, msg="an adapter begins as nothing")


def test_images_are_resized_if_asked_and_channels_repeated() -> None:
    values = (*VIT, "image_size=16", "patch_size=8", "num_channels=3")
    assert made("vit", (1, 8, 8), values, resize=True)(IMAGES).shape == (3, 5)
    with pytest.raises(UsageError, match=r"needs images of shape \(3, 16, 16\), given \(1, 8, 8\); give --resize"):
        made("vit", (1, 8, 8), values)
    with pytest.raises(UsageError, match=r"given \(2, 8, 8\)$"):
        made("vit", (2, 8, 8), values, resize=True)


def test_a_mask_hides_what_it_covers() -> None:
    net = made("bert", (2, 6), BERT).eval()
    mask = torch.ones_like(TEXTS)
    mask[:, 4:] = 0
    changed = TEXTS.clone()
    changed[:, 4:] = 3
    masked = torch.stack([TEXTS, mask], 1), torch.stack([changed, mask], 1)
    torch.testing.assert_close(net(masked[0]), net(masked[1]), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(net(masked[0]), net(torch.stack([TEXTS, torch.ones_like(mask)], 1)), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "shape", "options", "told"),
    [
        ("vti", (1, 8, 8), {}, "no folder with a config.json, no type of model, .*did you mean 'hf:vit'"),
        ("vit", (1, 8, 8), {"weights": "pretrained"}, "a type of model has no weights; give --weights random"),
        ("vit", (1, 8, 8), {"net_values": ("hiden_size=3",)}, "given hiden_size, .*did you mean hidden_size"),
        ("vit", (1, 8, 8), {"net_values": ("hidden_size",)}, "given 'hidden_size'; allowed: NAME=VALUE"),
        ("bert", (1, 8, 8), {}, "a model of type bert does not classify images"),
        ("vit", (8,), {}, "a model of type vit does not classify texts"),
        ("bert", (4, 8), {}, "given texts of 4 rows; allowed: input_ids, attention_mask"),
        ("bert", (9,), {"net_values": BERT}, "takes texts of at most 8 tokens, given 9"),
    ],
)
def test_a_wrong_model_is_one_line(
    name: str, shape: tuple[int, ...], options: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=told) as caught:
        made(name, shape, options.pop("net_values", SMALL if name == "vit" and len(shape) == 3 else ()), **options)
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_safetensors_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="no weights in safetensors"):
        made(str(folder), (1, 8, 8), (), weights="pretrained")


def test_weights_of_another_size_are_one_line(folder: Path) -> None:
    with pytest.raises(UsageError, match="cannot be made with these values"):
        made(str(folder), (1, 8, 8), ("hidden_size=32",), weights="pretrained")


def test_an_empty_name_is_told() -> None:
    with pytest.raises(UsageError, match="given no name"):
        NET_CLASSES.load("hf:")


def config(folder: Path, out: Path, **options: Any) -> RunConfig:
    given = {"net": f"hf:{folder}", "buffer_size": 20, "minibatch_size": 4, "output_dir": str(out), "n_epochs": 1}
    return configured("seq-digits", "synergy", {**given, "max_steps_per_task": 4, **options}, PresetChoice())


@pytest.mark.parametrize("train", ["all", "lora"])
def test_a_run_with_record_and_resume(train: str, folder: Path, tmp_path: Path) -> None:
    options = {"train": train, "lora_rank": 2, "max_tasks": 2, "checkpoint_every": 3, "fisher_update_freq": 0.5}
    whole = run(config(folder, tmp_path / "whole", **options))
    net = {"name": f"hf:{folder}", "weights": "pretrained", "net_values": [], "train": train, "lora_rank": 2}
    assert whole.status == "finished" and whole.config["net"] == net | {"resize": False}
    assert whole.versions["transformers"] and whole.versions[f"hf:{folder}"].startswith("sha256 ")
    stopped = interrupted(config(folder, tmp_path / "stopped", **options))
    resumed, _ = resume(stopped)
    assert (resumed.accuracies, resumed.final_losses) == (whole.accuracies, whole.final_losses)


def interrupted(of: RunConfig, after: int = 5) -> Path:
    from synergy.runs.session import execute

    steps = iter(range(after))
    record, folder = execute(prepare(of), should_stop=lambda: next(steps, None) is None)
    assert isinstance(record, Record) and record.status == "interrupted"
    return folder


def test_it_does_not_go_on_beside_other_frozen_weights(folder: Path, tmp_path: Path) -> None:
    stopped = interrupted(config(folder, tmp_path / "runs", train="lora", checkpoint_every=3))
    weights = load_file(folder / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.warns(UserWarning, match="changed since the run began"):
        from synergy.runs.resume import reopened

        with reopened(stopped) as found:
            assert found.checkpoint is None and "frozen weights are others" in found.skipped[0]


def test_a_checkpoint_holds_the_adapters_alone(folder: Path, tmp_path: Path) -> None:
    stopped = interrupted(config(folder, tmp_path / "runs", train="lora", lora_rank=1, checkpoint_every=3))
    (newest, *_) = sorted((stopped / "checkpoint").iterdir(), reverse=True)
    text = json.loads((newest / "state.json").read_text())
    names = text["training"]["method"]["semantic"].keys()
    assert names and all("lora_" in name or name.startswith("classifier.") or name == "frozen" for name in names)
