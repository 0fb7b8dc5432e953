"""The rules of the house that a machine can check, read from the source itself."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from synergy.methods import METHODS, method_class
from synergy.methods.base import Method
from synergy.nets import NET_CLASSES, NETS, net_class
from synergy.runs.groups import OutputConfig, TrainingConfig
from synergy.scenarios import FAMILIES, SCENARIOS, scenario_class

PACKAGE = Path(__file__).parent.parent / "synergy"


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}

MOST_ROOMS, MOST_LEVELS = 28, 9


def room(module: str) -> str:
    """The package or file directly below `synergy` that a module is, or is part of; "" for `synergy` itself."""
    return f"{module}.".split(".")[1]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of all that a module imports, also inside functions; not what only a type checker reads."""
    for node in outside_type_checking(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            full = [f"{source}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name if name in TREES else source) for name in full)


def outside_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        guarded = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        for part in child.orelse if guarded and isinstance(child, ast.If) else [child]:
            yield from outside_type_checking(part)


def is_of(name: str, library: str) -> bool:
    return f"{name}.".startswith(f"{library}.")


def violations(breaks: Callable[[ast.AST], bool], but: str = "") -> list[str]:
    """Where in the package a piece of code breaks a rule, leaving out one module."""
    return [
        f"{module}, line {vars(node).get('lineno')}: {ast.unparse(node)[:80]}"
        for module, tree in TREES.items()
        if module != but
        for node in ast.walk(tree)
        if breaks(node)
    ]


def rooms() -> dict[str, set[str]]:
    """What each room imports from others; a folder is one room, and so is a loose module."""
    found: dict[str, set[str]] = {room(module): set() for module in TREES}
    for module, tree in TREES.items():
        targets = {room(name) for _, name in imports(tree) if is_of(name, "synergy")}
        found[room(module)] |= targets - {room(module)}
    return found


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """Height of each room: one above the highest that it imports. Raises CycleError, which names the cycle."""
    heights: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        heights[name] = 1 + max((heights[below] for below in graph[name]), default=0)
    return heights


def test_imports_run_downwards() -> None:
    graph = rooms()
    assert len(graph) <= MOST_ROOMS
    assert max(levels(graph).values()) <= MOST_LEVELS
    assert all("" not in below for below in graph.values()), "the whole package is imported by one of its parts"


def test_a_cycle_is_found() -> None:
    with pytest.raises(CycleError):
        levels({"one": {"other"}, "other": {"one"}})


def test_the_documented_layout_has_every_room() -> None:
    layout = (PACKAGE.parent / "docs" / "architecture.md").read_text().split("```")[1]
    rooms = {room(module) for module in TREES} - {""}
    assert rooms == set(re.findall(r"^  (\w+)(?:/|\.py) ", layout, re.MULTILINE))


def test_imports_are_absolute_and_never_of_everything() -> None:
    assert not violations(lambda n: isinstance(n, ast.ImportFrom) and (n.level > 0 or n.names[0].name == "*"))


@pytest.mark.parametrize("package", ["methods", "scenarios", "memory"])
def test_none_imports_another_of_its_kind(package: str) -> None:
    whole = f"synergy.{package}"
    shared = {whole, f"{whole}.base", f"{whole}.store", f"{whole}.steps"}
    siblings = [
        f"{module} imports {name}"
        for module, tree in TREES.items()
        if is_of(module, whole) and module not in shared
        for _, name in imports(tree)
        if is_of(name, whole) and name not in shared
    ]
    assert not siblings


@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("matplotlib", "synergy.report.pictures"),
        ("tensorboard", "synergy.runs.trackers.tensorboard_log"),
        ("mlflow", "synergy.runs.trackers.mlflow_log"),
        ("wandb", "synergy.runs.trackers.wandb_log"),
        ("datasets", "synergy.data.hub"),
        ("optuna", "synergy.studies.search"),
        ("ray", "synergy.studies.cluster"),
        ("river", "synergy.stream.faces.river"),
    ],
)
def test_a_library_has_one_user(library: str, module: str) -> None:
    users = {user for user, tree in TREES.items() for _, name in imports(tree) if is_of(name, library)}
    assert users == {module}


def test_nothing_is_read_that_may_hold_code() -> None:
    loaders = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    assert not {(m, name) for m, tree in TREES.items() for _, name in imports(tree) if name.split(".")[0] in loaders}


def test_every_file_has_a_name_that_says_something() -> None:
    empty = re.compile(r"_*(utils?|helpers?|common|misc)_*")
    assert not [module for module in TREES if any(empty.fullmatch(part) for part in module.split("."))]


