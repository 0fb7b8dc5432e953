"""`synergy completion`: a script with which the shell completes commands, flags, methods and scenarios."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from types import MappingProxyType
from typing import TypeAlias

from synergy.errors import UsageError, unknown
from synergy.methods import METHODS
from synergy.nets import NETS
from synergy.runs.groups import NAMED, option_classes
from synergy.scenarios import SCENARIOS
from synergy.terminal.output import say
from synergy.terminal.parser import Parser

Command: TypeAlias = Callable[[list[str]], int]

SHELLS = ("bash", "zsh", "tcsh")

DESCRIPTION = """\
Print a script that completes commands, flags, methods and scenarios. Once, in a shell:

  bash   synergy completion bash >> ~/.bash_completion
  zsh    synergy completion zsh > "${fpath[1]}/_synergy"
  tcsh   synergy completion tcsh > ~/.synergy.completion    and "source ~/.synergy.completion" in ~/.tcshrc
"""


def completion(arguments: list[str], commands: Mapping[str, Command]) -> int:
    """`synergy completion SHELL`: print the script.

    Args:
        commands: of `synergy`.

    Raises:
        UsageError: the shell is unknown, or shtab is not installed.
    """
    parser = Parser("synergy completion", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shell", metavar="SHELL", help=f"one of {', '.join(SHELLS)}")
    if not arguments:
        raise UsageError(f"SHELL is missing; allowed: {', '.join(SHELLS)}")
    shell = parser.parse_strictly(arguments).shell
    if shell not in SHELLS:
        raise unknown("shell", shell, SHELLS)
    try:
        import shtab
    except ImportError as error:
        raise UsageError("completion needs shtab: pip install 'synergy-cl[completion]'") from error
    say(shtab.complete(whole(commands), shell))
    return 0


def whole(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """One parser of all commands, with the flags in the help of each. `run` has those of all our classes too."""
    parser = argparse.ArgumentParser("synergy")
    parser.add_argument("--version", action="store_true", help="show the release")
    parts = parser.add_subparsers()
    for name, command in sorted(commands.items()):
        part = parts.add_parser(name, help=f"synergy {name}")
        found = flags(help_of(command)) | (flags_of_classes() if name == "run" else {})
        for flag, (metavar, choices) in found.items():
            if metavar is None:
                part.add_argument(flag, action="store_true")
            else:
                _taking(part.add_argument(flag, metavar=metavar, choices=CHOICES.get(flag, choices)), metavar)
        names = [*METHODS, *SCENARIOS, *NETS] if name in ("show", "list", "check") else None
        _taking(part.add_argument("rest", nargs="*", choices=names), "FILE")
    return parser


def _taking(action: argparse.Action, metavar: str) -> None:
    """Let the shell complete paths where a value is one."""
    if action.choices is None and metavar in ("FILE", "RUN", "FOLDER", "STR"):
        vars(action)["complete"] = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}


def help_of(command: Command) -> str:
    """What a command prints with `--help`."""
    with redirect_stdout(io.StringIO()) as text, suppress(SystemExit):
        command(["--help"])
    return text.getvalue()


def flags(text: str) -> dict[str, tuple[str | None, Sequence[str] | None]]:
    """The flags in a help text: what stands for the value (None for a switch), and no choices.

    Examples:
        >>> flags("  -h, --help  show this\\n  --seed INT  of everything\\n  --eager, --no-eager\\n")
        {'--seed': ('INT', None), '--eager': (None, None), '--no-eager': (None, None)}
    """
    found: dict[str, tuple[str | None, Sequence[str] | None]] = {}
    for line in re.findall(r"^  (--\S.*?)(?:  .*)?$", text, re.MULTILINE):
        for part in line.split(", "):
            flag, _, metavar = part.partition(" ")
            found[flag] = (metavar.split()[0].strip("[]") if metavar else None, None)
    return found


def flags_of_classes() -> dict[str, tuple[str | None, Sequence[str] | None]]:
    """The flags of all methods, scenarios and networks, and of every run."""
    groups = [group.options(name) for group in NAMED for name in group.registry.table]
    specs = [spec for options in (*groups, *option_classes({}, {}).values()) for spec in options.specs()]
    return {
        f"--{spec.name}": (
            None if spec.kind is bool and not spec.many else spec.kind.__name__.upper(),
            list(map(str, spec.limits.choices)) or None,
        )
        for spec in specs
    }


CHOICES: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "--model": tuple(METHODS),
        "--models": tuple(METHODS),
        "--dataset": tuple(SCENARIOS),
        "--datasets": tuple(SCENARIOS),
        "--net": tuple(NETS),
    }
)
"""What the shell offers for a flag that takes a name."""
