"""Names of classes: ours, `module:Class`, `file.py:Class` and entry points; a wrong one is one line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from synergy.errors import UsageError
from synergy.methods import METHOD_CLASSES, METHODS, method_class
from synergy.methods.er import ER
from synergy.nets import NET_CLASSES, NETS
from synergy.registry import Registry, file_of, label
from synergy.scenarios import SCENARIO_CLASSES, SCENARIOS
from synergy.scenarios.permuted import Permuted, PermutedDigits

OWN = """
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from synergy import Method, Scenario
from synergy.methods.base import MethodConfig
from synergy.options import option
from synergy.scenarios.base import ScenarioConfig
from synergy.scenarios.permuted import PermutedDigits

@dataclass(frozen=True)
class OwnConfig(ScenarioConfig):
    level: int = option(3, "a number", low=1)

class Own(PermutedDigits):
    name = "own"

class Net(nn.Linear):
    pass

class Half(Method[MethodConfig]):
    pass

class Unjudged(Scenario[OwnConfig]):
    Config = OwnConfig
    n_tasks = 1
    def task(self, index): ...
    def tests(self, after): ...

class Wrong(PermutedDigits):
    Config = dict

instance = Net(1, 1)

def function():
    pass
"""
REGISTRIES: tuple[Registry[Any], ...] = (METHOD_CLASSES, SCENARIO_CLASSES, NET_CLASSES)


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.py").write_text(OWN)


def complaint(registry: Registry[Any], name: str, file: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        registry.load(name, file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_our_names_are_classes_of_their_kind() -> None:
    assert [len(registry.table) for registry in REGISTRIES] == [len(METHODS), len(SCENARIOS), len(NETS)]
    for registry in REGISTRIES:
        assert all(isinstance(registry.load(name), type) for name in registry.table)
    assert method_class("er") is ER


def test_a_module_and_its_class() -> None:
    assert METHOD_CLASSES.load("synergy.methods.er:ER") is ER


def test_a_file_gives_the_same_class_until_it_changes(tmp_path: Path) -> None:
    own = SCENARIO_CLASSES.load("my.py:Own")
    assert issubclass(own, PermutedDigits)
    assert SCENARIO_CLASSES.load(f"{tmp_path}/my.py:Own") is own
    assert SCENARIO_CLASSES.load("./nowhere/../my.py:Own") is own
    # Within the same second, and of the same size.
    Path("my.py").write_text(OWN.replace('name = "own"', 'name = "two"'))
    assert SCENARIO_CLASSES.load("my.py:Own").name == "two"
    assert own.name == "own"


def test_two_files_of_one_name_are_two_modules() -> None:
    Path("other").mkdir()
    Path("other/my.py").write_text(OWN)
    assert SCENARIO_CLASSES.load("my.py:Own") is not SCENARIO_CLASSES.load("other/my.py:Own")


def test_a_recorded_place_wins_over_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, place = SCENARIO_CLASSES.load("my.py:Own"), file_of("my.py:Own")
    assert place == str(tmp_path / "my.py")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert "cannot read the file" in complaint(SCENARIO_CLASSES, "my.py:Own")
    assert SCENARIO_CLASSES.load("my.py:Own", place) is own
    moved = complaint(SCENARIO_CLASSES, "my.py:Own", str(tmp_path / "gone.py"))
    assert "gone.py" in moved and "[files] in config.toml" in moved


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("no.py:Own", ["cannot read the file ", "no.py: No such file"]),
        (".py:Own", ["cannot read the file "]),
        ("a\0.py:Own", ["cannot read the file a", "null"]),
        ("my.py", ["given the file 'my.py' alone", "my.py:Class"]),
        ("my.py:", ["unknown scenario in my.py ''", "allowed: Own"]),
        ("my.py:Owm", ["unknown scenario in my.py 'Owm'; did you mean 'Own'?"]),
        ("my.py:instance", ["scenario my.py:instance: is an object of Net", "derived from Scenario"]),
        ("my.py:function", ["is an object of function", "derived from Scenario"]),
        ("my.py:Net", ["my.py:Net: is another class", "derived from Scenario"]),
        ("my.py:Unjudged", ["my.py:Unjudged: the class is abstract; add to it: protocols"]),
        ("my:Own", ["no module 'my'", "my.py:Own"]),
        ("nosuch.module:Own", ["no module 'nosuch.module'", "PYTHONPATH"]),
        ("synergy.nosuch:Own", ["no module 'synergy.nosuch'"]),
        ("synergy.methods.er:ER", ["is another class", "derived from Scenario"]),
        ("synergy.errors:Own", ["synergy.errors holds no class derived from Scenario"]),
        (":Own", ["given ':Own'; allowed: package.module:Class, file.py:Class"]),
        ("..:Own", ["given '..:Own'"]),
        ("rot-digit", ["unknown scenario 'rot-digit'; did you mean 'rot-digits'?", "package.module:Class, file.py"]),
    ],
)
def test_a_wrong_name_is_one_line(name: str, parts: list[str]) -> None:
    message = complaint(SCENARIO_CLASSES, name)
    for part in parts:
        assert part in message


def test_an_abstract_class_says_what_it_lacks() -> None:
    message = complaint(METHOD_CLASSES, "my.py:Half")
    assert "my.py:Half: the class is abstract; add to it: " in message and "predictors" in message


def test_a_config_of_another_kind() -> None:
    with pytest.raises(UsageError, match=r"my\.py:Wrong: its Config must be a class derived from ScenarioConfig"):
        SCENARIO_CLASSES.config_of("my.py:Wrong", SCENARIO_CLASSES.load("my.py:Wrong"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("\n\n1 / 0", "at line 3: ZeroDivisionError: division by zero"),
        ("x = = 1", "at line 1: SyntaxError: invalid syntax"),
        ("\nimport nosuch_module", "at line 2: ModuleNotFoundError: No module named 'nosuch_module'"),
        ("from . import other", "at line 1: ImportError: "),
        ("import sys; sys.exit(3)", "at line 1: SystemExit: 3"),
        ("raise RuntimeError('two\\nlines')", "at line 1: RuntimeError: two lines"),
        ("unknown_name", "at line 1: NameError: "),
        ("open('/nonexistent')", "at line 1: FileNotFoundError: "),
    ],
)
def test_a_file_that_fails_on_import(code: str, reason: str) -> None:
    Path("broken.py").write_text(code)
    before = set(sys.modules)
    assert complaint(METHOD_CLASSES, "broken.py:Own").startswith(f"broken.py fails on import {reason}")
    assert not {name for name in set(sys.modules) - before if name.startswith("broken")}
    assert [path.name for path in Path.cwd().iterdir()] and not Path("__pycache__").exists()


def test_a_file_that_is_no_text() -> None:
    Path("binary.py").write_bytes(b"\xff\xfe\x00\x01")
    assert "binary.py fails on import" in complaint(METHOD_CLASSES, "binary.py:Own")


def test_a_module_that_fails_on_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package/__init__.py").write_text("import nosuch_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    message = complaint(METHOD_CLASSES, "broken_package:Own")
    assert message == "broken_package fails on import: ModuleNotFoundError: No module named 'nosuch_module'"


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "synergy.methods")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that add methods by entry points."""
    found = [
        entry("theirs", "synergy.methods.er:ER"),
        entry("er", "synergy.methods.der:DER"),
        entry("twice", "one.module:Class"),
        entry("twice", "other.module:Class"),
        entry("../up", "synergy.methods.er:ER"),
        entry("gone", "nosuch.module:Class"),
    ]
    monkeypatch.setattr(
        "synergy.registry.entry_points", lambda group: EntryPoints(each for each in found if each.group == group)
    )