FORBIDDEN_CALLS = re.compile(
    r"hasattr|getattr|eval|exec|__import__|torch\.load"
    r"|(torch|torch\.cuda|random|np\.random|numpy\.random)\.(manual_seed|manual_seed_all|seed|set_rng_state|set_state)"
    r"|(np|numpy)\.random\.(rand|randn|randint|choice|shuffle|permutation|uniform|normal|default_rng)"
)


def is_forbidden_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and FORBIDDEN_CALLS.fullmatch(ast.unparse(node.func)) is not None


def test_no_probing_no_evaluation_no_global_randomness() -> None:
    found = [each for each in violations(is_forbidden_call) if not BORROWED.match(each)]
    assert not found


BORROWED = re.compile(r"synergy\.randomness, line \d+: torch(\.cuda|\.mps)?\.set_rng_state\(")
"""The one place that touches torch's global generator, for networks that can draw from no other, and hands it back."""


def is_broad(node: ast.AST) -> bool:
    """An `except` or `suppress` that takes everything."""
    if isinstance(node, ast.ExceptHandler):
        caught = [node.type]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
        caught = [*node.args]
    else:
        return False
    names = {each.id for kind in caught if kind is not None for each in ast.walk(kind) if isinstance(each, ast.Name)}
    return caught == [None] or bool(names & {"Exception", "BaseException"})


def test_exceptions_are_named() -> None:
    assert not violations(is_broad)


def is_printing(node: ast.AST) -> bool:
    printing = ("print", "sys.stdout.write", "sys.stderr.write")
    return isinstance(node, ast.Call) and ast.unparse(node.func) in printing


def test_only_the_command_line_prints() -> None:
    assert violations(is_printing)
    assert not violations(is_printing, but="synergy.terminal.output")


def test_no_module_keeps_state() -> None:
    """Nothing is rebound with `global`; a mutable value at the top of a module is a table to read, in capitals."""
    assert not violations(lambda n: isinstance(n, ast.Global))
    mutable = ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp
    for module, tree in TREES.items():
        for node in tree.body if isinstance(tree, ast.Module) else ():
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, mutable):
                target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
                assert target.isupper() or target == "__all__", f"{module}: {target}"
                assert ast.unparse(node.value) not in ("{}", "[]"), f"{module}: {target} waits to be filled"


def test_public_classes_and_functions_are_explained() -> None:
    silent = []
    for module, tree in TREES.items():
        assert isinstance(tree, ast.Module)
        public = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and not n.name.startswith("_")]
        silent += [module] * (ast.get_docstring(tree) is None)
        silent += [f"{module}.{node.name}" for node in public if ast.get_docstring(node) is None]
    assert not silent


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_implements(name: str) -> None:
    text = inspect.cleandoc(method_class(name).__doc__ or "")
    for heading in ("Reference: ", "Update rule", "Deviations"):
        assert re.search(rf"^{heading}", text, re.MULTILINE), f"no paragraph begins with '{heading}'"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_overrides_nothing_that_is_done_already(name: str) -> None:
    """A class is abstract or final. What `Method` itself leaves to its subclasses is theirs to fill in."""
    kind = method_class(name)
    for base in kind.__mro__[1:]:
        if base not in Method.__mro__:
            methods = {name for name, value in vars(base).items() if inspect.isfunction(value) and name[:2] != "__"}
            done = {name for name in methods if "__isabstractmethod__" not in vars(vars(base)[name])}
            assert not done & vars(kind).keys(), f"overrides what {base.__name__} does already"


def test_the_tables_name_every_file_once() -> None:
    for package, table in {"methods": METHODS, "scenarios": {**SCENARIOS, **FAMILIES}}.items():
        shared = {f"synergy.{package}{part}" for part in ("", ".base", ".steps")}
        there = {m for m in TREES if is_of(m, f"synergy.{package}")} - shared
        assert {entry.partition(":")[0] for entry in table.values()} == there
        assert len(set(table.values())) == len(table)
    assert all(scenario_class(name).name == name for name in SCENARIOS)


def test_options_explain_themselves() -> None:
    of_methods = (method_class(name).Config for name in METHODS)
    of_scenarios = (scenario_class(name).Config for name in SCENARIOS)
    of_nets = (NET_CLASSES.config_of(name, net_class(name)) for name in NETS)
    kinds: set[Any] = set(itertools.chain(of_methods, of_scenarios, of_nets, (TrainingConfig, OutputConfig)))
    for kind in kinds:
        # A dataclass without a docstring gets its signature for one.
        assert not kind.__doc__.startswith(f"{kind.__name__}("), f"{kind.__name__} is not explained"
        for spec in kind.specs():
            assert spec.help and not spec.help.endswith("."), f"{kind.__name__}.{spec.name}: {spec.help!r}"


def test_every_module_can_be_imported() -> None:
    for module in TREES:
        importlib.import_module(module)
