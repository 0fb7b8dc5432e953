"""The command line from within a test: what it returned, printed, and complained about."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from synergy.terminal.cli import main

BRIEF = ("--max_tasks", "2", "--max_steps_per_task", "4")
"""A budget that makes any run quick."""


@dataclass(frozen=True)
class Outcome:
    """Of one command. `code` is the exit code, `out` and `err` the text on the two outputs."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> Outcome:
    """Run one command. Help and version end with SystemExit, as everywhere; nothing else may be raised."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            assert end.code == 0, f"SystemExit({end.code}): {err.getvalue()}"
            code = 0
    return Outcome(code, out.getvalue(), err.getvalue())


def run(folder: Path, dataset: str, model: str, *arguments: object) -> Outcome:
    """`synergy run` into `folder`."""
    return call("run", "--dataset", dataset, "--model", model, "--output_dir", folder, *arguments)
