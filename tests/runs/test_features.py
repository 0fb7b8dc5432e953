"""`--features`: what a backbone gives is computed once, belongs to its weights and its data, and is learned on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synergy import PresetChoice, Scenario, UsageError
from synergy.data.sources import Source, SourceInfo, load
from synergy.data.view import AS_STORED, ImageView, StoredView
from synergy.runs import features
from synergy.runs.config import RunConfig, build
from synergy.runs.prepare import prepare
from synergy.runs.resume import resume
from synergy.runs.session import execute, run
from synergy.scenarios.base import ScenarioConfig
from synergy.types import Split
from tests.commands import call

transformers: Any = pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
DIGITS = 1437 + 360
CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def saved(folder: Path, seed: int = 7) -> Path:
    """A small vision transformer with random weights, as `save_pretrained` and its image processor leave it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.ViTConfig(**SMALL, image_size=16, patch_size=8, num_channels=3, num_labels=4)
        transformers.ViTForImageClassification(config).save_pretrained(folder)
    settings = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "size": {"height": 16, "width": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    return saved(tmp_path / "vit")


@contextmanager
def counted() -> Iterator[list[int]]:
    """The number of samples in each forward pass of a vision transformer."""
    passes: list[int] = []

    def count(module: nn.Module, arguments: object, output: Any) -> None:
        if isinstance(module, transformers.ViTForImageClassification):
            passes.append(len(output.logits))

    handle = nn.modules.module.register_module_forward_hook(count)
    try:
        yield passes
    finally:
        handle.remove()


def given(source: Source, name: str, view: ImageView | None = None) -> Source:
    return features.of(source, name, view or ImageView(), CPU, lambda done, total: None)


def config(name: str, method: str = "synergy", **options: Any) -> RunConfig:
    steps = {"n_epochs": 1, "max_steps_per_task": 4, "output_dir": "runs"}
    return build("seq-digits", method, {"features": name, **steps, **options}, PresetChoice())


def file_of(folder: Path, **changes: Any) -> str:
    """A file of features of the digits: their pixels, with some tensors or facts changed."""
    source = load("digits")
    held = {
        "train": source.train.raw.flatten(1).float(),
        "train_labels": source.train.labels,
        "test": source.test.raw.flatten(1).float(),
        "test_labels": source.test.labels,
    }
    metadata = changes.pop("metadata", {"backbone": "pixels", "checksum": source.info.checksum})
    held |= {name: change(held[name]) for name, change in changes.items()}
    save_file(
        {name: value for name, value in held.items() if value is not None}, folder / "pixels.safetensors", metadata
    )
    return str(folder / "pixels.safetensors")


def test_features_are_what_the_head_of_the_model_sees_of_its_own_view(vit: Path) -> None:
    source = load("digits")
    found = given(source, f"hf:{vit}")
    model = transformers.ViTForImageClassification.from_pretrained(vit, attn_implementation="eager").eval()
    seen: list[Tensor] = []
    model.classifier.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    images = source.train.raw[:5].float().div(255).expand(-1, 3, -1, -1)
    images = F.interpolate(images, (16, 16), mode="bilinear", antialias=True)
    images = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        model(images)
    assert found.train.raw.shape == (1437, 16) and found.test.raw.shape == (360, 16)
    torch.testing.assert_close(found.train.raw[:5], seen[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(found.train.labels, source.train.labels) and found.train.raw.dtype == torch.float32


def test_each_sample_passes_the_backbone_once_for_all_runs(vit: Path) -> None:
    with counted() as passes:
        first = run(config(f"hf:{vit}", "ncm"))
        assert sum(passes) == DIGITS
        del passes[:]
        again, other = run(config(f"hf:{vit}", "ncm")), run(config(f"hf:{vit}", "er", seed=1))
        assert not passes
    assert first.outcome() == again.outcome() and other.status == "finished"


def test_other_weights_settings_and_data_are_never_taken_for_these(vit: Path) -> None:
    digits = load("digits")
    first = given(digits, f"hf:{vit}")
    with counted() as passes:
        assert torch.equal(given(digits, f"hf:{vit}").train.raw, first.train.raw) and not passes
        fewer = replace(digits, train=digits.train.select(torch.arange(64)), info=replace(digits.info, checksum=""))
        assert len(given(fewer, f"hf:{vit}").train) == 64 and sum(passes) == 64 + 360
        del passes[:]
        text = (vit / "preprocessor_config.json").read_text()
        (vit / "preprocessor_config.json").write_text(text.replace("0.6", "0.7"))
        assert not torch.equal(given(digits, f"hf:{vit}").train.raw, first.train.raw) and sum(passes) == DIGITS
        del passes[:]
        saved(vit, seed=8)
        other = given(digits, f"hf:{vit}")
        assert not torch.equal(other.train.raw, first.train.raw) and sum(passes) == DIGITS
    assert other.info.checksum != first.info.checksum and other.info.features != first.info.features


def test_a_damaged_cache_is_computed_anew(vit: Path, tmp_path: Path) -> None:
    first = given(load("digits"), f"hf:{vit}").train.raw.clone()
    (damaged,) = (tmp_path / "cache").glob("*/train.npy")
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with counted() as passes:
        assert torch.equal(given(load("digits"), f"hf:{vit}").train.raw, first) and sum(passes) == DIGITS


def test_the_scenario_normalises_where_the_model_does_not_say(vit: Path) -> None:
    (vit / "preprocessor_config.json").unlink()
    digits = load("digits")
    plain, normalised = (given(digits, f"hf:{vit}", view) for view in (ImageView(), ImageView(mean=(0.5,), std=(0.1,))))
    assert not torch.allclose(plain.train.raw, normalised.train.raw, atol=0.01)


def test_a_run_with_record_and_resume_that_refuses_other_weights(vit: Path) -> None:
    options: dict[str, Any] = {"checkpoint_every": 3, "max_tasks": 2}
    whole = run(config(f"hf:{vit}", **options))
    assert whole.config["net"] == {"name": "linear"} and whole.provenance["net"] == "default of features"
    assert whole.config["training"]["features"] == f"hf:{vit}" and whole.n_parameters == 16 * 10 + 10
    assert whole.source["name"] == "digits" and whole.source["features"]["size"] == 16
    assert whole.source["features"]["backbone"] == "hf:vit"
    assert whole.source["features"]["weights"].startswith("sha256 ")
    stopped = interrupted(config(f"hf:{vit}", **options))
    resumed, _ = resume(stopped)
    assert (resumed.accuracies, resumed.final_losses) == (whole.accuracies, whole.final_losses)
    stopped = interrupted(config(f"hf:{vit}", **options))
    saved(vit, seed=8)
    with pytest.raises(
        UsageError, match=r"made with features of hf:vit \(sha256 .*, given features of hf:vit \(sha256"
    ):
        resume(stopped)


def interrupted(of: RunConfig, after: int = 5) -> Path:
    steps = iter(range(after))
    record, folder = execute(prepare(of), should_stop=lambda: next(steps, None) is None)
    assert record.status == "interrupted"
    return folder


@pytest.mark.parametrize("method", ["sgd", "er", "derpp", "synergy", "clser", "icarl", "ncm", "slda", "ranpac"])
def test_methods_learn_on_features(method: str, tmp_path: Path) -> None:
    record = run(config(file_of(tmp_path), method, lr=0.00001))
    assert record.status == "finished" and record.source["features"]["backbone"] == "pixels"
    assert all(accuracy.metrics["final_average"] > 0 for accuracy in record.accuracies)


def test_nothing_is_augmented_and_validation_holds_out_features(tmp_path: Path) -> None:
    prepared = prepare(config(file_of(tmp_path), "er", validation=True))
    source = prepared.scenario.setting.source
    assert prepared.scenario.view is AS_STORED and (len(source.train), len(source.test)) == (1293, 144)
    assert prepared.scenario.shape == (64,)
    raw = prepared.scenario.train.raw[:2]
    again = StoredView()(raw, None)
    assert torch.equal(again, raw) and again.data_ptr() != raw.data_ptr()


def test_a_file_holds_the_features_as_they_are(tmp_path: Path) -> None:
    digits = load("digits")
    found = given(digits, file_of(tmp_path))
    assert torch.equal(found.train.raw, digits.train.raw.flatten(1).float())
    assert found.info.classes == digits.info.classes and found.info.checksum != digits.info.checksum


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": lambda rows: rows[1:].clone()}, r"has 1436 rows in 'train', digits has 1437 samples"),
        ({"test_labels": lambda labels: labels.flip(0)}, "'test_labels' in .* are not the labels of digits"),
        ({"train": lambda rows: None}, r"has no tensor 'train'; allowed: a file with train, train_labels, test"),
        ({"train": lambda rows: rows.long()}, r"has 'train' of shape \[1437, 64\], torch.int64; allowed: float"),
        ({"test": lambda rows: rows[:, 1:].clone()}, "has 64 columns in 'train', 63 in 'test'"),
        ({"test": lambda rows: rows / 0}, "test: not all features are finite"),
        ({"metadata": {"checksum": "sha256 of others"}}, "was made from other data than these of digits"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    refused(told, lambda: prepare(config(file_of(tmp_path, **changes))))


def refused(told: str, action: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        action()
    assert "\n" not in str(caught.value)


def test_a_name_is_told_with_the_nearest(vit: Path, tmp_path: Path) -> None:
    file_of(tmp_path)
    (tmp_path / "torn.safetensors").write_bytes(b"no tensors")
    for name, told in (
        (f"hf:{tmp_path}/vti", f"there is no such folder; did you mean 'hf:{tmp_path}/vit'"),
        ("pixel.safetensors", "there is no file .*; did you mean '.*pixels.safetensors'"),
        ("nowhere/x", "there is no file .*nowhere/x; allowed: a file, hf:NAME, timm:NAME"),
        ("hff:vit", "unknown kind of features 'hff:'; did you mean 'hf:'"),
        ("hf:vit_mae", "a type of model has no weights; allowed: a folder"),
        ("torn.safetensors", "cannot read .*torn.safetensors as safetensors"),
    ):
        refused(told, lambda name=name: prepare(config(name)))  # type: ignore[misc]


def test_weights_that_are_not_whole_are_refused(vit: Path) -> None:
    weights = load_file(vit / "model.safetensors")
    head = ("classifier.weight", "classifier.bias")
    save_file({k: v for k, v in weights.items() if k not in head}, vit / "model.safetensors", {"format": "pt"})
    given(load("digits"), f"hf:{vit}")
    lost = "vit.layernorm.weight"
    save_file({k: v for k, v in weights.items() if k != lost}, vit / "model.safetensors", {"format": "pt"})
    refused(f"its weights lack '{lost}'", lambda: given(load("digits"), f"hf:{vit}"))
    (vit / "model.safetensors").unlink()
    refused("no weights in safetensors", lambda: given(load("digits"), f"hf:{vit}"))


@pytest.mark.parametrize("scenario", ["rot-digits", "perm-digits"])
def test_a_scenario_that_changes_its_images_is_refused_before_the_pass(scenario: str, vit: Path) -> None:
    with counted() as passes:
        refused(
            f"given for {scenario}, whose tasks change their images",
            lambda: prepare(build(scenario, "er", {"features": f"hf:{vit}"})),
        )
        assert not passes


def test_a_folder_of_images_passes_too_and_is_not_augmented(vit: Path, tmp_path: Path) -> None:
    for index in range(8):
        for name in ("dark", "light"):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            pixels = np.full((9, 9, 3), (10 if name == "dark" else 200) + index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    options = {"features": f"hf:{vit}", "batch_size": 2, "n_tasks": 2, "augment": "both"}
    prepared = prepare(build("split:photos", "er", options))
    assert prepared.scenario.view is AS_STORED and prepared.scenario.shape == (16,)
    assert prepared.source.classes == ("dark", "light") and prepared.source.features is not None


def test_tuned_values_and_networks_for_images_are_refused(vit: Path) -> None:
    refused(
        "given with tuned values, which are for images",
        lambda: build("seq-mnist", "er", {"features": f"hf:{vit}", "buffer_size": 500}, PresetChoice(wanted=True)),
    )
    refused(
        r"given the shape \(2, 16\); allowed for this ResNet18", lambda: prepare(config(f"hf:{vit}", net="resnet18"))
    )


def test_on_the_command_line_the_usual_network_is_linear_and_the_pass_is_told(vit: Path) -> None:
    arguments = ("run", "--dataset", "seq-digits", "--model", "er", "--features", f"hf:{vit}", "--max_tasks", 1)
    first, again = call(*arguments), call(*arguments)
    assert first.code == 0 and "1,797 samples have passed the backbone" in first.out
    assert again.code == 0 and "have passed" not in again.out
    for outcome in (first, again):
        assert "net          linear, 170 parameters" in outcome.out
        assert "16 features of hf:vit; bundled with scikit-learn" in outcome.out


class Texts(Scenario[ScenarioConfig]):
    """Texts of two topics, `int64 [2, 4]`: tokens and their mask."""

    protocols = ("class-IL",)
    view = AS_STORED
    n_tasks = 1


def texts(n: int) -> Split:
    labels = torch.arange(n) % 2
    words = labels[:, None] * 5 + torch.arange(4)
    return Split(torch.stack([words, torch.ones_like(words)], 1), labels, (0, 1))


def test_texts_pass_a_text_model(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = transformers.BertConfig(**SMALL, vocab_size=10, max_position_embeddings=4)
        transformers.BertForSequenceClassification(settings).save_pretrained(tmp_path / "bert")
    source = Source(SourceInfo("words", "made here", 6, 4, True), texts(6), texts(4))
    found = features.of(source, f"hf:{tmp_path / 'bert'}", AS_STORED, CPU, lambda done, total: None)
    assert found.train.raw.shape == (6, 16)
    torch.testing.assert_close(found.train.raw[0], found.test.raw[2])
    assert not torch.allclose(found.train.raw[0], found.train.raw[1], atol=1e-4)
    refused("does not classify images", lambda: given(load("digits"), f"hf:{tmp_path / 'bert'}"))
