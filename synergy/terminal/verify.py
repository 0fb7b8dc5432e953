"""`synergy verify`: make the run of a record again, and say whether the result is the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

from synergy.errors import UsageError
from synergy.terminal.output import say
from synergy.terminal.parser import Parser


def verify(arguments: list[str]) -> int:
    """`synergy verify`: 0 if the results are identical to the bit, else 1."""
    parser = Parser(
        "synergy verify", description="Run a record again, and compare the results bit by bit.", allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run, or its record.json")
    parsed = parser.parse_strictly(arguments)
    from synergy.device import keep_freed_memory
    from synergy.runs import records
    from synergy.studies.verify import again, compared

    record = records.read(Path(parsed.run))
    if record.status != "finished":
        raise UsageError(f"{parsed.run}: the run is {record.status}; allowed: the record of a finished run")
    keep_freed_memory()
    say(f"runs {record.run_id} again: it took {record.measured.wall_s:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        result = compared(record, again(record, Path(folder) / "runs" / "again"))
    if result.identical:
        say("identical to the bit")
    elif result.largest is None:
        say("different: other predictors, protocols or tasks")
    else:
        say(f"different: accuracies by up to {result.largest:.4g} percentage points")
    for name, (then, now) in result.changed.items():
        say(f"  {name}: was {then}, is {now}")
    return 0 if result.identical else 1
