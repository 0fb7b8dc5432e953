"""From the arguments of a command to what they mean: flags, help, and the configuration of a run."""

from __future__ import annotations

import argparse
import re
import reprlib
import shlex
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NoReturn

from synergy import presets
from synergy.errors import UsageError, unknown
from synergy.options import Option, Options
from synergy.presets import Preset
from synergy.runs.config import PresetChoice, RunConfig, build, usual_net
from synergy.runs.config_file import FileContent, from_toml
from synergy.runs.groups import NAMED, option_classes

_HELP = ("-h", "--help")
MOST_NAMED = 6
"""Flags that an error names; of more it names the three nearest."""
_KINDS = {
    "scenario": "scenario: {names}",
    "method": "method: {names}",
    "net": "network: {names}; by default the usual one of the scenario",
}
"""Help of the flags that name a class."""


class Parser(argparse.ArgumentParser):
    """Complains in one line, and names the nearest flag to a mistyped one.

    Examples:
        >>> parser = Parser("synergy list", add_help=False)
        >>> parser.parse_strictly(["more"])
        Traceback (most recent call last):
        synergy.errors.UsageError: unknown argument 'more'; allowed: ...
    """

    def error(self, message: str) -> NoReturn:
        """Raises UsageError instead of ending the process."""
        message = re.sub("the following arguments are required: ([^,]*).*", r"\1 is missing", message)
        message = re.sub("expected (one|at least one) argument", r"given no value; allowed: \1", message)
        raise UsageError(message.removeprefix("argument "))

    def parse_strictly(
        self, arguments: Sequence[str], owners: Callable[[str], list[str]] = lambda flag: []
    ) -> argparse.Namespace:
        """Parse all arguments.

        Args:
            owners: from a flag that this parser does not know to the names of the classes that have it.

        Raises:
            UsageError: a flag or an argument is unknown, or a value is missing or malformed.
        """
        parsed, rest = self.parse_known_args(arguments)
        if rest:
            name = rest[0].split("=")[0]
            if others := owners(name):
                raise UsageError(f"unknown flag '{name}' here; it is an option of {', '.join(others)}")
            raise self._unknown(name)
        return parsed

    def _unknown(self, name: str) -> UsageError:
        flags = sorted(self._option_string_actions)
        if not name.startswith("-") or len(flags) <= MOST_NAMED:
            return unknown("flag" if name.startswith("-") else "argument", name, flags)
        near = ", ".join(nearest_flags(name, flags))
        return UsageError(f"unknown flag '{name}'; the nearest are {near}; '{self.prog} --help' shows all")


def nearest_flags(given: str, flags: Iterable[str], n: int = 3) -> list[str]:
    """The `n` flags that are spelt most like a given one, the nearest first.

    Examples:
        >>> nearest_flags("--sead", ["--seed", "--keep", "--notes", "--device", "--help"])
        ['--seed', '--keep', '--help']
    """
    likeness = {flag: SequenceMatcher(None, given, flag).ratio() for flag in flags}
    return sorted(likeness, key=lambda flag: -likeness[flag])[:n]


def run_config(arguments: list[str]) -> RunConfig:
    """The configuration that `synergy run` was asked for.

    Raises:
        UsageError: something in the arguments, or in the file that they name, is not allowed.
        SystemExit: the arguments ask for help; it is printed.
    """
    first = vars(run_parser({}, option_classes({}, {})).parse_known_args([a for a in arguments if a not in _HELP])[0])
    names = {group.name: first[group.flag] for group in NAMED if first[group.flag] is not None}
    own = None if first["config"] is None else _own_preset(first["config"], names, arguments)
    content = None if first["config"] is None or own is not None else from_toml(Path(first["config"]))
    if own is not None:
        names = {"scenario": own.scenario, "method": own.method} | names
    from_file, files = ({}, {}) if content is None else _of_file(content, names)
    if content is not None:
        names = {"scenario": content.scenario_name, "method": content.method_name} | names
    if "net" in from_file:
        names = {"net": from_file["net"]} | names
    helping = bool(set(_HELP) & set(arguments))
    for group in NAMED:  # a wrong name is told before a missing flag
        if group.name in names:
            group.options(names[group.name], files.get(group.name))
    for group in NAMED:
        if not (helping or group.name in names or group.name == "net"):
            raise UsageError(f"--{group.flag} is missing; allowed: {', '.join(sorted(group.registry.names()))}")
    if "scenario" in names:
        on_features = {**from_file, **first}.get("features") is not None
        names = {"net": usual_net(names["scenario"], files.get("scenario"), features=on_features)} | names
    configs = option_classes(names, files)
    parser = run_parser(names, configs, helping)
    if helping:
        parser.print_help()
        raise SystemExit(0)
    given = vars(parser.parse_strictly(arguments, _owners))
    choice = PresetChoice(given.pop("load_best_args"), given.pop("nearest_best_args"), own)
    for name in ("dataset", "model", "config"):
        del given[name]
    given = {name: value for name, value in given.items() if (name, value) != ("net", None)}
    specs = {spec.name: spec for config in configs.values() for spec in config.specs()}
    given = {name: several(specs[name], v) if isinstance(v, list) else v for name, v in given.items()}
    return build(names["scenario"], names["method"], given, choice, from_file, files)


