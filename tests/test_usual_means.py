"""Precision, memory layout and the bound of a Fisher pass: by device where they are not given, and kept in the record.

What a run does on CUDA is tried on the CPU, by asking for the values of a CUDA device.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from synergy import Learner
from synergy.device import fitting_memory, usual_fisher_memory, usual_layouts, usual_precision
from synergy.errors import UsageError
from synergy.ops.vectors import FEWEST_CHANNELS
from synergy.runs import prepare as preparing
from synergy.runs import records
from synergy.runs.config import RunConfig, build
from synergy.runs.config_file import read_config
from synergy.runs.folder import new_folder
from synergy.runs.prepare import prepare
from synergy.runs.resume import reopened, resume
from synergy.runs.session import execute
from synergy.stream import recipe, rehearsal
from synergy.studies.grid import identity
from synergy.terminal.console import opening
from tests.commands import BRIEF, run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MEANS = ("precision", "memory_format", "fisher_memory_mb")
SHORT = {"max_tasks": 1, "max_steps_per_task": 2, "device": "cpu"}


def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs and learners on the CPU take the values of a CUDA device."""
    for module in (preparing, recipe):
        monkeypatch.setattr(module, "usual_precision", lambda device: usual_precision(CUDA))
        monkeypatch.setattr(module, "usual_fisher_memory", lambda device: fitting_memory(79 * 2**30))
    for module in (preparing, rehearsal):
        monkeypatch.setattr(module, "usual_layouts", lambda device: usual_layouts(CUDA))


def means(config: RunConfig) -> list[object]:
    return [vars(config.training)[name] for name in MEANS]


def is_last(weight: Tensor) -> bool:
    """Whether channels are last in memory."""
    return weight.is_contiguous(memory_format=torch.channels_last)


def conv_net(channels: int, flatten: nn.Module) -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3), nn.Conv2d(16, channels, 3, padding=1), flatten, nn.Linear(36 * channels, 10)]
    return nn.Sequential(*layers)


def test_the_usual_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (usual_precision(CPU), usual_layouts(CPU), usual_fisher_memory(CPU)) == ("fp32", ("contiguous",), 1024)
    assert (usual_precision(CUDA), usual_layouts(CUDA)[0]) == ("tf32", "channels_last")
    assert usual_precision(torch.device("mps")) == "fp32"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (23 * 2**30, 24 * 2**30))
    assert usual_fisher_memory(CUDA) == 8192


def test_the_bound_is_a_power_of_two_of_at_most_half() -> None:
    for free in (0, 1, 2**21, 3 * 2**30, 2**33, 2**40):
        bound = fitting_memory(free)
        assert bound.bit_count() == 1 and bound <= 16384 and (bound == 1 or bound * 2**21 <= free)


def test_a_run_on_the_cpu_is_as_before(tmp_path: Path) -> None:
    outcome = run(tmp_path, "rot-digits", "er", *BRIEF)
    assert ", fp32, contiguous\n" in outcome.out
    (path,) = tmp_path.glob("*/record.json")
    training = records.read(path).config["training"]
    assert [training[name] for name in MEANS] == ["fp32", "contiguous", 1024]


def test_a_run_on_cuda_keeps_what_it_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build("rot-digits", "er", {**SHORT, "output_dir": str(tmp_path)})
    assert means(config) == [None, None, None]
    on_cuda(monkeypatch)
    prepared = prepare(config)
    assert means(prepared.config) == ["tf32", "contiguous", 16384], "nothing to lay out in a perceptron"
    assert "tf32, contiguous" in opening(prepared)
    record, folder = execute(prepared)
    assert record.config["training"]["precision"] == "tf32" and prepared.worker.means.precision == "tf32"
    monkeypatch.undo()
    assert means(read_config(folder)) == ["tf32", "contiguous", 16384]


def test_what_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cuda(monkeypatch)
    given = {"precision": "fp32", "fisher_memory_mb": 64, "memory_format": "contiguous"}
    assert means(prepare(build("rot-digits", "er", {**SHORT, **given})).config) == ["fp32", "contiguous", 64]


