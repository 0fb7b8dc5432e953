"""The command line: `synergy run | resume | list | report`. The only file that prints."""

from __future__ import annotations

import argparse
import os
import re
import reprlib
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from synergy.errors import TrainingError, UsageError, unknown
from synergy.methods import METHODS, method_class
from synergy.options import Option, Options
from synergy.release import release
from synergy.runs.config import (
    CONFIG_NAME,
    OutputConfig,
    PresetChoice,
    RunConfig,
    TrainingConfig,
    build,
    chosen_in,
    from_toml,
)
from synergy.scenarios import SCENARIOS, scenario_class

if TYPE_CHECKING:  # help is printed without torch
    from synergy.runs.records import Record

USAGE_EXIT, FAILED_EXIT, INTERRUPTED_EXIT = 2, 1, 130
LONGEST_LINE = 5000

DESCRIPTION = """\
Continual learning: SYNERgy, its baselines and its benchmarks.

  synergy run --dataset rot-digits --model synergy --buffer_size 200 --load_best_args
                                                       train and evaluate (no data needed for *-digits)
  synergy resume RUN                                   go on with a run that was stopped
  synergy list                                         methods, scenarios and tuned values
  synergy report RUN [RUN ...]                         compare runs, draw a picture
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 (the run failed), 2 (a mistake in what was asked), 130 (Ctrl-C)."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return _command(list(sys.argv[1:] if arguments is None else arguments))
    except UsageError as error:
        _complain(str(error))
        return USAGE_EXIT
    except TrainingError as error:
        _complain(str(error))
        return FAILED_EXIT
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED_EXIT
    except BrokenPipeError:
        # The reader of our output went away, as `head` does. Nothing is left to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED_EXIT


class _Parser(argparse.ArgumentParser):
    """Complains in one line, and knows the nearest flag to a mistyped one."""

    def error(self, message: str) -> NoReturn:
        message = re.sub("the following arguments are required: (.*)", r"\1 is missing", message)
        message = re.sub("expected (one|at least one) argument", r"given no value; allowed: \1", message)
        raise UsageError(message.removeprefix("argument "))

    def parse_strictly(
        self, arguments: Sequence[str], owners: Callable[[str], list[str]] = lambda flag: []
    ) -> argparse.Namespace:
        """`owners` names what else has a flag that is unknown here."""
        parsed, rest = self.parse_known_args(arguments)
        if rest:
            name = rest[0].split("=")[0]
            if others := owners(name):
                raise UsageError(f"unknown flag '{name}' here; it is an option of {', '.join(others)}")
            raise unknown("flag" if name.startswith("-") else "argument", name, sorted(self._option_string_actions))
        return parsed


def _command(arguments: list[str]) -> int:
    commands: Mapping[str, Callable[[list[str]], int]] = {
        "run": _run,
        "resume": _resume,
        "list": _list,
        "report": _report,
    }
    if arguments and arguments[0] in commands:
        return commands[arguments[0]](arguments[1:])
    parser = _Parser("synergy", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=release())
    parser.add_argument("command", nargs="?", help=f"one of: {', '.join(commands)}; --help after it says more")
    if arguments and arguments[0] not in ("-h", "--help", "--version"):
        raise _no_command(arguments[0], commands)
    parser.parse_args(arguments)
    parser.print_help()
    return 0


def _run(arguments: list[str]) -> int:
    config = _run_config(arguments)
    from synergy.runs.prepare import prepare
    from synergy.runs.session import execute
    from synergy.terminal import console

    prepared = prepare(config)
    _say(console.opening(prepared))
    _say("")
    progress = console.Progress(prepared.schedule.tasks(prepared.scenario), _say, quiet=not sys.stderr.isatty())
    with _stopping_on_interrupt() as should_stop:
        record, folder = execute(prepared, progress, should_stop)
    return _close(record, folder)


def _resume(arguments: list[str]) -> int:
    parser = _Parser("synergy resume", description="Go on with a run from its newest good checkpoint.")
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parsed = parser.parse_strictly(arguments)
    from synergy.runs.resume import reopened
    from synergy.terminal import console

    with _stopping_on_interrupt() as should_stop, reopened(Path(parsed.run)) as run:
        prepared, training = run.session.prepared, run.session.training
        _say(console.opening(prepared))
        for reason in run.skipped:
            _say(f"skipped: {reason}")
        _say(console.reopening(run))
        _say("")
        tasks = prepared.schedule.tasks(prepared.scenario)
        progress = console.Progress(tasks, _say, quiet=not sys.stderr.isatty(), first=training.task)
        record, folder = run.session.proceed(progress, should_stop)
    return _close(record, folder)


def _close(record: Record, folder: Path) -> int:
    """Say how a run ended. Returns the exit code."""
    from synergy.runs.folder import shell_word
    from synergy.terminal import console

    _say("")
    _say(console.closing(record))
    _say(f"\nrecord: {folder / 'record.json'}")
    if record.status == "finished":
        return 0
    resumable = record.status == "interrupted" and "checkpoint_every" in record.config["output"]
    hint = f"; go on with: synergy resume {shell_word(folder)}" if resumable else ""
    _complain(f"run {record.status}: {record.error}{hint}")
    return FAILED_EXIT if record.status == "failed" else INTERRUPTED_EXIT


def _run_config(arguments: list[str]) -> RunConfig:
    first = _run_parser(None, None).parse_known_args([a for a in arguments if a not in ("-h", "--help")])[0]
    scenario, method = first.dataset, first.model
    from_file: dict[str, Any] = {}
    if first.config is not None:
        in_file, method_in_file, from_file = from_toml(Path(first.config))
        scenario, method = scenario or in_file, method or method_in_file
        if (scenario, method) != (in_file, method_in_file):
            from_file = chosen_in(Path(first.config))
    if {"-h", "--help"} & set(arguments):
        _run_parser(scenario, method).print_help()
        raise SystemExit(0)
    for value, table in ((scenario, scenario_class), (method, method_class)):
        if value is not None:
            table(value)  # a name that does not exist is told first, whatever else is missing
    for flag, value, names in (("--dataset", scenario, SCENARIOS), ("--model", method, METHODS)):
        if value is None:
            raise UsageError(f"{flag} is missing; allowed: {', '.join(sorted(names))}")
    parsed = vars(_run_parser(scenario, method).parse_strictly(arguments, _owners))
    choice = PresetChoice(parsed.pop("load_best_args"), parsed.pop("nearest_best_args"))
    given = {name: value for name, value in parsed.items() if name not in ("dataset", "model", "config")}
    given = {name: _numbers(name, value) if isinstance(value, list) else value for name, value in given.items()}
    return build(scenario, method, given, choice, from_file)


def _owners(flag: str) -> list[str]:
    """The scenarios and methods that have an option of this name."""
    options: dict[str, type[Options]] = {name: scenario_class(name).Config for name in SCENARIOS}
    options |= {name: method_class(name).Config for name in METHODS}
    return [name for name, config in options.items() if flag in {f"--{option}" for option in config.names()}]


def _run_parser(scenario: str | None, method: str | None) -> _Parser:
    parser = _Parser("synergy run", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.usage = "synergy run --dataset NAME --model NAME [options]"
    parser.description = "Train a method on a scenario and evaluate it after every task."
    if scenario is None or method is None:
        parser.epilog = "With --dataset NAME --model NAME, --help also shows the options of these two."
    what = parser.add_argument_group("what to run")
    what.add_argument("-h", "--help", action="store_true", help="show this")
    what.add_argument("--dataset", default=None, metavar="NAME", help=f"scenario: {', '.join(SCENARIOS)}")
    what.add_argument("--model", default=None, metavar="NAME", help=f"method: {', '.join(METHODS)}")
    what.add_argument("--load_best_args", action="store_true", default=False, help="start from tuned values")
    help_nearest = "the same, of the nearest buffer size where there are none for the one given"
    what.add_argument("--nearest_best_args", action="store_true", default=False, help=help_nearest)
    what.add_argument(
        "--config",
        default=None,
        metavar="RUN",
        help="start from the config.toml of another run (the file, or its folder)",
    )
    if scenario is not None:
        _add_options(parser, f"options of {scenario}", scenario_class(scenario).Config)
    if method is not None:
        _add_options(parser, f"options of {method}", method_class(method).Config)
    _add_options(parser, "training", TrainingConfig)
    _add_options(parser, "output", OutputConfig)
    return parser


def _add_options(parser: _Parser, title: str, options: type[Options]) -> None:
    group = parser.add_argument_group(title)
    for spec in options.specs():
        if spec.kind is bool:
            group.add_argument(f"--{spec.name}", action="store_true", help=_help(spec))
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


def _numbers(name: str, given: list[str]) -> tuple[float, ...]:
    """Numbers given one by one, with commas between, or as a file that holds them."""
    text = " ".join(given)
    with suppress(ValueError):
        return _parsed(text)
    try:
        return _parsed(Path(text).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}: given {reprlib.repr(text)}; allowed: numbers, or a file of numbers") from error


def _parsed(text: str) -> tuple[float, ...]:
    return tuple(float(item) for item in text.replace(",", " ").split())


def _list(arguments: list[str]) -> int:
    parser = _Parser("synergy list", description="Show methods, scenarios and which tuned values exist.")
    parser.parse_strictly(arguments)
    from synergy import presets
    from synergy.terminal import console

    scenarios, methods = {n: scenario_class(n) for n in SCENARIOS}, {n: method_class(n) for n in METHODS}
    rows = [["method", "task boundaries", "protocols"]]
    for name, method in methods.items():
        protocols = "all" if len(method.protocols) == 4 else ", ".join(sorted(method.protocols))
        rows.append([name, "needed" if method.needs_boundaries else "not needed", protocols])
    _say(f"Methods\n{console.table(rows)}\n")
    rows = [["scenario", "protocols", "task boundaries", "data", "batch size", "epochs"]]
    for name, scenario in scenarios.items():
        sizes = [str(scenario.default_batch_size), str(scenario.default_epochs)]
        known = "known" if scenario.boundaries else "none"
        rows.append([name, ", ".join(scenario.protocols), known, scenario.dataset, *sizes])
    _say(f"Scenarios\n{console.table(rows)}\n")
    rows = [["scenario, method", "buffer sizes with tuned values", "source"]]
    found: dict[tuple[str, str], list[str]] = {}
    for preset in presets.available():
        if preset.method in METHODS and preset.scenario in SCENARIOS:
            place = f"{preset.scenario} {preset.variant}" if preset.variant else preset.scenario
            size = "no memory" if preset.buffer_size is None else str(preset.buffer_size)
            found.setdefault((f"{place}, {preset.method}", preset.source.partition(":")[0]), []).append(size)
    rows += [[place, ", ".join(sizes), source] for (place, source), sizes in found.items()]
    _say(f"Tuned values (--load_best_args)\n{console.table(rows)}")
    return 0


def _report(arguments: list[str]) -> int:
    parser = _Parser("synergy report", description="Compare runs in a table, and in a picture.", allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or of all runs")
    parser.add_argument("--picture", metavar="FILE", help="draw accuracy per task over time (png, pdf or svg)")
    parsed = parser.parse_strictly(arguments)
    from synergy.report import pictures
    from synergy.terminal import console

    if parsed.picture is not None:
        pictures.check_name(parsed.picture)
    records = _records([Path(run) for run in parsed.runs])
    table = console.comparison(records)
    # Drawn before anything is said: a table in front of an error looks like all that was asked for.
    picture = None if parsed.picture is None else pictures.accuracy_over_time(records, Path(parsed.picture))
    _say(table)
    if spread := console.over_seeds(records):
        _say(f"\n{spread}")
    if len(records) == 1 and (classes := console.by_class(records[0])):
        _say(f"\n{classes}")
    if picture is not None:
        _say(f"\npicture: {picture}")
    return 0


def _no_command(given: str, commands: Iterable[str]) -> UsageError:
    names = [*commands, "--help", "--version"]
    if not given.startswith("-") or get_close_matches(given, names):
        return unknown("command", given, names)
    return UsageError(f"{given}: given in place of a command; did you mean 'synergy run'? allowed: {', '.join(names)}")


def _records(paths: Sequence[Path]) -> list[Record]:
    """Each record once, also where `runs/*` names both the folder of a run and the file with the results of all."""
    found: dict[object, Record] = {}
    for path in paths:
        for record in _records_at(path):
            found.setdefault((record.run_id, record.measured), record)
    if not found:
        raise UsageError(f"{', '.join(map(str, paths))}: holds no runs; name the folder of a run, or of all runs")
    return list(found.values())


def _records_at(path: Path) -> list[Record]:
    """That of a run, or those of all runs in a folder, also of those that did not finish."""
    from synergy.runs import records
    from synergy.runs.folder import shell_word

    if not records.is_of_many(path):
        if (path / CONFIG_NAME).is_file() and not (path / records.RECORD_NAME).exists():
            hint = f"go on with: synergy resume {shell_word(path)}"
            raise UsageError(f"{path}: the run has not ended, it holds no {records.RECORD_NAME} yet; {hint}")
        return [records.read(path)]
    finished = records.read_all(path)
    return [*finished, *records.read_unlisted(path, finished)] if path.is_dir() else finished


@contextmanager
def _stopping_on_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM asks the run to stop between two steps; the second one ends it at once."""
    asked = False
    signals = (signal.SIGINT, signal.SIGTERM)

    def ask(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield lambda: asked
    finally:
        restore()


def _say(text: str) -> None:
    print(_shown(text, sys.stdout), flush=True)


def _complain(text: str) -> None:
    print("synergy: error:", _shown(_one_line(text), sys.stderr), file=sys.stderr)


def _one_line(text: str) -> str:
    """Spaces stay as they are, since a path may have several; what would move the cursor is escaped."""
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    # More than any path has: what is longer quotes a file that nobody wrote by hand.
    line = line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]}...{line[-LONGEST_LINE // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _shown(text: str, output: TextIO) -> str:
    """`text` with what `output` cannot show escaped."""
    encoding = output.encoding or "utf-8"  # None where it is no terminal or file
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line, without the place in the code that Python's own wording names."""
    print("synergy: warning:", _shown(_one_line(str(message)), sys.stderr), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
