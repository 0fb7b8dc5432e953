"""What a terminal gets: tables as wide as it is, in colour; files, pipes and dumb terminals get plain text."""

from __future__ import annotations

import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from synergy.runs.evaluate import Evaluation
from synergy.scenarios import SCENARIOS
from synergy.studies.work import Progress
from synergy.terminal import screen
from synergy.terminal.run_table import LiveRun
from synergy.terminal.study_progress import LiveTable
from synergy.types import ProtocolName
from tests.commands import BRIEF, call, run
from tests.disk.test_files import posix
from tests.terminal.in_terminal import COLOUR, ROOT, in_terminal, lines

pytestmark = posix


@pytest.mark.parametrize("columns", [60, 80, 160])
@pytest.mark.parametrize("arguments", [["list"], ["show", "synergy"]])
@pytest.mark.slow
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, columns: int, arguments: list[str]) -> None:
    written = in_terminal(arguments, columns, tmp_path)
    assert COLOUR.search(written)
    assert max(map(len, lines(written))) <= columns


def test_the_list_in_a_terminal_says_what_methods_do(tmp_path: Path) -> None:
    words = " ".join(" ".join(lines(in_terminal(["list"], 100, tmp_path))).split())
    assert "what it does" in words and "Learn from the stream alone, and forget." in words


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_list_leaves_columns_out_and_breaks_no_name(tmp_path: Path, width: int) -> None:
    shown = lines(in_terminal(["list"], width, tmp_path))
    head, tuned = (line for line in shown if line.split()[:1] == ["scenario"])
    assert "methods" in tuned
    assert ("network" in head) == (width == 120)
    names = {line.split()[0] for line in shown if line.strip()}
    assert {"method", *SCENARIOS} <= names


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_is_taken_away_on_request(tmp_path: Path, environment: dict[str, str], coloured: bool) -> None:
    written = in_terminal(["list"], 80, tmp_path, environment=environment)
    assert bool(COLOUR.search(written)) is coloured
    assert "rot-mnist" in written


def test_a_dumb_terminal_gets_what_a_pipe_gets(tmp_path: Path) -> None:
    written = in_terminal(["list"], 80, tmp_path, environment={"TERM": "dumb"})
    assert "\x1b" not in written
    assert lines(written) == piped(["list"], tmp_path).splitlines()


def piped(arguments: list[str], folder: Path, **environment: str) -> str:
    command = [sys.executable, "-m", "synergy.terminal.cli", *arguments]
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=given, check=True).stdout


def test_a_pipe_gets_colour_only_by_force(tmp_path: Path) -> None:
    plain = piped(["list"], tmp_path)
    assert "\x1b" not in plain and "what it does" not in plain
    forced = piped(["list"], tmp_path, FORCE_COLOR="1", COLUMNS="70")
    assert COLOUR.search(forced) and max(map(len, lines(forced))) <= 70


def test_what_a_line_is_about_takes_as_much_room_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = screen.name("seed    ")
    assert COLOUR.search(coloured) and lines(coloured) == ["seed    "]


def test_without_rich_a_terminal_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["name", "value"], ["a", "1"]]
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = screen.table(rows)
    monkeypatch.setattr(screen, "find_spec", lambda name: None)
    assert "\x1b" in coloured
    assert screen.table(rows) == screen.plain(rows) == "  name  value\n  a         1"


def test_headings_break_into_lines_before_numbers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    rows = [["metric, percent", "semantic, class-IL", "working, class-IL"], ["average over time", "100.00", "-"]]
    shown = lines(screen.table(rows))
    assert max(map(len, shown)) <= 40
    assert re.search(r"average over time +100.00 +-$", shown[-1])


@pytest.mark.slow
def test_a_run_in_a_terminal_has_a_row_with_a_bar_for_each_task_and_says_what_is_left(tmp_path: Path) -> None:
    flags = ["--dataset", "seq-digits", "--model", "synergy", "--max_tasks", "3", "--output_dir", str(tmp_path)]
    written = in_terminal(["run", *flags], 80, tmp_path)
    assert "whole run: " in written and "step " in written
    shown = lines(written)
    last = [re.fullmatch(r" *(\d)/3 +━+((?: +[\d.]+){4})", line.rstrip()) for line in shown[-40:]]
    rows = [each for each in last if each is not None][-3:]
    assert [row[1] for row in rows] == ["1", "2", "3"]
    (metrics,) = [line.split() for line in shown if line.split()[:2] == ["final", "average"]]
    assert rows[-1][2].split() == metrics[2:]


@pytest.mark.parametrize("width", [60, 80])
def test_numbers_of_a_live_table_keep_their_room(width: int) -> None:
    written = io.StringIO()
    console = Console(width=width, file=written)
    study = LiveTable(4, 0, Live(console=console))
    study.started("seq-digits-er-buffer500-minibatch_size64-seed1")
    study.progressed("seq-digits-er-buffer500-minibatch_size64-seed1", Progress(12, 20, 0.5))
    run_of_two = LiveRun(console, n_tasks=20, say=print, quiet=True)
    protocols: tuple[ProtocolName, ...] = ("class-IL", "task-IL")
    answers = itertools.product(("semantic", "working"), protocols)
    run_of_two.task_ended(11, {answer: Evaluation((99.5,) * 12, {}, None) for answer in answers})
    for table in (study.table(), run_of_two.table()):
        console.print(table)
    shown = written.getvalue()
    assert "12/20" in shown and " 0 s" in shown and shown.count("99.50") == 4
    assert shown.count("…") == (width == 60), "the name of the run alone is cut"


def test_the_same_run_into_a_pipe_is_plain(tmp_path: Path) -> None:
    outcome = run(tmp_path, "seq-digits", "er", *BRIEF)
    assert "\x1b" not in outcome.out + outcome.err
    assert "task 1/2  class-IL: working " in outcome.out


@pytest.mark.slow
def test_a_report_fits_the_terminal(tmp_path: Path) -> None:
    for seed in (0, 1):
        assert run(tmp_path / "runs", "rot-digits", "er", "--max_steps_per_task", 2, "--seed", seed).code == 0
    single = next((tmp_path / "runs").glob("*-seed0"))
    for arguments in (["report", "runs"], ["report", f"runs/{single.name}"]):
        shown = lines(in_terminal(arguments, 80, tmp_path))
        assert max(map(len, shown)) <= 80
    (last,) = [line for line in shown if re.match(r"  20 +\d", line)]
    assert len(last.split()) == 21
    narrow = lines(in_terminal(["report", f"runs/{single.name}"], 50, tmp_path))
    assert max(map(len, narrow)) <= 50
    assert any("without tasks 1 to 5" in line for line in narrow)


def test_a_report_into_a_pipe_fits_80_columns(tmp_path: Path) -> None:
    for seed in (0, 1):
        for model in ("er", "synergy"):
            assert run(tmp_path / "runs", "rot-digits", model, *BRIEF, "--lr", 0.05, "--seed", seed).code == 0
    assert max(map(len, call("report", tmp_path / "runs").out.splitlines())) <= 80
