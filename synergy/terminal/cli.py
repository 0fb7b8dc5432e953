"""The command line: `synergy COMMAND`. A mistake ends in one line and an exit code."""

from __future__ import annotations

import argparse
import atexit
import gc
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from difflib import get_close_matches

from synergy.errors import TrainingError, UsageError, unknown
from synergy.release import release
from synergy.terminal import analyse, check, commands, completion, doctor, report, reproduce, show, study, verify
from synergy.terminal.commands import FAILED_EXIT, INTERRUPTED_EXIT
from synergy.terminal.output import Outlet, complain, occupy_standard_files, warn
from synergy.terminal.parser import Parser

USAGE_EXIT = 2

DESCRIPTION = """\
Continual learning: SYNERgy, its baselines and its benchmarks.

  synergy run --dataset NAME --model NAME   train and evaluate
  synergy resume RUN                        go on with a run that was stopped
  synergy study --models A,B --datasets C,D --seeds 0-2 --output_dir S
                                            many runs; goes on where it stopped
  synergy list                              names, and which have tuned values
  synergy show NAME                         what one is: rule, options, values
  synergy check FILE.py:CLASS               try the contract of your own class
  synergy report RUN [RUN ...]              compare runs, draw a picture
  synergy analyse NAME RUN [RUN ...]        look into what a run has learned
  synergy verify RUN                        run a record again, compare the bits
  synergy reproduce TABLE                   make a published table again
  synergy doctor                            is everything here that a run needs?
  synergy completion SHELL                  complete all this with Tab

A first run, which needs no data:

  synergy run --dataset rot-digits --model synergy --buffer_size 200 \\
              --load_best_args
"""


def complete(arguments: list[str]) -> int:
    """`synergy completion`: it has to know all commands."""
    return completion.completion(arguments, COMMANDS)


COMMANDS: Mapping[str, Callable[[list[str]], int]] = {
    "run": commands.run,
    "resume": commands.resume,
    "study": study.study,
    "list": show.list_names,
    "show": show.show,
    "report": report.report,
    "check": check.check,
    "analyse": analyse.analyse,
    "verify": verify.verify,
    "reproduce": reproduce.reproduce,
    "doctor": doctor.doctor,
    "completion": complete,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 (the run or its output failed), 2 (a user's mistake), 130 (Ctrl-C).

    A run goes on when nobody takes its output any more: its record has all of it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # the process ends with the command; to search all of torch for cycles then takes a second
        atexit.register(gc.freeze)
    occupy_standard_files()
    out, err = Outlet(sys.stdout), Outlet(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.showwarning = warn
        try:
            code = _exit_code(given)
        except SystemExit:  # help was printed
            given, code = [], 0
            out.flush()
            if out.error is None:
                raise
        out.flush()
        code = code if out.error is None else _without_output(given, code, out.error)
        err.flush()
        return code


def _without_output(arguments: list[str], code: int, error: OSError) -> int:
    """Say that the output was not written whole. Returns the exit code."""
    if arguments[:1] in (["run"], ["resume"]):
        warnings.warn(f"cannot write the output: {error.strerror}; the run went on without", stacklevel=2)
        return code
    if not isinstance(error, BrokenPipeError):  # `head` leaves so when it has read enough
        complain(f"cannot write the output: {error.strerror}")
    return code or FAILED_EXIT


def _exit_code(arguments: list[str]) -> int:
    try:
        return _command(arguments)
    except UsageError as error:
        complain(str(error))
        return USAGE_EXIT
    except TrainingError as error:
        complain(str(error))
        return FAILED_EXIT
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED_EXIT


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