@pytest.mark.usefixtures("installed")
def test_entry_points_add_names() -> None:
    assert METHOD_CLASSES.names() == (*METHODS, "gone", "theirs", "twice")
    assert METHOD_CLASSES.load("theirs") is ER
    assert METHOD_CLASSES.load("er") is ER, "our own name wins"
    assert SCENARIO_CLASSES.names() == tuple(SCENARIOS)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("theirz", "unknown method 'theirz'; did you mean 'theirs'?"),
        ("twice", "several installed packages have it; name one: one.module:Class, other.module:Class"),
        ("../up", "unknown method '../up'"),
        ("gone", "no module 'nosuch.module'"),
    ],
)
def test_a_wrong_name_among_entry_points(name: str, part: str) -> None:
    assert part in complaint(METHOD_CLASSES, name)


def test_entry_points_of_an_installed_package_are_found(tmp_path: Path) -> None:
    """Python's own metadata, in a folder on the path, as an installer writes it."""
    folder = tmp_path / "site"
    (folder / "lab-1.0.dist-info").mkdir(parents=True)
    (folder / "lab-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (folder / "lab-1.0.dist-info/entry_points.txt").write_text("[synergy.nets]\ntiny = lab_nets:Tiny\n")
    (folder / "lab_nets.py").write_text("from torch import nn\nclass Tiny(nn.Linear): pass\n")
    program = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from synergy.nets import NET_CLASSES as nets\n"
        "print(nets.names()[-1], 'torch' in sys.modules, nets.load('tiny').__name__)"
    )
    root = Path(__file__).parent.parent
    finished = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert (finished.stdout, finished.stderr) == ("tiny False Tiny\n", "")


