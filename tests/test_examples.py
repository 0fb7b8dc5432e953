"""The examples run as their README says, and what they print is true and worth reading."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from synergy import Learner

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


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    """The same in this process, which is faster."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with torch.random.fork_rng():  # an example has the process to itself and seeds torch
        import_module(f"examples.{name}").main()


@pytest.mark.slow
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


@pytest.mark.slow
def test_drift_is_followed_and_both_learners_are_shown() -> None:
    text = output("tabular_drift.py", "--steps", "960")
    rows = {phase: numbers(line) for phase, line in re.findall(r"^(\w+(?: drift)?) +(\d+\.\d.*)$", text, re.MULTILINE)}
    assert list(rows) == ["steady", "gradual drift", "abrupt drift", "repaired"]
    for before_synergy, before_sgd, all_synergy, all_sgd in rows.values():
        assert min(before_synergy, before_sgd) > 45  # a guess is right one time in four
        assert min(all_synergy, all_sgd) > 40
    assert sum(row[2] for row in rows.values()) > sum(row[3] for row in rows.values()) + 20


@pytest.mark.slow
def test_own_data_own_network() -> None:
    text = output("own_data.py", "--epochs", "2")
    assert re.match(r"learning on (cpu|cuda)", text)
    rows = [numbers(line) for line in text.splitlines() if line.startswith("after day")]
    assert [len(row) for row in rows] == [1, 2, 3, 4, 5]
    assert min(rows[-1][:4]) > 80  # of ten digits; the fifth day was seen only briefly
    assert rows[-1][4] > 20
    assert text.splitlines()[-1].startswith("200 photos in memory, 14 KiB")


@pytest.mark.slow
def test_the_trainer_forgets_alone_and_less_with_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("accelerate")
    run(monkeypatch, "trainer_replay", "--steps", "40", "--seeds", "3")
    text = capsys.readouterr().out
    rows = {way: numbers(line) for way, line in re.findall(r"^(alone|replay|replay \+ anchor) +(\d.*)$", text, re.M)}
    assert list(rows) == ["alone", "replay", "replay + anchor"]
    *alone, _, last = rows["alone"]
    assert len(alone) == 3  # seeds
    assert last > 60  # it learns the last pair; a guess is right one time in two
    for before, replay, both in zip(alone, rows["replay"], rows["replay + anchor"], strict=False):
        assert before <= 100 / 3  # and has forgotten the others
        assert min(replay, both) > before + 10


@pytest.mark.parametrize(("steps", "rows"), [("1", 1), ("3", 3), ("7", 7), ("12", 6)])
def test_a_short_stream_of_digits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], steps: str, rows: int
) -> None:
    run(monkeypatch, "digits_stream", "--steps", steps)
    text = capsys.readouterr().out
    found = [line.split() for line in text.splitlines() if re.match(r" +\d+  ", line)]
    assert [row[0] for row in found] == [str((number + 1) * max(int(steps) // 5, 1)) for number in range(rows)]
    assert text.count("same answers: yes") == 1
    answers = [row[3] for row in found]
    assert answers[0] == "-" if int(steps) < 10 else re.fullmatch(r"\d+\.\d", answers[0])
    assert all(re.fullmatch(r"\d+\.\d", answer) for answer in answers[1:])


@pytest.mark.parametrize("steps", [4, 13, 50])
def test_drift_takes_as_many_batches_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    observe, labels = Learner.observe, []

    def counting(learner: Learner, x: object, y: list[str]) -> object:
        labels.append(y[0])
        return observe(learner, x, y)

    monkeypatch.setattr(Learner, "observe", counting)
    run(monkeypatch, "tabular_drift", "--steps", str(steps))
    assert len(labels) == 2 * steps  # for each of two learners
    assert len(set(labels)) == min(4, -(-steps // 4))  # states; even a short phase goes through several
    assert len(re.findall(r"^\w+(?: drift)? +\d", capsys.readouterr().out, re.MULTILINE)) == 4


@pytest.mark.parametrize(
    ("name", "option", "value", "allowed"),
    [
        ("digits_stream", "--steps", "0", "from 1 on"),
        ("digits_stream", "--steps", "-5", "from 1 on"),
        ("own_data", "--epochs", "0", "from 1 on"),
        ("own_data", "--epochs", "-1", "from 1 on"),
        ("tabular_drift", "--steps", "3", "from 4 on, one a phase"),
        ("tabular_drift", "--steps", "-3", "from 4 on, one a phase"),
        ("tabular_drift", "--seed", "-1", "from 0 on"),
    ],
)
def test_numbers_are_in_their_range(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    option: str,
    value: str,
    allowed: str,
) -> None:
    monkeypatch.setattr(Learner, "observe", lambda *_: pytest.fail("it would have begun"))
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, name, option, value)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"{option}: given {value}; allowed: whole numbers {allowed}")


def test_the_readme_names_every_example() -> None:
    text = (FOLDER / "README.md").read_text()
    assert set(re.findall(r"^\| \[(\w+\.py)\]", text, re.MULTILINE)) == {path.name for path in FOLDER.glob("*.py")}
    assert set(re.findall(r"`python examples/(\w+\.py)", text)) == {path.name for path in FOLDER.glob("*.py")}
