"""What a terminal shows: tables, the opening block, the progress of a run, and what came of it."""

from __future__ import annotations

import os
import pty
import re
import runpy
import sys
import termios
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.runs.config import build
from synergy.runs.evaluate import Evaluation, Evaluations
from synergy.runs.prepare import prepare
from synergy.terminal import console, screen
from tests.commands import BRIEF, call, run
from tests.data.parquet_files import pictures, png, write_parquet
from tests.runs.test_records import RECORD

ROOT = Path(__file__).parent.parent.parent


def test_numbers_stand_to_the_right_and_all_else_to_the_left() -> None:
    rows = [["run", "value", "time"], ["a-1", "-12.50", "3.0 s"], ["longer-2", "-", "10.0 s"], ["x", "7", ""]]
    assert screen.plain(rows).splitlines() == [
        "  run        value    time",
        "  a-1       -12.50   3.0 s",
        "  longer-2       -  10.0 s",
        "  x              7",
    ]


cells = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=6)


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1)))
def test_columns_never_run_into_each_other(rows: list[list[str]]) -> None:
    lines = screen.plain(rows).split("\n")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        padded = line.ljust(2 + sum(widths) + 2 * (len(widths) - 1))
        assert len(padded) == 2 + sum(widths) + 2 * (len(widths) - 1)
        start = 2
        for width, cell in zip(widths, row, strict=True):
            assert padded[start : start + width].strip() == cell
            assert padded[start + width : start + width + 2].strip() == ""
            start += width + 2


def opening_of(output: str) -> dict[str, str]:
    """The opening block by its headings, lines that go on put together."""
    block = output.partition("\n\n")[0]
    found: dict[str, str] = {}
    for line in block.splitlines():
        name = line[:13].strip() or list(found)[-1]
        found[name] = f"{found[name]}\n{line[13:]}" if name in found else line[13:]
    return found


def test_the_opening_block_says_it_all() -> None:
    given = {"buffer_size": 300, "n_tasks": 3, "max_tasks": 2, "seed": 5}
    opening = opening_of(console.opening(prepare(build("rot-digits", "synergy", given))))
    assert list(opening) == [
        "scenario",
        "protocol",
        "data",
        "method",
        "net",
        "training",
        "device",
        "seed",
        "values from",
    ]
    assert opening["scenario"] == "rot-digits, 3 tasks"
    assert opening["protocol"] == "domain-IL"
    assert opening["data"] == "digits (bundled with scikit-learn): 1437 training, 360 test samples"
    assert opening["method"].startswith("synergy, lr=0.1, buffer_size=300, ")
    assert opening["method"].endswith("fisher_alpha=0.999")
    assert opening["net"] == "mlp, hidden=100, 17,610 parameters"
    assert opening["training"] == "1 epoch, batch size 16, partial"
    assert re.fullmatch(r"cpu \(.+, \d+ threads?\), fp32, contiguous", opening["device"])
    assert opening["seed"] == "5"
    assert opening["values from"].splitlines() == [
        "flag: n_tasks, buffer_size, max_tasks, seed",
        "default: all else",
        "default of rot-digits: batch_size, n_epochs, net",
    ]


def test_lines_of_the_opening_block_are_not_too_wide() -> None:
    opening = console.opening(prepare(build("rot-digits", "synergy", {})))
    assert max(map(len, opening.splitlines())) <= 13 + console.WIDTH


def test_validation_is_said_in_the_opening_block() -> None:
    opening = opening_of(console.opening(prepare(build("seq-digits", "er", {"validation": True, "n_epochs": 2}))))
    assert opening["data"] == "digits (bundled with scikit-learn): 1293 training, 144 held-out samples"
    assert opening["training"] == "2 epochs, batch size 10"


def opening_of_best(folder: Path, data: Path) -> dict[str, str]:
    flags = ("--buffer_size", 300, "--nearest_best_args", "--data_dir", data)
    best = run(folder, "rot-mnist", "synergy", *BRIEF, *flags)
    assert best.code == 0, best.err
    return opening_of(best.out)


