"""`synergy report` in a terminal: what it prints, and that it fits 80 columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from synergy.runs import records
from tests.commands import call
from tests.report.runs import made


def folder_of(tmp_path: Path) -> Path:
    long = {"an_option_with_a_long_name": 1.5, "another_option_with_a_long_name": 2.5}
    for seed in range(3):
        records.append(made("er", seed, 60.0 + seed), tmp_path)
        records.append(made("derpp", seed, 61.0 + seed, options=long), tmp_path)
        records.append(made("derpp", seed, 40.0 + seed, options=dict.fromkeys(long, 3.5), run_id=f"o{seed}"), tmp_path)
        records.append(made("sgd", seed, 20.0 + seed, buffer_size=None), tmp_path)
        records.append(made("er", seed, 80.0, scenario="rot-digits", run_id=f"{'long' * 20}{seed}"), tmp_path)
    records.append(made("clser", 4, status="failed", error="the loss became nan at step 3; lower --lr"), tmp_path)
    return tmp_path


def test_one_line_for_each_group_best_first(tmp_path: Path) -> None:
    outcome = call("report", folder_of(tmp_path), "--by_run")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "seq-digits (class-IL), percent, mean ± 95 % interval over n seeds"
    assert lines[1].split() == ["method", "(answer)", "buffer", "final", "average", "n", "forgetting", "time"]
    marks = [line[2] for line in lines[2:] if line[5:].startswith(("derpp", "er", "sgd"))]
    assert lines[2].startswith("  *  derpp") and marks == ["*", " ", " ", " "]
    assert "another_option" in outcome.out and "failed: seq-digits-clser-200-4: the loss became nan" in outcome.out
    assert sum(line.startswith("  ") and line.endswith(" s") and "±" not in line for line in lines) >= 16  # runs


def test_a_choice_of_metric_and_protocol(tmp_path: Path) -> None:
    out = call("report", folder_of(tmp_path), "--metric", "plasticity", "--protocol", "task-IL").out
    assert "seq-digits (task-IL), percent" in out and " plasticity " in out
    assert call("report", tmp_path, "--metric", "plasticty").err.startswith("synergy: error: unknown metric of these")


@pytest.mark.parametrize("form", ["csv", "json", "latex", "markdown"])
def test_tables_for_a_paper(tmp_path: Path, form: str) -> None:
    outcome = call("report", folder_of(tmp_path), "--format", form)
    assert (outcome.code, outcome.err) == (0, "")
    assert "derpp" in outcome.out and "rot-digits" in outcome.out


def test_another_format_is_refused(tmp_path: Path) -> None:
    outcome = call("report", folder_of(tmp_path), "--format", "markdwn")
    assert outcome.code == 2
    assert "unknown format of a table 'markdwn'; did you mean 'markdown'? allowed: csv, json, latex" in outcome.err


def test_methods_in_one_picture(tmp_path: Path) -> None:
    outcome = call("report", folder_of(tmp_path), "--picture", tmp_path / "a.png")
    assert outcome.out.endswith(f"\n\npicture: {tmp_path}/a.png\n")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_one_run_is_shown_in_full(tmp_path: Path) -> None:
    records.write(made(), tmp_path / "run")
    out = call("report", tmp_path / "run").out
    assert out.startswith("seq-digits-er-200-0: er on seq-digits, seed 0\n\naccuracy of 'working' (class-IL)")
    assert "  final average " in out and "steps in" in out
