"""A method, a scenario and a network from a file outside the package: flags, records, checkpoints, CSV, report."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
import warnings
from contextlib import nullcontext
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from synergy import Learner, UsageError, testing
from synergy.methods import method_class
from synergy.nets.base import build
from synergy.nets.mlp import MLP, MLPConfig
from synergy.runs import config, records
from synergy.runs.prepare import prepare
from synergy.terminal import commands
from tests.commands import BRIEF, Outcome, call, run

PAGE = Path(__file__).parent.parent.parent / "docs" / "python.md"
OWN = re.findall(r"```python\n(# my\.py\n.*?)```", PAGE.read_text(), re.DOTALL)[0]
"""The file of the page on three ways of adding."""
NAMES = ("--dataset", "my.py:Bars", "--model", "my.py:Smoothed", "--net", "my.py:Conv")
SMALL = ("--channels", 3, "--stride", 2, "--buffer_size", 20, "--minibatch_size", 8, "--max_steps_per_task", 6)

NETS = """
import torch
from torch import nn
from synergy.nets.base import NetConfig
from synergy.nets.mlp import MLP

class Plain(nn.Sequential):
    def __init__(self, shape, n_classes):
        super().__init__(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], n_classes))

class NoArguments(nn.Sequential):
    def __init__(self):
        super().__init__()

class OtherImages(nn.Sequential):
    def __init__(self, shape, n_classes):
        super().__init__(nn.Flatten(), nn.Linear(7, n_classes))

class OtherClasses(nn.Sequential):
    def __init__(self, shape, n_classes):
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], 7))

class Pair(Plain):
    def forward(self, inputs):
        return super().forward(inputs), 1

class Frozen(Plain):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        self.requires_grad_(False)

class Detached(Plain):
    def forward(self, inputs):
        return super().forward(inputs).detach()

class Options(Plain):
    Config = type("Config", (NetConfig,), {})

class Huge(Plain):
    def __init__(self, shape, n_classes):
        super().__init__(shape, n_classes)
        self.weights = torch.empty(10**15)