def test_the_opening_block_says_whose_values_they_are_and_that_data_are_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    for split, count in (("train", 150), ("test", 20)):
        images = [png(image) for image in pictures(count, 28, 28)]
        write_parquet(tmp_path / "data" / "mnist" / f"{split}-0.parquet", list(images), [k % 10 for k in range(count)])
    opening = opening_of_best(tmp_path / "runs", tmp_path / "data")
    origins = " ".join(opening["values from"].split())
    assert "flag: buffer_size, " in origins
    assert "preset (of buffer size 200): published: NeurAI-Lab/SYNERgy: ema_alpha, " in origins
    assert opening["data"] == "mnist (folder): 150 training, 20 test samples, a part of the published data set"
    assert opening["net"] == "mlp, hidden=100, 89,610 parameters"


@pytest.mark.real_data
def test_the_opening_block_of_the_whole_data_set(tmp_path: Path) -> None:
    opening = opening_of_best(tmp_path, Path(os.environ["SYNERGY_DATA"]))
    assert opening["data"] == "mnist (folder): 60000 training, 10000 test samples"


def test_the_published_command_line_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--dataset", "rot-digits", "--model", "er", "--output_dir", str(tmp_path), *BRIEF]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["main.py", *flags])
        runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
    assert end.value.code == 0
    published = capsys.readouterr().out
    assert opening_of(published) == opening_of(call("run", *flags).out)


def test_a_run_from_opening_to_record(tmp_path: Path) -> None:
    outcome = run(tmp_path, "seq-digits", "synergy", *BRIEF)
    assert (outcome.code, outcome.err) == (0, "")  # quiet where nobody watches
    _, progress, matrix, metrics, cost, place = outcome.out.split("\n\n")
    title, *tasks = progress.splitlines()
    assert title == "average accuracy over the tasks seen so far, percent"
    number = r"\d+\.\d\d"
    each = rf"class-IL: semantic {number}, working {number}   task-IL: semantic {number}, working {number}"
    assert [re.fullmatch(rf"task {t}/2  {each}", line) is not None for t, line in enumerate(tasks, 1)] == [True, True]
    title, *rows = matrix.splitlines()
    assert title == "accuracy of 'semantic' (class-IL), percent: task (column) after task (row)"
    assert [len(row.split()) for row in rows] == [2, 2, 3]
    heading, *lines = metrics.splitlines()
    pairs = [f"{predictor}, {p}" for predictor in ("semantic", "working") for p in ("class-IL", "task-IL")]
    assert re.split(r"  +", heading.strip()) == ["metric, percent", *pairs]
    assert lines[0].startswith("  final average ")
    assert lines[-2].startswith("  calibration error ")
    assert "forward transfer" in lines[-1] and "class-IL" in lines[-1]
    (forward,) = [line.split()[2:] for line in lines[:-1] if line.startswith("  forward transfer ")]
    assert [cell == "-" for cell in forward] == [True, False, True, False]
    assert re.fullmatch(r"8 steps in \d+\.\d s \(\d+ steps/s\), evaluation \d+\.\d s, peak memory \d+ MB", cost.strip())
    assert (
        place == f"record: {tmp_path}/seq-digits-synergy-buffer500-max_steps_per_task4-max_tasks2-seed0/record.json\n"
    )


def test_a_method_that_answers_at_the_end_only_says_so(tmp_path: Path) -> None:
    outcome = run(tmp_path, "rot-digits", "joint", "--n_tasks", 2, "--max_steps_per_task", 1)
    assert "task 1/2  no answer before the last task\ntask 2/2  domain-IL: joint " in outcome.out
    assert ["1", "-"] in [line.split() for line in outcome.out.splitlines()]


