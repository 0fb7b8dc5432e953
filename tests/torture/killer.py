"""Kill real runs at random moments and resume them until they finish: `python -m tests.torture.killer FOLDER N [SEED]`.

Every run is a forked process, so that the library is loaded once, and a kill is a real one. What is left in FOLDER is
`whole`, a run that nobody killed, and `0` to `N - 1`, runs that were killed again and again. Prints how often, and how
often in the middle of writing a checkpoint, as JSON.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch

from synergy.randomness import generator
from synergy.runs.config import CONFIG_NAME
from synergy.runs.session import CHECKPOINTS_NAME
from synergy.terminal import cli

WHAT = "--dataset rot-digits --model synergy --n_tasks 2 --max_steps_per_task 12 --buffer_size 50"
RUN = tuple(f"run {WHAT} --fisher_update_freq 0.3 --checkpoint_every 1 --experiment_id it".split())
"""Most of its time goes into checkpoints."""


def start(arguments: tuple[str, ...]) -> int:
    """The id of a process that runs a command, silently."""
    child = os.fork()
    if child:
        return child
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    code = 1
    try:
        code = cli.main(arguments)
    finally:
        os._exit(code)


def command(folder: Path) -> tuple[str, ...]:
    """Resume the run in `folder`, or begin it if it has not come so far that it could be resumed."""
    if (folder / "it" / CONFIG_NAME).exists():
        return ("resume", str(folder / "it"))
    shutil.rmtree(folder, ignore_errors=True)
    return (*RUN, "--output_dir", str(folder))


def is_writing(folder: Path) -> bool:
    checkpoints = folder / "it" / CHECKPOINTS_NAME
    return checkpoints.is_dir() and any(name.startswith(".") for name in os.listdir(checkpoints))  # noqa: PTH208


def ended(child: int) -> int | None:
    """The exit code, once there is one."""
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def newest(folder: Path) -> str:
    checkpoints = folder / "it" / CHECKPOINTS_NAME
    names = os.listdir(checkpoints) if checkpoints.is_dir() else []  # noqa: PTH208 - fast
    return max((name for name in names if not name.startswith(".")), default="")


def kill_somewhere(child: int, folder: Path, rng: np.random.Generator) -> int | None:
    """Kill the process a few checkpoints later, half of the times while it writes one, else at any moment.

    Returns:
        Its exit code if it was faster.
    """
    to_come, seen = int(rng.integers(0, 12)), newest(folder)
    writing, pause = bool(rng.random() < 0.5), rng.uniform(0, 0.05)
    while to_come or (writing and not is_writing(folder)):
        if (code := ended(child)) is not None:
            return code
        now = newest(folder)
        to_come, seen = to_come - (now != seen and to_come > 0), now
    if not writing:
        time.sleep(pause)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def torture(folder: Path, rng: np.random.Generator) -> tuple[int, int]:
    """How often a run was killed until it finished, and how often it was writing just then."""
    kills, in_writing = 0, 0
    while True:
        code = kill_somewhere(start(command(folder)), folder, rng)
        if code == 0:
            return kills, in_writing
        # Killed after its record was written: finished, and so refused.
        if code == cli.USAGE_EXIT and (folder / "it" / "record.json").exists():
            return kills, in_writing
        assert code is None, f"a run in {folder} ended with {code}"
        kills += 1
        in_writing += is_writing(folder)


def main(place: str, number: str, seed: str = "0") -> None:
    """Run all, and print what was done."""
    torch.set_num_threads(1)
    folder, rng = Path(place), generator(int(seed), "killer")
    # In this process, which so has loaded all that the others need.
    with redirect_stdout(io.StringIO()):
        assert cli.main(command(folder / "whole")) == 0, "a run that nobody killed failed"
    counts = [torture(folder / str(n), rng) for n in range(int(number))]
    kills, in_writing = map(sum, zip(*counts, strict=True))
    sys.stdout.write(json.dumps({"runs": int(number), "kills": kills, "in_writing": in_writing}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
