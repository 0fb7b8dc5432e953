"""`synergy study --dry_run`: what would run, and how long it would take."""

from __future__ import annotations

from synergy.errors import counted
from synergy.studies.conduct import Left
from synergy.studies.costs import estimated
from synergy.terminal import screen
from synergy.terminal.output import say


def tell(there: Left, places: int) -> int:
    """List the runs that are left with their cost. Returns the exit code."""
    runs = [each.run for each in there.todo]
    if not runs:
        say("\nno run is left; nothing was run")
        return 0
    at_once = min(places, len(runs))
    estimate = estimated(runs, at_once)
    rows = [["run", "state", "steps", "time"]]
    for standing, cost in zip(there.todo, estimate.runs, strict=True):
        state = "new" if standing.state == "missing" else f"{standing.state}, goes on"
        rows.append([standing.run.name, state, str(cost.steps), duration(cost.seconds)])
    say(screen.table(rows))
    time = duration(estimate.seconds(at_once))
    say(f"\n{counted(len(runs), 'run')} would take about {time}, {at_once} at once; nothing was run")
    return 0


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(3.25), duration(150), duration(7300)
    ('3.2 s', '2.5 min', '2.0 h')
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
