"""`synergy list` and `synergy show`: all names there are, and what one of them is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from synergy.errors import UsageError, unknown
from synergy.methods import METHOD_CLASSES
from synergy.nets import NET_CLASSES
from synergy.registry import FORMS, Registry
from synergy.scenarios import SCENARIO_CLASSES
from synergy.terminal import catalogue, screen
from synergy.terminal.output import say
from synergy.terminal.parser import Parser

if TYPE_CHECKING:  # names are listed without torch
    from synergy.presets import Preset

KINDS: Sequence[tuple[str, str, Registry[Any]]] = (
    ("Methods", "--model", METHOD_CLASSES),
    ("Scenarios", "--dataset", SCENARIO_CLASSES),
    ("Networks", "--net", NET_CLASSES),
)
WIDTH = 100
"""Characters of a line where no terminal says another number."""


def list_names(arguments: list[str]) -> int:
    """`synergy list`: methods, scenarios, networks and tuned values; with a name, what that is."""
    return _either("synergy list", arguments)


def show(arguments: list[str]) -> int:
    """`synergy show NAME`: what a method, a scenario or a network is."""
    return _either("synergy show", arguments)


def parser(command: str) -> Parser:
    """The parser of both commands."""
    made = Parser(
        command,
        description="Show methods, scenarios, networks, and which tuned values exist. With a name: its source, rule, "
        "options and tuned values.",
    )
    made.add_argument("name", metavar="NAME", nargs="?", help=f"a name of ours, or {FORMS}")
    return made


def _either(command: str, arguments: list[str]) -> int:
    name = parser(command).parse_strictly(arguments).name
    if name is None:
        _list_all()
    else:
        say("\n\n".join(_description(name)))
    return 0


def _list_all() -> None:
    for title, flag, registry in KINDS:
        rows = catalogue.rows(registry)
        rows = [row[:-1] for row in rows] if screen.rich_console() is None else screen.narrowed(rows)
        say(f"{screen.heading(f'{title} ({flag})')}\n{screen.table(rows)}\n")
    say(f"{screen.heading('Tuned values (--load_best_args)')}\n{screen.table(_tuned_values())}")


def _tuned_values() -> list[list[str]]:
    """The rows of the table of presets, its heading first."""
    from synergy import presets

    sizes: dict[tuple[str, str, str], list[str]] = {}
    for preset in presets.available():
        if preset.method in METHOD_CLASSES.table and preset.scenario in SCENARIO_CLASSES.table:
            size = "no memory" if preset.buffer_size is None else str(preset.buffer_size)
            key = (_place(preset), preset.source.partition(":")[0], preset.method)
            sizes.setdefault(key, []).append(size)
    methods: dict[tuple[str, str, str], list[str]] = {}
    for (place, source, method), given in sizes.items():
        methods.setdefault((place, ", ".join(given), source), []).append(method)
    heading = ["scenario", "buffer sizes", "source", "methods"]
    return [heading, *([*key, ", ".join(names)] for key, names in methods.items())]


def _description(name: str) -> Iterator[str]:
    """What a name is, in parts with a blank line between them."""
    flag, registry = _registry(name)
    kind = registry.load(name)
    from synergy.terminal.described import inherited_sections

    parts = inherited_sections(kind)
    yield screen.heading(f"{name}: a {registry.kind} ({flag} {name})")
    for part in ("", "Reference", "Update rule", "Deviations"):
        if part in parts:
            yield _text(parts[part])
    if facts := _facts(name, registry, kind):
        yield f"{screen.heading('Facts')}\n{screen.table(facts, headings=0)}"
    options = _options(registry.config_of(name, kind).specs())
    yield (
        f"{screen.heading('Options')}\n{screen.table(options)}" if len(options) > 1 else "It has no options of its own."
    )
    if registry is not NET_CLASSES:
        yield _presets(name)
        yield f"{screen.heading('Try it')}\n  {_command(name, registry, kind)}"


def _registry(name: str) -> tuple[str, Registry[Any]]:
    """The flag and the registry of a name."""
    for _, flag, registry in KINDS:
        if name in registry.names() or name.partition(":")[0] in registry.families:
            return flag, registry
    names = [each for _, _, registry in KINDS for each in registry.names()]
    if ":" not in name:
        raise UsageError(f"{unknown('name', name, names)}, or {FORMS}")
    from torch import nn

    from synergy.methods.base import Method
    from synergy.scenarios.base import Scenario

    kind = ANY.load(name)
    for base, (_, flag, registry) in zip((Method, Scenario, nn.Module), KINDS, strict=True):
        if issubclass(kind, base):
            return flag, registry
    raise UsageError(f"{name}: given another class; allowed: a method, a scenario or a network")


ANY: Registry[object] = Registry("class", {}, "builtins:object", "synergy.options:Options", "synergy.shown")
"""Any class of the user's own."""


