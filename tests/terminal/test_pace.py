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
    pace = Pace([steps] * tasks, clock=clock)
    pace.evaluated(10.0)
    pace.task_begins()
    clock.now += 50
    pace.looked(1, 1)
    clock.now += 10 * seconds_a_step
    pace.looked(11, 10)
    return pace, clock


def test_steps_and_evaluations_are_counted_and_the_first_steps_are_not_measured() -> None:
    pace, _ = measured(2.0)
    assert pace.seconds_left() == 1989 * 2.0 + 2 * 10.0
    assert pace.line() == "time         about 67 min are left: 1,989 steps of 2.00 s, 2 evaluations of 10 s"


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


def test_an_evaluation_of_a_task_leaves_one_less_and_is_no_training() -> None:
    pace, clock = measured(2.0)
    clock.now += 1000
    pace.evaluated(40.0, of_task=True)
    pace.task_begins()
    clock.now += 2.0
    pace.looked(12, 1)
    assert pace.seconds_left() == 1988 * 2.0 + 40.0


def test_a_long_run_gets_advice_with_times() -> None:
    config = build("seq-cifar10", "er", {"device": "cpu"})
    pace, _ = measured(20.0, steps=5000, tasks=5)
    advice = "\n".join(pace.advice(config))
    assert advice.startswith("shorter      --device cuda")
    times = dict(re.findall(r"--(width 16|n_epochs 1|max_tasks 1):.* about (.*)", advice))
    assert times == {"width 16": "8.7 h", "n_epochs 1": "2.8 h", "max_tasks 1": duration(24989 * 4 + 10)}
    assert not measured(0.01)[0].advice(config)


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
            advice = [next(process.stdout) for _ in range(4)]
        finally:
            process.kill()
    assert re.match(r"time +about [\d.]+ (h|days) are left: [\d,]+ steps of [\d.]+ m?s, 5 evaluations of", line)
    assert "shorter      --device cuda" in advice[0]
    assert [re.search(r"--\w+", each)[0] for each in advice[1:]] == ["--width", "--n_epochs", "--max_tasks"]  # type: ignore[index]


def until(lines: Iterator[str], pattern: str, patience: float = 540) -> Iterator[str]:
    """Lines up to the first that fits."""
    began = time.monotonic()
    for line in lines:
        yield line
        if re.search(pattern, line):
            return
        assert time.monotonic() - began < patience