def test_labels_are_parts_of_paths() -> None:
    names = ("er", "lab/my.py:Smoothed", "package.module:Class")
    assert [label(name) for name in names] == ["er", "Smoothed", "Class"]
    assert [file_of(name) is not None for name in names] == [False, True, False]


def test_a_class_that_is_imported_by_the_file_counts() -> None:
    Path("lend.py").write_text("from synergy.scenarios.permuted import Permuted, PermutedDigits")
    assert SCENARIO_CLASSES.load("lend.py:PermutedDigits") is PermutedDigits
    assert issubclass(PermutedDigits, Permuted)


def test_all_forms_are_of_one_table() -> None:
    """A table of names is data: another one works alike."""
    animals = replace(METHOD_CLASSES, kind="animal", table={"cat": "synergy.methods.er:ER"}, group="no.group")
    assert animals.load("cat") is ER
    assert complaint(animals, "cap").startswith("unknown animal 'cap'; did you mean 'cat'? allowed: cat, or ")


def in_folder(rest: str, place: str | None) -> type[ER]:
    """The class that a family makes in the test below."""
    return type(f"In{rest}", (ER,), {"place": place})


def test_a_family_makes_the_class_of_a_name(tmp_path: Path) -> None:
    animals = replace(METHOD_CLASSES, families={"zoo": f"{__name__}:in_folder"}, forms="zoo:FOLDER")
    assert animals.load("zoo:Berlin").__name__ == "InBerlin"
    assert vars(animals.load("zoo:Berlin", "/far/Berlin"))["place"] == "/far/Berlin"
    (tmp_path / "Berlin").mkdir()
    assert animals.place_of(f"zoo:{tmp_path}/Berlin") == str(tmp_path / "Berlin")
    assert animals.place_of("zoo:nowhere") is None and animals.place_of("zoo:no\0path") is None
    assert animals.place_of("my.py:Class") == file_of("my.py:Class")
    assert complaint(animals, "cat").endswith(", or zoo:FOLDER")


def test_a_misspelt_family_is_told_with_the_nearest() -> None:
    for given, nearest in (("spilt:bars", "split:bars"), ("splt:hf:me/birds", "split:hf:me/birds")):
        assert f"unknown scenario '{given}'; did you mean '{nearest}'? allowed: " in complaint(SCENARIO_CLASSES, given)
    assert "unknown network 'fh:vit'; did you mean 'hf:vit'?" in complaint(NET_CLASSES, "fh:vit")
    assert complaint(SCENARIO_CLASSES, "nowhere:Class").startswith("no module 'nowhere'")


def test_a_module_with_almost_the_name_of_a_family_is_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("splitt.py").write_text("from synergy.scenarios.permuted import PermutedDigits")
    monkeypatch.syspath_prepend(Path.cwd())
    assert SCENARIO_CLASSES.load("splitt:PermutedDigits") is PermutedDigits


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("split:a/my photos/", "my-photos"),
        ("split:wine.csv", "wine"),
        ("split:hf:me/birds", "birds"),
        ("split:_", "data"),
    ],
)
def test_the_label_of_data(name: str, expected: str) -> None:
    assert label(name) == expected