"""


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.py").write_text(OWN)
    Path("nets.py").write_text(NETS)


def refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2 and outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err
    assert not Path("runs").exists()


def same_outcome(one: records.Record, other: records.Record) -> bool:
    first, second = (record.outcome() for record in (one, other))
    for content in (first, second):
        del content["config"]["output"], content["provenance"]
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def test_a_run_leaves_all_that_any_run_does() -> None:
    outcome = call("run", *NAMES, *SMALL, "--csv_log", "--seed", 3)
    assert (outcome.code, outcome.err) == (0, "")
    (record,) = records.read_all(Path("runs"))
    assert record.run_id.startswith("Bars-Smoothed-") and record.run_id.endswith("-seed3")
    given = record.config
    assert [given[group]["name"] for group in ("scenario", "method", "net")] == list(NAMES[1::2])
    assert (given["net"]["channels"], given["method"]["stride"], given["scenario"]["n_tasks"]) == (3, 2, 3)
    assert (record.source["name"], record.source["origin"]) == ("bars", "made in my.py")
    assert record.versions["my.py"] == f"sha256 {hashlib.sha256(OWN.encode()).hexdigest()[:12]}"
    (table,) = Path("runs/csv").glob("**/*.csv")
    assert str(table) == "runs/csv/partial/domain-IL/Bars/Smoothed/working.csv"
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert (row["dataset"], row["model"], row["net"]) == ("my.py:Bars", "my.py:Smoothed", "my.py:Conv")
    assert (row["channels"], row["stride"]) == ("3", "2")


def test_help_shows_the_flags() -> None:
    text = " ".join(call("run", *NAMES, "--help").out.split())
    for part in (
        "options of my.py:Bars: Upright and level bars in noise; every task moves them. More: synergy show my.py:Bars "
        "--n_tasks INT tasks, each with the bars in another place (default 3)",
        "options of my.py:Smoothed: Replay with smoothed labels from a thinned memory. More: synergy show "
        "my.py:Smoothed --lr FLOAT",
        "--stride INT one sample in so many is stored (default 8)",
        "options of my.py:Conv: One convolution, then a linear classifier. More: synergy show my.py:Conv "
        "--channels INT channels of the convolution (default 8)",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (("--channels", "0"), "channels: given 0; allowed: at least 1"),
        (("--smoothing", "2"), "smoothing: given 2.0; allowed: at least 0 and at most 1"),
        (("--n_tasks", "5"), "n_tasks: given 5; allowed: at least 1 and at most 4"),
        (("--strid", "5"), "unknown flag '--strid'; the nearest are --stride"),
        (("--width", "5"), "unknown flag '--width' here; it is an option of resnet18"),
    ],
)
def test_a_wrong_flag_is_one_line(flag: tuple[str, str], message: str) -> None:
    refused(call("run", *NAMES, *flag), message)


def test_a_run_that_was_stopped_goes_on_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = call("run", *NAMES, *SMALL, "--experiment_id", "whole")
    assert whole.code == 0, whole.err
    asked = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(commands, "stopping_on_interrupt", lambda: nullcontext(lambda: next(asked) == 8))
        stopped = call("run", *NAMES, *SMALL, "--experiment_id", "stopped", "--checkpoint_every", 2)
    assert stopped.code == 130, stopped.err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    resumed = call("resume", "../runs/stopped")
    assert (resumed.code, resumed.err) == (0, "")
    assert "goes on after step 8, 1 of 3 tasks done" in resumed.out
    assert same_outcome(*(records.read(tmp_path / "runs" / name) for name in ("whole", "stopped")))
    again = call("run", "--config", "../runs/whole", "--output_dir", "here")
    assert (again.code, again.err) == (0, "")
    (repeated,) = records.read_all(Path("here"))
    assert same_outcome(repeated, records.read(tmp_path / "runs/whole"))


def test_a_file_that_moved_is_told_and_its_place_can_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(commands, "stopping_on_interrupt", lambda: nullcontext(lambda: next(asked) == 8))
        call("run", *NAMES, *SMALL, "--experiment_id", "stopped", "--checkpoint_every", 2)
    Path("my.py").rename("moved.py")
    outcome = call("resume", "runs/stopped")
    assert outcome.code == 2 and f"cannot read the file {tmp_path}/my.py" in outcome.err
    assert "change its place under [files] in config.toml" in outcome.err
    file = Path("runs/stopped/config.toml")
    file.write_text(file.read_text().replace(f"{tmp_path}/my.py", f"{tmp_path}/moved.py"))
    assert call("resume", "runs/stopped").code == 0


@pytest.mark.filterwarnings("default:my.py")
def test_a_file_that_changed_is_told() -> None:
    asked = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "stopping_on_interrupt", lambda: nullcontext(lambda: next(asked) == 8))
        call("run", *NAMES, *SMALL, "--experiment_id", "stopped", "--checkpoint_every", 2)
    Path("my.py").write_text(OWN + "# changed\n")
    outcome = call("resume", "runs/stopped")
    assert outcome.code == 0
    assert outcome.err == "synergy: warning: my.py: changed since the run began; its result comes from both\n"


def test_a_report_needs_no_code() -> None:
    for seed in (0, 1):
        assert call("run", *NAMES, *SMALL, "--seed", seed).code == 0
    Path("my.py").unlink()
    report = call("report", "runs")
    assert (report.code, report.err) == (0, "")
    assert "my.py:Smoothed (working)" in report.out and "mean ± 95 % interval over n seeds" in report.out


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("my.py:Bar", "er", "mlp"), ["unknown scenario in my.py 'Bar'; did you mean 'Bars'?"]),
        (
            ("my.py:Bars", "my.py:Conv", "mlp"),
            ["method my.py:Conv: is another class; allowed: a class derived from Met"],
        ),
        (
            ("my.py:Bars", "er", "my.py:Bars"),
            ["network my.py:Bars: is another class; allowed: a class derived from Mod"],
        ),
        (("my.py:Bars", "er", "no.py:Net"), ["cannot read the file", "no.py: No such file or directory"]),
        (("my.py:Bars", "lwf", "nets.py:Plain"), ["lwf answers under class-IL, task-IL only; my.py:Bars is judged un"]),
        (("my.py:Bars", "hal", "nets.py:Plain"), ["network: given Plain; allowed for hal: a Backbone"]),
        (
            ("my.py:Bars", "er", "nets.py:NoArguments"),
            ["net nets.py:NoArguments: fails for samples of shape (1, 12, 12) "],
        ),
        (
            ("my.py:Bars", "er", "nets.py:OtherImages"),
            ["net nets.py:OtherImages: fails for samples of shape (1, 12, 12"],
        ),
        (
            ("my.py:Bars", "er", "nets.py:OtherClasses"),
            ["net nets.py:OtherClasses: gives [2, 7] for two", "logits [2, 2]"],
        ),
        (("my.py:Bars", "er", "nets.py:Pair"), ["net nets.py:Pair: gives tuple for two samples"]),
        (
            ("my.py:Bars", "er", "nets.py:Frozen"),
            ["net nets.py:Frozen: nothing in it can be trained; allowed: a par"],
        ),
        (("my.py:Bars", "er", "nets.py:Detached"), ["nets.py:Detached: its logits depend on no parameter that asks"]),
        (
            ("my.py:Bars", "er", "nets.py:Options"),
            ["network Options: it has options; derive it from synergy.nets.base"],
        ),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(names: tuple[str, str, str], parts: list[str]) -> None:
    scenario, method, net = names
    refused(call("run", "--dataset", scenario, "--model", method, "--net", net, "--max_steps_per_task", 2), *parts)


def test_a_network_beyond_memory_is_a_failed_run() -> None:
    outcome = call("run", "--dataset", "my.py:Bars", "--model", "er", "--net", "nets.py:Huge")
    assert outcome.code == 1 and outcome.err.startswith("synergy: error: out of memory; lower ")
    assert not Path("runs").exists()


def test_a_plain_network_has_the_same_weights_from_the_same_seed() -> None:
    def weights(**given: Any) -> torch.Tensor:
        before = torch.get_rng_state()
        prepared = prepare(config.build("my.py:Bars", "er", {"net": "nets.py:Plain", **given}))
        assert torch.equal(before, torch.get_rng_state()), "torch's global generator moved"
        return next(iter(prepared.method.setting.build_net("net").parameters()))

    assert torch.equal(weights(), weights())
    assert not torch.equal(weights(), weights(seed=1))


def test_a_network_with_options_gets_the_generator_itself() -> None:
    one, two = (torch.Generator().manual_seed(5) for _ in range(2))
    built = build(MLP, MLPConfig(hidden=7), (1, 4, 4), 3, one)
    assert all(map(torch.equal, built.parameters(), MLP(16, 3, 7, generator=two).parameters()))


def test_the_contract() -> None:
    kind = method_class("my.py:Smoothed")
    testing.check_method(kind, kind.Config(buffer_size=50), testing.scenario("my.py:Bars"))  # type: ignore[call-arg]
    testing.check_scenario(lambda seed: testing.scenario("my.py:Bars", seed=seed))


def test_a_learner_by_name_is_saved_and_read_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    learner = Learner(net, method="my.py:Smoothed", buffer_size=50, smoothing=0.2)
    for _ in range(3):
        learner.observe(torch.eye(4)[:3], ["a", "b", "c"])
    learner.save(tmp_path / "saved")
    with pytest.raises(UsageError, match=r"saved with 'my\.py:Smoothed', which the library does not have"):
        Learner.load(tmp_path / "saved", net)
    again = Learner.load(tmp_path / "saved", net, method="my.py:Smoothed")
    assert torch.equal(again.scores(torch.eye(4)), learner.scores(torch.eye(4)))
    with pytest.raises(UsageError, match=r"unknown method in my\.py 'Smoothe'; did you mean 'Smoothed'"):
        Learner(net, method="my.py:Smoothe")


def test_a_broken_entry_point_is_left_out_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        EntryPoint("theirs", "synergy.nets.mlp:MLP", "synergy.nets"),
        EntryPoint("gone", "no.net:Net", "synergy.nets"),
    ]
    monkeypatch.setattr(
        "synergy.registry.entry_points", lambda group: EntryPoints(each for each in found if each.group == group)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        outcome = call("list")
    assert outcome.code == 0 and outcome.err.count("\n") == 1
    assert "gone: no module 'no.net'" in outcome.err and "it is left out" in outcome.err
    assert re.search(r"^  theirs +--hidden \(default 100\)$", outcome.out, re.MULTILINE)
    assert run(Path("runs"), "my.py:Bars", "er", "--net", "theirs", "--hidden", 5, "--max_steps_per_task", 2).code == 0


def test_a_record_from_before_networks_were_a_group_is_reported_beside_a_new_one() -> None:
    for seed in (0, 1):
        assert run(Path("runs"), "rot-digits", "sgd", *BRIEF, "--seed", seed).code == 0
    Path("runs/results.jsonl").unlink()
    file = next(Path("runs").glob("*-seed0/record.json"))
    old = json.loads(file.read_text())
    del old["config"]["net"], old["provenance"]["net"], old["provenance"]["hidden"]
    file.write_text(json.dumps(old))
    report = call("report", *sorted(Path("runs").iterdir()))
    assert (report.code, report.err) == (0, "")
    (line,) = [line.split() for line in report.out.splitlines() if "sgd (working)" in line]
    assert line[line.index("±") + 2] == "2"
