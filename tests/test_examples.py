"""The examples run as their README says, and what they print is true and worth reading."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "examples"


def output(name: str, *arguments: str) -> str:
    """What an example prints; a warning is an error."""
    command = [sys.executable, "-W", "error", str(FOLDER / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.\d", line)]


def test_digits_appear_and_old_ones_are_kept() -> None:
    text = output("digits_stream.py", "--steps", "300")
    rows = [line for line in text.splitlines() if re.match(r" +\d+  ", line)]
    assert [row.split()[0] for row in rows] == ["60", "120", "180", "240", "300"]
    _, synergy, sgd = numbers(rows[-1])
    assert synergy > 75  # a guess is right one time in ten
    assert sgd < 35
    assert "same answers: yes" in text
    kept = dict(re.findall(r"'(\w+)': (\d+)", text.splitlines()[-1]))
    assert len(kept) == 10 and sum(map(int, kept.values())) == 200


def test_drift_is_followed_and_both_learners_are_shown() -> None:
    text = output("tabular_drift.py", "--steps", "960")
    rows = {phase: numbers(line) for phase, line in re.findall(r"^(\w+(?: drift)?) +(\d+\.\d.*)$", text, re.MULTILINE)}
    assert list(rows) == ["steady", "gradual drift", "abrupt drift", "repaired"]
    for before_synergy, before_sgd, all_synergy, all_sgd in rows.values():
        assert min(before_synergy, before_sgd) > 45  # a guess is right one time in four
        assert min(all_synergy, all_sgd) > 40
    assert sum(row[2] for row in rows.values()) > sum(row[3] for row in rows.values()) + 20


def test_own_data_own_network() -> None:
    text = output("own_data.py", "--epochs", "2")
    assert re.match(r"learning on (cpu|cuda)", text)
    rows = [numbers(line) for line in text.splitlines() if line.startswith("after day")]
    assert [len(row) for row in rows] == [1, 2, 3, 4, 5]
    assert min(rows[-1][:4]) > 80  # of ten digits; the fifth day was seen only briefly
    assert rows[-1][4] > 20
    assert text.splitlines()[-1].startswith("200 photos in memory, 14 KiB")


def test_the_readme_names_every_example() -> None:
    text = (FOLDER / "README.md").read_text()
    assert set(re.findall(r"^\| \[(\w+\.py)\]", text, re.MULTILINE)) == {path.name for path in FOLDER.glob("*.py")}
    assert set(re.findall(r"`python examples/(\w+\.py)", text)) == {path.name for path in FOLDER.glob("*.py")}
