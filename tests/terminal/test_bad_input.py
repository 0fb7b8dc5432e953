"""Data that do not fit a scenario or a network, and memories that do not fit a draw: one line each."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from synergy.errors import UsageError
from synergy.methods.base import ReplayConfig
from synergy.nets.mlp import MLP
from synergy.nets.resnet import ResNet18
from synergy.randomness import torch_generator
from tests.commands import BRIEF, Outcome, run
from tests.data.parquet_files import pictures, write_split

SHAPES = {"mnist": (28, 28), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3)}
COLUMNS = {"mnist": ("image", "label"), "cifar10": ("img", "label"), "cifar100": ("img", "fine_label")}


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SYNERGY_DATA", raising=False)
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))


def write(folder: Path, name: str, *, without: str = "", shape: tuple[int, ...] | None = None, each: int = 3) -> None:
    """A data set of `each` images of every class; class 3 is missing `without` the "train" or the "test" split."""
    n_classes = 100 if name == "cifar100" else 10
    for split in ("train", "test"):
        labels = [k for k in np.tile(np.arange(n_classes), each).tolist() if (k, split) != (3, without)]
        images = pictures(len(labels), *(SHAPES[name] if shape is None or split == "train" else shape))
        write_split(folder / name / f"{split}-0.parquet", images, labels, *COLUMNS[name])


def assert_refused(outcome: Outcome, *parts: str) -> None:
    """One line with all `parts`, the names and the limits."""
    assert outcome.code == 2
    assert outcome.err.startswith("synergy: error: ") and outcome.err.count("\n") == 1
    for part in parts:
        assert part in outcome.err


@pytest.mark.parametrize(
    ("dataset", "name", "shape", "given", "expected"),
    [
        ("seq-cifar10", "cifar10", (64, 64, 3), "64x64, RGB", "32x32, RGB or L"),
        ("seq-cifar10", "cifar10", (32, 32, 4), "32x32, RGBA", "32x32, RGB or L"),
        ("seq-mnist", "mnist", (32, 32), "32x32, L", "28x28, L"),
        ("seq-mnist", "mnist", (28, 28, 3), "28x28, RGB", "28x28, L"),
    ],
)
def test_images_of_another_size_or_kind(
    tmp_path: Path, dataset: str, name: str, shape: tuple[int, ...], given: str, expected: str
) -> None:
    write(tmp_path, name, shape=shape)
    outcome = run(tmp_path / "runs", dataset, "er", *BRIEF, "--data_dir", tmp_path)
    assert_refused(outcome, f"{name}: ", "row 0", "test-0.parquet", given, expected)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("seq-mnist", "mnist"),
        ("perm-mnist", "mnist"),
        ("mnist-360", "mnist"),
        ("seq-cifar10", "cifar10"),
        ("gcil-cifar100", "cifar100"),
    ],
)
def test_a_class_that_is_missing(tmp_path: Path, dataset: str, name: str, split: str) -> None:
    each = 1 if name == "cifar100" else 3
    write(tmp_path, name, without=split, each=each)
    outcome = run(tmp_path / "runs", dataset, "sgd", *BRIEF, "--data_dir", tmp_path)
    count, kind = (99 if name == "cifar100" else 27), "training" if split == "train" else "test"
    assert_refused(outcome, f"{dataset}: ", "class 3", f"{count} {kind} samples", name, "--validation")
    assert not (tmp_path / "runs").exists()


def test_data_too_few_to_hold_out(tmp_path: Path) -> None:
    write(tmp_path, "mnist")
    outcome = run(tmp_path / "runs", "seq-mnist", "sgd", *BRIEF, "--data_dir", tmp_path, "--validation")
    assert_refused(outcome, "seq-mnist: ", "3 test samples", "--validation")


def test_small_data_with_every_class_run(tmp_path: Path) -> None:
    """What the tests above refuse is refused for the reason they give."""
    write(tmp_path, "mnist")
    outcome = run(tmp_path / "runs", "seq-mnist", "sgd", *BRIEF, "--batch_size", 2, "--data_dir", tmp_path)
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("dataset", "model", "flag", "parts"),
    [
        ("rot-digits", "er", "--weight_dist=longtail", ["flag '--weight_dist'", "gcil-cifar100"]),
        ("seq-digits", "er", "--rotation_angles=3", ["flag '--rotation_angles'", "rot-mnist, rot-digits"]),
        ("rot-digits", "synergy", "--plastic_model_alpha=1", ["flag '--plastic_model_alpha'", "clser"]),
        ("rot-digits", "er", "weight_dist", ["argument 'weight_dist'"]),
        ("seq-digits", "er", "--n_tasks=4", ["n_tasks: ", "given 4", "divisor", "10 classes", "seq-digits", "1, 2, 5"]),
        ("gcil-cifar100", "er", "--weight_dist=normal", ["weight_dist: ", "'normal'", "unif, longtail"]),
    ],
)
def test_an_option_of_something_else(tmp_path: Path, dataset: str, model: str, flag: str, parts: list[str]) -> None:
    assert_refused(run(tmp_path, dataset, model, *BRIEF, flag), *parts)


class TestNetworks:
    @pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 28, 28), (2, 783)])
    def test_mlp(self, shape: tuple[int, ...]) -> None:
        net = MLP(784, 10, generator=torch_generator(0, "net"))
        values = int(np.prod(shape[1:]))
        with pytest.raises(UsageError, match=rf"^inputs: .*\b{values}\b.*MLP.*\b784\b"):
            net(torch.zeros(shape))

    @pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 4, 32, 32), (2, 3072), (3, 32, 32)])
    def test_resnet(self, shape: tuple[int, ...]) -> None:
        net = ResNet18(10, width=2, generator=torch_generator(0, "net"))
        with pytest.raises(UsageError, match=r"^inputs: .*ResNet18.*\[B, 3, H, W\]"):
            net(torch.zeros(shape))


class TestASmallMemory:
    @pytest.mark.filterwarnings("default")
    def test_is_told_once(self, tmp_path: Path) -> None:
        outcome = run(tmp_path, "rot-digits", "er", *BRIEF, "--buffer_size", 20, "--minibatch_size", 64)
        assert outcome.code == 0
        assert re.fullmatch(r"synergy: warning: buffer_size 20 .*minibatch_size 64.*\n", outcome.err)

    def test_of_exactly_one_draw_is_no_matter(self) -> None:
        ReplayConfig(buffer_size=20, minibatch_size=20)
        with pytest.warns(UserWarning, match="buffer_size 19 .*minibatch_size 20"):
            ReplayConfig(buffer_size=19, minibatch_size=20)
