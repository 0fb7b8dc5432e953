"""Where a library of an extra is not installed, one line names the extra."""

from __future__ import annotations

import ast
import re
import runpy
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import pytest

from synergy.errors import UsageError
from tests.commands import BRIEF, call

ROOT = Path(__file__).parent.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
OURS = ("docs", "dev")
"""Extras of those who work on this project."""
LIBRARIES = {re.split(r"[\[<>= ]", need)[0] for extra, needs in EXTRAS.items() if extra not in OURS for need in needs}


def test_the_extra_dev_brings_what_the_tests_import() -> None:
    (others,) = (need for need in EXTRAS["dev"] if need.startswith("synergy-cl["))
    assert set(others.removeprefix("synergy-cl[").removesuffix("]").split(",")) == set(EXTRAS) - {"dev", "timm"}


def hide(monkeypatch: pytest.MonkeyPatch, library: str, *modules: str) -> None:
    """Let `library` be as if it were not installed, and `modules` of ours as if nobody had loaded them."""
    find = PathFinder.find_spec

    def without(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return None if name.partition(".")[0] == library else find(name, path, target)

    monkeypatch.setattr(PathFinder, "find_spec", staticmethod(without))
    for name in list(sys.modules):
        if name.partition(".")[0] == library or name in modules:
            monkeypatch.delitem(sys.modules, name)


def refused(*arguments: object) -> str:
    """The complaint of a command."""
    outcome = call(*arguments)
    assert outcome.code == 2, f"{outcome.out}\n{outcome.err}"
    return outcome.err


def run(*arguments: object) -> str:
    return refused("run", "--dataset", "seq-digits", "--model", "sgd", *BRIEF, *arguments)


def report(*arguments: object) -> str:
    run_folder = Path("runs/one")
    made = call("run", "--dataset", "seq-digits", "--model", "sgd", *BRIEF, "--experiment_id", "one")
    assert made.code == 0, made.err
    return refused("report", run_folder, *arguments)


def loaded(module: str) -> str:
    with pytest.raises(UsageError) as error:
        import_module(module)
    return str(error.value)


SMALL = "hidden_size=8 num_hidden_layers=1 num_attention_heads=1 intermediate_size=8 image_size=8 patch_size=4"
VIT = ("--net", "hf:vit", "--weights", "random", "--net_values", *SMALL.split(), "num_channels=1")
NAMED: dict[str, tuple[str, Callable[[], str]]] = {
    "datasets": ("hub", lambda: refused("run", "--dataset", "rot-mnist", "--model", "sgd")),
    "matplotlib": ("report", lambda: report("--picture", "out.png")),
    "jinja2": ("report", lambda: report("--html", "out.html")),
    "shtab": ("completion", lambda: refused("completion", "bash")),
    "optuna": ("search", lambda: loaded("synergy.studies.search")),
    "ray": ("cluster", lambda: loaded("synergy.studies.cluster")),
    "peft": ("adapters", lambda: run(*VIT, "--train", "lora")),
    "transformers": ("transformers", lambda: run(*VIT)),
    "timm": ("timm", lambda: run("--net", "timm:resnet18")),
    "tensorboard": ("tensorboard", lambda: run("--tensorboard")),
    "mlflow": ("mlflow", lambda: run("--log", "mlflow")),
    "wandb": ("wandb", lambda: run("--log", "wandb")),
    "river": ("river", lambda: loaded("synergy.stream.faces.river")),
}
"""Library -> its extra, and how to use what needs it."""
PLAIN = {"rich": "without it the terminal shows lines"}
"""Libraries that nothing needs, and why."""
SCRIPTS = {
    ("fastapi", "examples/service.py"): "service",
    ("uvicorn", "examples/service.py"): "service",
    ("transformers", "examples/trainer_replay.py"): "adapters",
    ("transformers", "benchmarks/features_backbone.py"): "transformers",
    ("river", "benchmarks/streams.py"): "river",
}
"""Library and script that needs it -> the extra."""


def test_every_library_of_an_extra_is_tried() -> None:
    assert {*NAMED, *PLAIN, *(library for library, _ in SCRIPTS)} == LIBRARIES


def test_every_script_with_an_extra_is_tried() -> None:
    found = set()
    for path in [*(ROOT / "examples").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            roots = {name.partition(".")[0] for name in named} & LIBRARIES - {"matplotlib"}
            found |= {(root, path.relative_to(ROOT).as_posix()) for root in roots}
    assert found == set(SCRIPTS)


@pytest.mark.parametrize("library", sorted(NAMED))
def test_the_error_names_the_extra(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SYNERGY_DATA", raising=False)
    extra, use = NAMED[library]
    hide(monkeypatch, library, "synergy.studies.search", "synergy.studies.cluster", "synergy.stream.faces.river")
    said = use()
    assert f"pip install 'synergy-cl[{extra}]'" in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(("library", "script"), sorted(SCRIPTS))
def test_a_script_names_the_extra(library: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, library, "synergy.stream.faces.river", "synergy.stream.faces.trainer")
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script))
    assert f"pip install 'synergy-cl[{SCRIPTS[library, script]}]'" in str(end.value)


def test_the_trainer_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "transformers", "synergy.stream.faces.trainer")
    assert "pip install 'synergy-cl[adapters]'" in loaded("synergy.stream.faces.trainer")