def _own_preset(file: str, names: Mapping[str, str], arguments: Sequence[str]) -> Preset | None:
    """The preset in a file of tuned values that is meant; None if the file is of another kind."""
    found = presets.read(Path(file))
    if found is None:
        return None
    size_parser = Parser("synergy run", add_help=False, allow_abbrev=False)
    size_parser.add_argument("--buffer_size", type=_whole_number)
    size = size_parser.parse_known_args(arguments)[0].buffer_size
    return presets.choose(found, file, names.get("scenario"), names.get("method"), size)


def _of_file(content: FileContent, names: Mapping[str, str]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The values in a `config.toml` that hold for these names from flags, and the places of the files it names."""
    in_file = {"scenario": content.scenario_name, "method": content.method_name, "net": content.values.get("net")}
    same = all(in_file[group] == name for group, name in names.items())
    files = {group: file for group, file in content.files.items() if group not in names}
    if left_out := content.left_out():
        warnings.warn(f"not taken from the file: {', '.join(left_out)}; give them as flags", stacklevel=2)
    return content.inherited(same=same), files


def run_parser(names: Mapping[str, str], configs: Mapping[str, type[Options]], helping: bool = False) -> Parser:
    """The parser of `synergy run`, with the options of the classes that are known.

    Args:
        names: of the classes, by group.
        configs: the options, by group.
        helping: whether its help will be printed. Only then the names of other packages are looked up: that takes time.
    """
    parser = Parser("synergy run", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.usage = "synergy run --dataset NAME --model NAME [--net NAME] [options]"
    parser.description = "Train a method on a scenario and evaluate it after every task."
    if not {"scenario", "method"} <= names.keys():
        parser.epilog = (
            "With --dataset NAME --model NAME, --help also shows the options of these two and of the network. "
            "A NAME may also be package.module:Class or path/to/file.py:Class, for data of your own split:FOLDER, "
            "split:FILE.csv, split:FILE.parquet or split:hf:OWNER/NAME."
        )
    what = parser.add_argument_group("what to run")
    what.add_argument(*_HELP, action="store_true", help="show this")
    for group in NAMED:
        allowed = group.registry.names() if helping else group.registry.table
        text = _KINDS[group.name].format(names=", ".join(allowed))
        what.add_argument(f"--{group.flag}", default=None, metavar="NAME", help=text)
    what.add_argument("--load_best_args", action="store_true", default=False, help="start from tuned values")
    nearest = "the same, from the nearest buffer size if the given one has none"
    what.add_argument("--nearest_best_args", action="store_true", default=False, help=nearest)
    from_run = "start from another run (its config.toml, or its folder), except its output options and data_dir; or "
    from_run += "from tuned values that a search found"
    what.add_argument("--config", default=None, metavar="FILE", help=from_run)
    for table, options in configs.items():
        title = f"options of {names[table]}" if table in names else table
        add_options(parser, title, options, _what_it_is(table, names[table]) if helping and table in names else None)
    return parser


def _what_it_is(group: str, name: str) -> str:
    """What a class does, for the help of its options."""
    from synergy.terminal.described import summary

    kind = next(each for each in NAMED if each.name == group).registry.load(name)
    return f"{summary(kind)} More: synergy show {shlex.quote(name)}"


def _owners(flag: str) -> list[str]:
    """The names of our classes that have an option of this name."""
    return [
        name
        for group in NAMED
        for name in group.registry.table
        if flag in {f"--{option}" for option in group.options(name).names()}
    ]


def add_options(parser: Parser, title: str, options: type[Options], description: str | None = None) -> None:
    """Add a flag for each option, under a heading, with a description of the class below it."""
    group = parser.add_argument_group(title, description)
    for spec in options.specs():
        if spec.kind is bool and not spec.many:
            action = argparse.BooleanOptionalAction if spec.default else "store_true"
            group.add_argument(f"--{spec.name}", action=action, help=_help(spec))
        else:
            kind = str if spec.many else {int: _whole_number, float: _number}.get(spec.kind, str)
            nargs = "+" if spec.many else None
            metavar = spec.kind.__name__.upper()
            group.add_argument(f"--{spec.name}", type=kind, nargs=nargs, metavar=metavar, help=_help(spec))


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"given {reprlib.repr(text)}; allowed: a whole number") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"given {reprlib.repr(text)}; allowed: a number") from error


def _help(spec: Option) -> str:
    facts = [f"one of {', '.join(map(str, spec.limits.choices))}"] if spec.limits.choices else []
    facts += [f"default {spec.default}"] if spec.default is not None and spec.default is not False else []
    return (spec.help + (f" ({'; '.join(facts)})" if facts else "")).replace("%", "%%")


def several(spec: Option, given: list[str]) -> tuple[str, ...] | tuple[float, ...]:
    """Values of a flag that takes many: one by one, or with commas between; numbers may also stand in a file."""
    text = " ".join(given)
    if spec.kind is str:
        return tuple(text.replace(",", " ").split())
    with suppress(ValueError):
        return _parsed(text)
    try:
        return _parsed(Path(text).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{spec.name}: given {reprlib.repr(text)}; allowed: numbers, or a file of numbers") from error


def _parsed(text: str) -> tuple[float, ...]:
    return tuple(float(item) for item in text.replace(",", " ").split())
