"""How long a run takes is told early, with what would shorten it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synergy.runs.config import build
from synergy.terminal import pace as pace_module
from synergy.terminal.pace import Pace, duration


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(seconds_a_step: float, steps: int = 1000, tasks: int = 2) -> tuple[Pace, Clock]:
    """A pace after eleven steps, the first of them slow."""
    clock = Clock()
    pace = Pace([steps] * tasks, evaluations=tasks + 1, clock=clock)
    pace.task_begins()
    clock.now += 50
    pace.looked(1, 1)
    clock.now += 10 * seconds_a_step
    pace.looked(11, 10)
    return pace, clock


def test_steps_are_counted_and_the_first_ones_are_not_measured() -> None:
    pace, _ = measured(2.0)
    assert pace.seconds_left() == 1989 * 2.0
    assert pace.line() == "time         about 66 min are left: 1,989 steps of 2.00 s; 3 evaluations come on top"


def test_evaluations_count_once_one_was_seen() -> None:
    pace, _ = measured(2.0)
    pace.evaluated(10.0)
    assert pace.seconds_left() == 1989 * 2.0 + 2 * 10.0
    assert pace.line().endswith("1,989 steps of 2.00 s, 2 evaluations of 10 s")


def test_nothing_is_said_twice_unless_it_changed() -> None:
    pace, clock = measured(2.0)
    assert pace.line()
    clock.now += 40
    pace.looked(31, 20)
    assert pace.line() == ""
    clock.now += 400
    pace.looked(61, 30)
    assert "left" in pace.line()


def test_a_short_run_is_not_told() -> None:
    pace, _ = measured(0.5, steps=20, tasks=1)
    assert pace.line() == ""


def test_an_evaluation_is_no_training() -> None:
    pace, clock = measured(2.0)
    for seconds in (20.0, 40.0):
        clock.now += 1000
        pace.evaluated(seconds)
    pace.task_begins()
    clock.now += 2.0
    pace.looked(12, 1)
    assert pace.seconds_left() == 1988 * 2.0 + 40.0


def test_a_long_run_gets_advice_with_times() -> None:
    config = build("seq-cifar10", "er", {"device": "cpu"})
    pace, _ = measured(20.0, steps=5000, tasks=5)
    whole = 25_000 * 20.0
    first, *more = pace.advice(config)
    assert first.startswith("shorter      --device cuda")
    assert first.endswith(f"31 ms for a step of SYNERgy, {duration(25_000 * pace_module.STEP_S_ON_H100)} for so many")
    assert [line.split(",")[0].strip() for line in more] == [
        f"--precision bf16: about {duration(whole / 2)} to {duration(whole / 1.4)}",
        f"--width 16: about {duration(whole / pace_module.TIMES_NARROW)}",
        "--n_epochs 1: about 2.8 h",
        "--max_tasks 1: about 27.8 h",
    ]
    assert not measured(0.01)[0].advice(config)


def test_advice_has_figures_only_for_the_network_that_was_measured() -> None:
    pace, _ = measured(20.0, steps=5000, tasks=5)
    own = pace.advice(build("seq-cifar10", "er", {"device": "cpu", "net": "mlp", "n_epochs": 1}))
    assert own == [
        "shorter      --device cuda, if there is a GPU",
        "             --max_tasks 1: about 27.8 h",
    ]
    narrow = "\n".join(pace.advice(build("seq-cifar10", "er", {"device": "cpu", "width": 16})))
    assert "--width" not in narrow and "H100" not in narrow and "--precision bf16" in narrow


@pytest.mark.slow
@pytest.mark.real_data
def test_a_run_of_a_day_says_so_within_its_first_steps(tmp_path: Path) -> None:
    flags = ["--dataset", "seq-cifar10", "--model", "er", "--load_best_args", "--buffer_size", "200", "--device", "cpu"]
    command = [sys.executable, "-m", "synergy.terminal.cli", "run", *flags, "--output_dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            *_, line = until(process.stdout, r"^time ")
            advice = [next(process.stdout) for _ in range(5)]
        finally:
            process.kill()
    assert re.match(r"time +about [\d.]+ (h|days) are left: [\d,]+ steps of [\d.]+ m?s; 6 evaluations come", line)
    assert "shorter      --device cuda" in advice[0]
    flags = [re.search(r"--\w+", each)[0] for each in advice[1:]]  # type: ignore[index]
    assert flags == ["--precision", "--width", "--n_epochs", "--max_tasks"]


def until(lines: Iterator[str], pattern: str, patience: float = 540) -> Iterator[str]:
    """Lines up to the first that fits."""
    began = time.monotonic()
    for line in lines:
        yield line
        if re.search(pattern, line):
            return
        assert time.monotonic() - began < patience
