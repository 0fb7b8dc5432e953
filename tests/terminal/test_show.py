"""`synergy list` and `synergy show`: all names, and what one of them is."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from synergy import presets
from synergy.methods import METHODS, method_class
from synergy.nets import NETS
from synergy.scenarios import SCENARIOS
from synergy.terminal import catalogue
from tests.commands import call


def test_the_rows_of_the_list_are_what_the_classes_say() -> None:
    assert catalogue.PATH.read_text(encoding="utf-8") == catalogue.written(), "it is out of date: run 'make docs'"
    assert {kind: list(rows) for kind, rows in json.loads(catalogue.written()).items()} == {
        "method": list(METHODS),
        "scenario": list(SCENARIOS),
        "network": list(NETS),
    }


def test_a_name_that_the_file_lacks_is_listed_from_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = call("list").out
    monkeypatch.setattr(catalogue, "PATH", tmp_path / "catalogue.json")
    known = json.loads(catalogue.written())
    del known["method"]["er"], known["scenario"]["rot-digits"], known["network"]["mlp"]
    catalogue.PATH.write_text(json.dumps(known), encoding="utf-8")
    assert call("list").out == whole


@pytest.mark.parametrize("name", ["er", "synergy", "pnn"])
def test_a_method_is_shown_with_its_source_rule_options_and_tuned_values(name: str) -> None:
    shown = call("show", name)
    assert (shown.code, shown.err) == (0, "")
    text = inspect.cleandoc(method_class(name).__doc__ or "")
    for part in ("Reference: ", "Update rule", "Deviations"):
        paragraphs = [each for each in text.split("\n\n") if each.startswith(part)]
        assert paragraphs and all(each in shown.out for each in paragraphs)
    for spec in method_class(name).Config.specs():
        assert re.search(rf"^  --{spec.name} .*{re.escape(spec.help)}$", shown.out, re.MULTILINE)
    words = " ".join(shown.out.split())
    for preset in presets.available(method=name):
        assert all(f"{option}={value}" in words for option, value in preset.values.items())
        assert " ".join(preset.source.split()) in words
    assert call("list", name) == shown


def test_a_method_names_the_scenarios_it_can_learn_from() -> None:
    assert re.search(r"scenarios +all$", call("show", "er").out, re.MULTILINE)
    (line,) = re.findall(r"  scenarios +(.*)", call("show", "lwf").out)
    assert line.split(", ") == ["seq-mnist", "seq-cifar10", "seq-cifar100", "seq-tinyimg", "seq-digits"]


def test_a_scenario_is_shown_with_tasks_classes_sizes_and_tuned_methods() -> None:
    text = call("show", "seq-cifar10").out
    for pattern in (
        "tasks +5",
        "judged under +class-IL, task-IL",
        "data +cifar10: 50,000 training and 10,000 test images, 3x32x32",
        "network +--net resnet18, 10 outputs, 11,173,962 parameters",
        "--n_tasks +5 +at least 1",
        "  synergy, buffer 200",
        "published: NeurAI-Lab/SYNERgy",
        "synergy run --dataset seq-cifar10 --model er",
    ):
        assert re.search(pattern, text), pattern
    assert "methods       all but joint" in call("show", "mnist-360").out


def test_a_network_is_shown_with_its_options() -> None:
    assert re.search(r"--width +64 ", call("show", "resnet18").out)
    assert "It has no options of its own." in call("show", "linear").out


@pytest.mark.parametrize("command", ["show", "list"])
def test_a_class_of_ones_own_is_shown_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    code = ["from synergy.methods.er import ER", "class Mine(ER):", '    """Replay as I like it."""']
    (tmp_path / "my.py").write_text("\n".join(code), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    text = call(command, "my.py:Mine").out
    assert text.startswith("my.py:Mine: a method (--model my.py:Mine)\n\nReplay as I like it.\n\nReference: Rolnick")
    assert "It has no tuned values." in text and "--minibatch_size" in text


def test_without_a_name_all_names_are_shown() -> None:
    assert call("show") == call("list")
