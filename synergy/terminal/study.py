"""`synergy study`: many runs from lists of values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synergy.errors import UsageError, counted
from synergy.studies.warm import warm_up
from synergy.terminal.output import complain, say
from synergy.terminal.parser import Parser

if TYPE_CHECKING:  # help is printed without torch
    from synergy.studies.conduct import Left, Watcher
    from synergy.studies.grid import Plan
    from synergy.studies.pool import Pool
    from synergy.studies.request import Request
    from synergy.studies.work import Ended

DESCRIPTION = """\
Run methods on scenarios with several seeds, or any other lists of values.

  synergy study --models er,synergy --datasets rot-digits,seq-digits --buffer_sizes 200 --seeds 0-2 \\
                --load_best_args --output_dir S
  synergy study study.toml             the same from a file, in which [[variant]] tables name ablations
  synergy study S                      go on with the study in a folder

Every option of `synergy run` is a flag and a key of the file; each takes several values. Runs that are finished are
left alone, killed ones go on from their checkpoints.
"""


def study(arguments: list[str]) -> int:
    """`synergy study`: run what a study asks for and is not there yet."""
    named = arguments[:1] if arguments and not arguments[0].startswith("-") else []
    known, rest = _parser().parse_known_args(arguments[len(named) :])
    if not (known.dry_run or known.ray or known.address):
        warm_up()
    more = _flags(rest)
    from synergy.studies import request as requests

    request = requests.read(Path(named[0]), more) if named else requests.asked(more)
    if request.search is not None:
        from synergy.terminal import study_search

        return study_search.run_search(request, known)
    if known.trials is not None:
        raise UsageError("--trials: given for a study without [search]; allowed: beside a study file with one")
    return run_study(request, known)


def run_study(request: Request, known: argparse.Namespace, command: str | None = None) -> int:
    """Plan the runs of a study, run those that are left, and say how they ended. Returns the exit code.

    Args:
        request: the study.
        known: where it runs.
        command: with which it goes on; by default `synergy study FOLDER`.
    """
    from synergy.runs.folder import shell_word
    from synergy.studies.conduct import Queue, conduct, left
    from synergy.studies.folders import StudyFolder
    from synergy.studies.grid import planned

    plan = planned(request)
    folder = StudyFolder(request.output_dir)
    there = left(folder.standings(plan.runs), known.retry_failed)
    _open(plan, there, request.output_dir)
    if known.dry_run:
        from synergy.terminal import study_costs

        return study_costs.tell(there, len(local_places(known, _devices(there))))
    with pool_of(known, request.output_dir, _devices(there)) as pool, owned_study(request):
        folder.complete_results(there.done)
        for standing in there.todo:
            if standing.state == "failed":
                folder.put_record_aside(standing.run)
        with stopping() as should_stop, watching(len(plan.runs), len(there.done) + len(there.failed)) as watcher:
            queue = Queue(each.run for each in there.todo)
            ended = conduct(folder, queue, pool, watcher, should_stop)
    command = f"synergy study {shell_word(request.output_dir)}" if command is None else command
    return _close(there, ended, request.output_dir, command, interrupted=should_stop())


def _parser() -> Parser:
    parser = Parser(
        "synergy study",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="synergy study [FILE | FOLDER] [--models A,B] [--datasets A,B] [--seeds 0-2] [options]",
    )
    add_places(parser)
    parser.add_argument("--dry_run", action="store_true", help="say what would run and how long it would take")
    parser.add_argument("--retry_failed", action="store_true", help="try runs that failed again")
    parser.add_argument("--trials", type=_count, metavar="N", help="trials of the [search] in the study file")
    return parser


def add_places(parser: argparse.ArgumentParser) -> None:
    """The flags that say where runs work."""
    where = parser.add_argument_group("where the runs work")
    where.add_argument("--jobs", type=_count, metavar="N", help="runs at once (by default one for each core or GPU)")
    where.add_argument("--per_gpu", type=_count, default=1, metavar="N", help="runs that share a GPU (default 1)")
    where.add_argument("--ray", action="store_true", help="tasks of Ray, on a cluster that is started on this machine")
    where.add_argument("--address", metavar="HOST:PORT", help="tasks of the Ray cluster there; they share the folder")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"given {text!r}; allowed: a whole number from 1 to 10000")
    return int(text)


def _flags(arguments: Sequence[str]) -> dict[str, Any]:
    """Flags and their values, as keys of a study: `--lr 0.1,0.2` and `--lr 0.1 0.2`; a bare flag means true."""
    found: dict[str, list[str]] = {}
    name = None
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            if name in found:
                raise UsageError(f"--{name}: given twice; allowed: once, with commas between the values")
            found[name] = [value] if equals else []
        elif name is None:
            raise UsageError(f"unknown argument {argument!r}; allowed: one study file or folder, and flags")
        else:
            found[name].append(argument)
    return {name: _plain(name, values) for name, values in found.items()}


def _plain(name: str, values: list[str]) -> Any:
    if name.startswith("no-") and not values:
        return False
    if name == "output_dir" and len(values) == 1:
        return values[0]
    return values or [True]


def _open(plan: Plan, there: Left, folder: Path) -> None:
    resumed = sum(each.state in ("begun", "interrupted") for each in there.todo)
    counts = [f"{len(there.done)} finished"] * bool(there.done)
    counts += [f"{resumed} {'goes' if resumed == 1 else 'go'} on"] * bool(resumed)
    counts += [f"{len(there.failed)} failed before"] * bool(there.failed)
    say(f"study {folder}: {counted(len(plan.runs), 'run')}{', ' if counts else ''}{', '.join(counts)}")
    for remark in plan.remarks:
        say(f"  {remark}")
    for standing in there.failed:
        assert standing.ended is not None
        say(f"  failed before: {standing.run.name}: {standing.ended.error} (--retry_failed tries it again)")


def _close(there: Left, ended: Mapping[str, Ended], folder: Path, command: str, interrupted: bool) -> int:
    """Say how a study ended. Returns the exit code: 0 if every run is finished, 130 if it was stopped, else 1."""
    from synergy.runs.folder import shell_word

    finished = len(there.done) + sum(each.status == "finished" for each in ended.values())
    failed = len(there.failed) + sum(each.status == "failed" for each in ended.values())
    total = len(there.done) + len(there.failed) + len(there.todo)
    runs = counted(total, "run")
    say(f"\n{finished} of {runs} finished{f', {failed} failed' if failed else ''}: {folder}")
    if finished:
        say(f"see them with: synergy report {shell_word(folder)}")
    if interrupted and finished + failed < total:
        complain(f"study interrupted; go on with: {command}")
        return 130
    if failed:
        complain(f"{failed} of {runs} failed; try again with: {command} --retry_failed")
    return int(finished < total)


def _devices(there: Left) -> set[str]:
    return {each.run.config.training.device for each in there.todo}


def local_places(known: argparse.Namespace, devices: set[str]) -> list[dict[str, str]]:
    """The places of this machine for runs that ask for these devices."""
    import torch

    from synergy.studies import pool

    gpus = 0 if devices <= {"cpu"} or not torch.cuda.is_available() else torch.cuda.device_count()
    return pool.local_places(known.jobs, known.per_gpu, gpus)


def pool_of(known: argparse.Namespace, folder: Path, devices: set[str]) -> AbstractContextManager[Pool]:
    """Where runs that ask for these devices work."""
    if known.ray or known.address is not None:
        return _on_ray(known, gpus=not devices <= {"cpu"})
    from synergy.studies.pool import LOGS_NAME, LocalPool

    return nullcontext(LocalPool(local_places(known, devices), folder / LOGS_NAME))


@contextmanager
def _on_ray(known: argparse.Namespace, gpus: bool) -> Iterator[Pool]:
    if known.ray and known.address is not None:
        raise UsageError("--ray: given beside --address; allowed: one of them")
    from synergy.studies import cluster

    with cluster.joined(known.address):
        yield cluster.tasks(known.jobs, known.per_gpu, gpus)


def owned_study(request: Request) -> AbstractContextManager[None]:
    """Within, the study's file is in its folder, and no other process of this machine works on the study."""
    from synergy.studies.folders import owned

    return owned(request)


def stopping() -> AbstractContextManager[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM asks all runs to stop; the second one ends them at once."""
    from synergy.terminal.commands import stopping_on_interrupt

    return stopping_on_interrupt()


def watching(total: int, before: int) -> AbstractContextManager[Watcher]:
    """A live table in a terminal that can show one, else a line for each run that ends."""
    from synergy.terminal import study_progress

    return study_progress.watching(total, before, live=sys.stdout.isatty())