class Terminal:
    """A terminal of our own in place of stderr; what is written to it is read meanwhile."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 100))
        self.stderr = os.fdopen(slave, "w", encoding="utf-8")
        self.shown = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self.master, 4096)
            except OSError:  # the other end was closed
                return
            self.shown += part

    def close(self) -> str:
        self.stderr.close()
        self._reader.join()
        os.close(self.master)
        return self.shown.decode()


def test_a_terminal_sees_the_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from synergy.terminal.cli import main

    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal.stderr)
        flags = ["--output_dir", str(tmp_path), "--n_tasks", "2"]
        code = main(["run", "--dataset", "rot-digits", "--model", "er", *flags])
    shown = terminal.close()
    assert code == 0
    assert "task 1/2:" in shown
    assert "task 2/2:" in shown
    assert "/90 [" in shown
    # The last bar was taken away, and none of them began a new line.
    assert not shown.split("\r")[-1].strip()
    assert "\n" not in shown
    out = capsys.readouterr().out
    assert "\r" not in out
    assert re.search(r"\ntask 2/2  domain-IL: working \d", out)


def test_a_bar_holds_the_losses_and_goes_away(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    progress = console.Progress(12, said.append, quiet=False)
    task = prepare(build("rot-digits", "er", {})).scenario.task(3)
    progress.task_begins(task, 50, 0)
    progress.looked(20, 20, {"loss": 0.5, "ce": 0.25})
    progress.looked(50, 30, {"loss": 0.4, "ce": 0.125})
    progress.close()
    progress.close()
    shown = capsys.readouterr().err
    assert "task 4/12:" in shown
    assert said == []


def test_the_line_after_a_task_has_the_averages_over_the_tasks_seen() -> None:
    said: list[str] = []
    score = Evaluation(accuracies=(80.0, 61.0, 3.0), per_class={}, calibration_error=None)
    other = replace(score, accuracies=(50.0, 50.0, 50.0))
    evaluations: Evaluations = {
        ("semantic", "class-IL"): score,
        ("semantic", "task-IL"): other,
        ("working", "class-IL"): other,
    }
    console.Progress(10, said.append, quiet=True).task_ended(1, evaluations)
    assert said == ["task  2/10  class-IL: semantic 70.50, working 50.00   task-IL: semantic 50.00"]


def test_a_matrix_shows_the_tasks_seen() -> None:
    accuracies = replace(RECORD.accuracies[0], matrix=((90.0, 10.0, 11.0), (60.04, 80.0, 12.0)))
    assert console.matrix(accuracies).splitlines()[1:] == ["        1     2", "  1  90.0", "  2  60.0  80.0"]


def test_a_matrix_of_one_split_is_a_column() -> None:
    accuracies = replace(RECORD.accuracies[0], matrix=((90.0,), (None,), (60.0,)))
    assert console.matrix(accuracies).splitlines()[1:] == ["        1", "  1  90.0", "  2     -", "  3  60.0"]


def test_classes_have_the_names_of_the_data_set() -> None:
    answer = replace(RECORD.accuracies[0], per_class={"0": 12.5, "1": 100.0, "2": 0.0})
    record = replace(RECORD, accuracies=(answer,), source={**RECORD.source, "name": "cifar10"}, source_labels=(3, 9, 0))
    title, classes = console.by_class(record).splitlines()
    assert "semantic" in title and "class-IL" in title
    assert classes == "  cat 12.5, truck 100.0, airplane 0.0"
    unnumbered = replace(record, source_labels=())
    assert console.by_class(unnumbered).endswith("  airplane 12.5, automobile 100.0, bird 0.0")
    nameless = replace(record, source=RECORD.source)
    assert console.by_class(nameless).endswith("  3 12.5, 9 100.0, 0 0.0")
    assert console.by_class(replace(record, accuracies=())) == ""


def test_the_metrics_say_why_forward_transfer_is_missing() -> None:
    class_il = replace(RECORD.accuracies[0], metrics={"backward_transfer": -30.0})
    task_il = replace(class_il, protocol="task-IL", metrics={"backward_transfer": -30.0, "forward_transfer": 4.0})
    assert "class-IL" in console.metrics(replace(RECORD, accuracies=(class_il, task_il))).splitlines()[-1]
    assert len(console.metrics(replace(RECORD, accuracies=(task_il,))).splitlines()) == 4


def test_a_run_without_evaluation_has_nothing_to_show() -> None:
    assert console.closing(replace(RECORD, accuracies=())) == "nothing was evaluated"


def test_a_metric_is_shown_because_a_record_holds_it() -> None:
    answer = replace(RECORD.accuracies[0], metrics={"a_new_one": 12.345, "plasticity": 50.0})
    text = console.metrics(replace(RECORD, accuracies=(answer,)))
    assert text.index("plasticity") < text.index("a new one")
    assert re.search(r"12\.3[45]", text)


def test_untuned_runs_are_told_of_tuned_values(tmp_path: Path) -> None:
    flags = ("run", *BRIEF, "--dataset", "rot-digits", "--model", "synergy", "--output_dir", tmp_path)
    told = call(*flags)
    assert "tuned values exist for --buffer_size 200, 500; --load_best_args takes them" in told.out
    tuned = call(*flags, "--buffer_size", 200, "--load_best_args")
    assert "tuned values" not in tuned.out
    assert "note: the network 'semantic' averages over the last" in tuned.out
