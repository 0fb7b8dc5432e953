"""Real processes whose output cannot be written: a run goes on and leaves its record, a table ends in one line."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synergy.runs import records
from synergy.terminal.output import Outlet, occupy_standard_files
from tests.disk.test_files import posix

RUN = ["run", "--dataset", "rot-digits", "--model", "sgd", "--n_tasks", "2", "--max_steps_per_task", "2"]
COMMANDS = {"run": RUN, "list": ["list"], "help": ["--help"], "flags": ["run", "--help"]}
OUTPUTS = ("closed", "full", "gone", "hung up")

BROKEN = {"run": OUTPUTS, "list": ("closed", "full"), "help": ("full", "gone"), "flags": ("hung up",)}
"""How the output of each command is broken in the tests."""

FORKING = """
import io, json, os, pty, sys
from contextlib import redirect_stdout
from synergy.terminal.cli import main

def lead(number, where):
    if where == "fine":
        return
    if where == "closed":
        os.close(number)
        return
    if where == "full":
        new = os.open("/dev/full", os.O_WRONLY)
    elif where == "gone":
        read, new = os.pipe()
        os.close(read)
    else:
        master, new = pty.openpty()
        os.close(master)
    os.dup2(new, number)

def stream(number, where):
    return None if where == "closed" else open(number, "w", closefd=False, buffering=number, encoding="utf-8")

def child(arguments, out, err, told):
    os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), 2)
    lead(1, out)
    lead(2, err)
    streams = sys.stdout, sys.stderr = stream(1, out), stream(2, err)
    code = 70
    try:
        code = main(arguments)
    except SystemExit:
        code = 0
    finally:
        for each in filter(None, streams):
            each.flush()
        os._exit(code)

work = json.loads(sys.argv[1])
with redirect_stdout(io.StringIO()):
    assert [main(work[0][0]), main(["list"])] == [0, 0]
codes = []
for arguments, out, err, told in work[1:]:
    pid = os.fork()
    if not pid:
        child(arguments, out, err, told)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
"""
"""Runs once itself, which loads the library for all. At its end a child writes what it kept, as Python does."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], tuple[int, str, Path]]:
    """By command and by what its two outputs are: the exit code, what it complained of, and its folder of runs."""
    folder = tmp_path_factory.mktemp("outputs")
    cases = [(command, out, "fine") for command, outputs in BROKEN.items() for out in outputs]
    cases += [("run", err, err) for err in OUTPUTS]
    told = [folder / f"{'-'.join(case)}.txt" for case in cases]
    places = [folder / f"{'-'.join(case)}" for case in cases]
    work = [
        (COMMANDS[command] + (["--output_dir", str(place)] if command == "run" else []), out, err, str(file))
        for (command, out, err), file, place in zip(cases, told, places, strict=True)
    ]
    first = ([*RUN, "--output_dir", str(folder / "first")], "fine", "fine", "")
    done = subprocess.run(
        [sys.executable, "-c", FORKING, json.dumps([first, *work])],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"},
    )
    codes = json.loads(done.stdout.splitlines()[-1])
    results = [(code, file.read_text(encoding="utf-8")) for code, file in zip(codes, told, strict=True)]
    return {case: (*result, place) for case, result, place in zip(cases, results, places, strict=True)}


REASONS = {"closed": "Bad file descriptor", "full": "No space left", "gone": "Broken pipe", "hung up": "Input/output"}


@pytest.mark.slow
@posix
@pytest.mark.parametrize("out", OUTPUTS)
def test_a_run_goes_on_without_its_output(
    outcomes: dict[tuple[str, str, str], tuple[int, str, Path]], out: str
) -> None:
    code, told, place = outcomes["run", out, "fine"]
    assert (code, told.count("\n")) == (0, 1)
    assert told.startswith(f"synergy: warning: cannot write the output: {REASONS[out]}")
    (record,) = records.read_all(place)
    assert record.status == "finished" and len(record.answer().matrix) == 2


@pytest.mark.slow
@posix
@pytest.mark.parametrize("err", OUTPUTS)
def test_a_run_goes_on_without_its_warnings_and_its_bar(
    outcomes: dict[tuple[str, str, str], tuple[int, str, Path]], err: str
) -> None:
    code, told, place = outcomes["run", err, err]
    assert (code, told) == (0, "")
    (record,) = records.read_all(place)
    assert record.status == "finished"
    # A file that is opened in place of a closed output would hold its text.
    assert "synergy" not in (place / record.run_id / "config.toml").read_text(encoding="utf-8")


@posix
@pytest.mark.parametrize(("command", "out"), [(c, out) for c, outs in BROKEN.items() for out in outs if c != "run"])
def test_a_table_that_nobody_gets_is_a_failure_of_one_line(
    outcomes: dict[tuple[str, str, str], tuple[int, str, Path]], command: str, out: str
) -> None:
    code, told, _ = outcomes[command, out, "fine"]
    assert code == 1
    if out == "gone":  # as `head` leaves
        assert told == ""
    else:
        assert told.startswith("synergy: error: cannot write the output: ") and told.count("\n") == 1


class Failing(io.StringIO):
    """Takes no more from the third text on."""

    def write(self, text: str, /) -> int:
        if self.getvalue().count("\n") >= 2:
            raise OSError(errno.EIO, "Input/output error")
        return super().write(text)


def test_what_came_before_the_error_is_written_and_the_first_error_is_kept() -> None:
    stream = Failing()
    out = Outlet(stream)
    for number in range(5):
        print(number, file=out, flush=True)
    assert stream.getvalue() == "0\n1\n"
    assert out.error is not None and out.error.errno == errno.EIO


def test_an_output_that_works_has_no_error() -> None:
    stream = io.StringIO()
    out = Outlet(stream)
    print("a", file=out, flush=True)
    assert (stream.getvalue(), out.error, out.encoding, out.isatty()) == ("a\n", None, "utf-8", False)


def test_standard_files_that_are_open_stay_so() -> None:
    before = [os.fstat(number).st_ino for number in range(3)]
    occupy_standard_files()
    assert [os.fstat(number).st_ino for number in range(3)] == before
