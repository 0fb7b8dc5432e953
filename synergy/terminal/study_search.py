"""`synergy study` with a `[search]`: trials, and the best values at the end."""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

from synergy.errors import counted
from synergy.terminal import study
from synergy.terminal.output import complain, say

if TYPE_CHECKING:
    from synergy.studies.request import Request
    from synergy.studies.search import Searches
    from synergy.studies.targets import Target


WIDTH = 100


def run_search(request: Request, known: argparse.Namespace) -> int:
    """Make the trials that are left, and write the best values. Returns the exit code."""
    from synergy.studies import search, targets
    from synergy.studies.conduct import conduct
    from synergy.studies.folders import StudyFolder

    assert request.search is not None
    if known.trials is not None:
        request = replace(request, search=replace(request.search, trials=known.trials))
    wanted = targets.targets(request)
    _open(wanted, request)
    devices = {target.config.training.device for target in wanted}
    if known.dry_run:
        return _costs(wanted, len(study.local_places(known, devices)))
    folder = request.output_dir
    with study.pool_of(known, folder, devices) as pool, study.owned_study(request):
        searches = search.Searches(wanted, folder)
        with study.stopping() as should_stop, study.watching(searches.total, searches.before) as watcher:
            conduct(StudyFolder(folder), searches, pool, watcher, should_stop)
        _tell_best(searches)
    return _close(searches, request, interrupted=should_stop())


def _open(targets: tuple[Target, ...], request: Request) -> None:
    assert request.search is not None
    seeds = len(targets[0].seeds)
    each = counted(request.search.trials, "trial") + (f" of {seeds} seeds" if seeds > 1 else "")
    say(f"search {request.output_dir}: {each} on the validation split for each of {len(targets)}")
    for target in targets:
        say(f"  {target.name}: {', '.join(target.search.space)}")


def _costs(targets: tuple[Target, ...], places: int) -> int:
    """Say how long the trials would take if none is pruned. Returns the exit code."""
    from synergy.studies.costs import estimated
    from synergy.terminal import screen
    from synergy.terminal.study_costs import duration

    estimate = estimated([target.run(0, {}, target.seeds[0]) for target in targets], places)
    rows, runs = [["search", "runs", "time of each"]], []
    for target, cost in zip(targets, estimate.runs, strict=True):
        of_target = target.search.trials * len(target.seeds)
        rows.append([target.name, str(of_target), duration(cost.seconds)])
        runs += [cost] * of_target
    say(screen.table(rows))
    time = duration(replace(estimate, runs=tuple(runs)).seconds(places))
    say(f"\nat most about {time}, {places} at once; nothing was run")
    return 0


def _tell_best(searches: Searches) -> None:
    from synergy.runs.folder import shell_word

    for target, preset, path in searches.write_best():
        values = ", ".join(f"{name} = {preset.values.get(name, preset.buffer_size)}" for name in target.search.space)
        say(f"\n{target.name}: {values}")
        say(textwrap.fill(preset.source, WIDTH, initial_indent="  ", subsequent_indent="  "))
        say(f"  run with them: synergy run --config {shell_word(path)}")


def _close(searches: Searches, request: Request, interrupted: bool) -> int:
    """Say what is left, if anything. Returns the exit code: 0 if every search has a best trial, 130 if interrupted."""
    from synergy.runs.folder import shell_word

    left = sum(seeker.done < seeker.target.search.trials for seeker in searches.seekers)
    if left and interrupted:
        complain(f"search interrupted; go on with: synergy study {shell_word(request.output_dir)}")
        return 130
    for seeker in searches.seekers:
        if seeker.best() is None:
            complain(f"{seeker.target.name}: no trial finished; the last one: {seeker.last_word()}")
            return 1
    return int(left > 0)