@pytest.mark.parametrize(
    ("channels", "forward", "layout"),
    [
        (FEWEST_CHANNELS, "flatten(1)", "channels_last"),
        (FEWEST_CHANNELS - 1, "flatten(1)", "contiguous"),
        (FEWEST_CHANNELS, "view(len(x), -1)", "contiguous"),
    ],
    ids=["wide", "narrow", "needs rows"],
)
def test_the_layout_is_one_that_the_network_can_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, forward: str, layout: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "class Mine(nn.Module):\n"
        "    def __init__(self, shape, n_classes):\n"
        "        super().__init__()\n"
        f"        self.conv = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, {channels}, 3, padding=1))\n"
        f"        self.head = nn.Linear({channels} * 36, n_classes)\n"
        "    def forward(self, x):\n"
        f"        return self.head(self.conv(x.repeat(1, 3, 1, 1)).{forward})\n"
    )
    on_cuda(monkeypatch)
    config = build("seq-digits", "er", {**SHORT, "net": f"{file}:Mine", "output_dir": str(tmp_path / "runs")})
    prepared = prepare(config)
    weight = prepared.method.net.conv[1].weight  # type: ignore[attr-defined]
    assert prepared.config.training.memory_format == layout
    assert is_last(weight) == (layout == "channels_last")
    assert execute(prepared)[0].status == "finished"


def test_a_run_that_was_never_prepared_keeps_the_values_of_its_first_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study makes the folder, some worker begins the run, and another one goes on with it."""
    config = build("rot-digits", "er", {**SHORT, "checkpoint_every": 1, "output_dir": str(tmp_path)})
    folder = new_folder(tmp_path, config)
    assert means(read_config(folder)) == [None, None, None]
    on_cuda(monkeypatch)
    with reopened(folder) as first:
        assert means(first.session.prepared.config) == ["tf32", "contiguous", 16384]
    monkeypatch.undo()
    record, _ = resume(folder)
    assert record.status == "finished"
    assert [record.config["training"][name] for name in MEANS] == ["tf32", "contiguous", 16384]


def test_a_study_knows_its_runs_by_what_was_given(tmp_path: Path) -> None:
    config = build("rot-digits", "er", {**SHORT, "output_dir": str(tmp_path)})
    _, folder = execute(prepare(config))
    assert identity(read_config(folder)) == identity(config)
    other = build("rot-digits", "er", {**SHORT, "output_dir": str(tmp_path), "precision": "fp32"})
    assert identity(other) != identity(config)


def learner(net: nn.Module, **options: object) -> Learner:
    made = Learner(net, "er", buffer_size=8, minibatch_size=4, **options)  # type: ignore[arg-type]
    made.observe(torch.rand(4, 3, 8, 8), [0, 1, 2, 3])
    return made


class Rows(nn.Module):
    """Needs its samples in rows."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.view(len(inputs), -1)


def is_laid_out(made: Learner) -> bool:
    net = made._progress.worker.method.net  # type: ignore[union-attr]
    return is_last(net[1].weight)


def test_a_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = learner(conv_net(16, nn.Flatten()))
    assert (plain.options.precision, plain.options.memory_format) == ("fp32", "contiguous") and not is_laid_out(plain)
    on_cuda(monkeypatch)
    for net, layout in (
        (conv_net(16, nn.Flatten()), "channels_last"),
        (conv_net(15, nn.Flatten()), "contiguous"),
        (conv_net(16, Rows()), "contiguous"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), "contiguous"),
    ):
        made = learner(net)
        assert (made.options.precision, made.options.memory_format) == ("tf32", layout)
        assert made.options.fisher_memory_mb == 16384
    made = learner(conv_net(16, nn.Flatten()))
    assert is_laid_out(made)
    made.save(tmp_path / "made")
    plain.save(tmp_path / "plain")
    assert is_laid_out(Learner.load(tmp_path / "made", conv_net(16, nn.Flatten())))
    again = Learner.load(tmp_path / "plain", conv_net(16, nn.Flatten()))
    assert again.options.precision == "fp32" and not is_laid_out(again)


def test_a_layout_that_was_asked_for_is_no_suggestion() -> None:
    with pytest.raises(UsageError, match="channels_last for a convolution of 15 channels"):
        learner(conv_net(15, nn.Flatten()), memory_format="channels_last")
    assert is_laid_out(learner(conv_net(16, nn.Flatten()), memory_format="channels_last"))