def _text(text: str) -> str:
    """A part of a docstring. Its lines stay, unless the terminal is narrower than they are."""
    width = screen.columns()
    if width is None or all(len(line) <= width for line in text.splitlines()):
        return text
    return "\n\n".join(_broken(paragraph, width) for paragraph in text.split("\n\n"))


def _broken(paragraph: str, width: int) -> str:
    """A paragraph in lines that fit. One of indented or numbered lines is a list, whose lines are broken one by one."""
    lines = paragraph.splitlines()
    if not any(line[:1] in " -" or line[:1].isdigit() for line in lines):
        return textwrap.fill(" ".join(lines), width)
    indents = [" " * (len(line) - len(line.lstrip())) for line in lines]
    return "\n".join(
        textwrap.fill(line.strip(), width, initial_indent=indent, subsequent_indent=f"{indent}   ")
        for line, indent in zip(lines, indents, strict=True)
    )


def _facts(name: str, registry: Registry[Any], kind: Any) -> list[list[str]]:
    from synergy.terminal import described

    if registry is METHOD_CLASSES:
        pairs = list(described.method_facts(kind))
        fit = [each for each in SCENARIO_CLASSES.table if _fits(kind, SCENARIO_CLASSES.load(each))]
        everywhere = len(fit) == len(SCENARIO_CLASSES.table)
        pairs.append(("scenarios", "all" if everywhere else ", ".join(fit)))
    elif registry is SCENARIO_CLASSES and name in SCENARIO_CLASSES.table:
        pairs = list(described.scenario_facts(described.built(name)))
        without = [each for each in METHOD_CLASSES.table if not _fits(METHOD_CLASSES.load(each), kind)]
        pairs.append(("methods", "all but " + ", ".join(without) if without else "all"))
    elif registry is SCENARIO_CLASSES:
        pairs = [("judged under", ", ".join(kind.protocols)), ("data", kind.dataset), ("network", kind.default_net)]
    else:
        pairs = []
    return [[what, fact.replace("`", "")] for what, fact in pairs]


def _fits(method: Any, scenario: Any) -> bool:
    from synergy.runs.fitting import check_compatible

    try:
        check_compatible("", method, "", scenario)
    except UsageError:
        return False
    return True


def _options(specs: Sequence[Any]) -> list[list[str]]:
    from synergy.terminal.described import allowed, default

    rows = [[f"--{each.name}", default(each), allowed(each), each.help] for each in specs]
    return [["option", "default", "allowed", "meaning"], *rows]


def _presets(name: str) -> str:
    """The tuned values of a method or a scenario, each with its source."""
    from synergy import presets

    found = presets.available(method=name) or presets.available(scenario=name)
    if not found:
        return "It has no tuned values."
    method = found[0].method == name
    sizes: dict[tuple[str, str, str], list[str]] = {}
    for preset in found:
        values = ", ".join(f"{option}={value}" for option, value in preset.values.items())
        note = f"; {preset.note}" if preset.note else ""
        key = (_place(preset) if method else preset.method, values, f"{preset.source}{note}")
        sizes.setdefault(key, []).extend([] if preset.buffer_size is None else [str(preset.buffer_size)])
    lines = [screen.heading("Tuned values (--load_best_args)")]
    for (what, values, source), given in sizes.items():
        buffer = f", buffer {', '.join(given)}" if given else ""
        lines += [f"  {what}{buffer}", _indented(values), _indented(source)]
    return "\n".join(lines)


def _indented(text: str) -> str:
    width = min(WIDTH, screen.columns() or WIDTH)
    return textwrap.fill(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)


def _place(preset: Preset) -> str:
    return f"{preset.scenario} {preset.variant}" if preset.variant else preset.scenario


def _command(name: str, registry: Registry[Any], kind: Any) -> str:
    """A run with it that needs no data of one's own, where there is one."""
    if registry is SCENARIO_CLASSES:
        return f"synergy run --dataset {name} --model er"
    stream = next((each for each in ("rot-digits", "seq-digits") if _fits(kind, SCENARIO_CLASSES.load(each))), "NAME")
    return f"synergy run --dataset {stream} --model {name}"
