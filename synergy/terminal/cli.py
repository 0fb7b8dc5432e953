"""The command line: `synergy run | resume | list | report`. A mistake ends in one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches

from synergy.errors import TrainingError, UsageError, unknown
from synergy.release import release
from synergy.terminal import commands
from synergy.terminal.commands import FAILED_EXIT, INTERRUPTED_EXIT
from synergy.terminal.output import complain, warn
from synergy.terminal.parser import Parser

USAGE_EXIT = 2

DESCRIPTION = """\
Continual learning: SYNERgy, its baselines and its benchmarks.

  synergy run --dataset rot-digits --model synergy --buffer_size 200 --load_best_args
                                                       train and evaluate (no data needed for *-digits)
  synergy resume RUN                                   go on with a run that was stopped
  synergy list                                         methods, scenarios, networks and tuned values
  synergy report RUN [RUN ...]                         compare runs, draw a picture
"""

COMMANDS: Mapping[str, Callable[[list[str]], int]] = {
    "run": commands.run,
    "resume": commands.resume,
    "list": commands.list_names,
    "report": commands.report,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 (the run failed), 2 (a user's mistake), 130 (Ctrl-C)."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = warn
            return _command(list(sys.argv[1:] if arguments is None else arguments))
    except UsageError as error:
        complain(str(error))
        return USAGE_EXIT
    except TrainingError as error:
        complain(str(error))
        return FAILED_EXIT
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED_EXIT
    except BrokenPipeError:
        # The reader of our output went away, as `head` does. Python writes the rest at exit: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED_EXIT


def _command(arguments: list[str]) -> int:
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]](arguments[1:])
    parser = Parser("synergy", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=release())
    parser.add_argument("command", nargs="?", help=f"one of: {', '.join(COMMANDS)}; --help after it says more")
    if arguments and arguments[0] not in ("-h", "--help", "--version"):
        raise _no_command(arguments[0], COMMANDS)
    parser.parse_args(arguments)
    parser.print_help()
    return 0


def _no_command(given: str, commands: Iterable[str]) -> UsageError:
    names = [*commands, "--help", "--version"]
    if not given.startswith("-") or get_close_matches(given, names):
        return unknown("command", given, names)
    return UsageError(f"{given}: given in place of a command; did you mean 'synergy run'? allowed: {', '.join(names)}")


if __name__ == "__main__":
    sys.exit(main())
