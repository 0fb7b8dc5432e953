"""Text is written and read as UTF-8, whatever the locale says."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synergy.runs import records

ROOT = Path(__file__).parent.parent
SOURCES = [
    ROOT / "main.py",
    *(path for part in ("synergy", "examples", "benchmarks", "docs") for path in (ROOT / part).rglob("*.py")),
]
NOT_TEXT = {"os.open", "Image.open", "path.is_open"}
"""Calls of that name that open no text file."""


def leaves_it_to_the_locale(node: ast.AST) -> bool:
    """A call that opens a text file, or reads a process as text, without naming an encoding."""
    if not isinstance(node, ast.Call) or any(word.arg in ("encoding", None) for word in node.keywords):
        return False
    name = ast.unparse(node.func)
    last = name.split(".")[-1]
    if last in ("read_text", "write_text"):
        return len(node.args) < (2 if last == "write_text" else 1)
    if last in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile") and name not in NOT_TEXT:
        place = 1 if name in ("open", "os.fdopen") else 0
        words = [*node.args[place:][:1], *(word.value for word in node.keywords if word.arg == "mode")]
        return not any(isinstance(word, ast.Constant) and "b" in str(word.value) for word in words)
    return any(word.arg in ("text", "universal_newlines") for word in node.keywords)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("path.read_text()", True),
        ("path.write_text(x)", True),
        ("open(path)", True),
        ("path.open('a')", True),
        ("open('b')", True),
        ("subprocess.run(x, text=True)", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.open('rb')", False),
        ("path.open(mode='wb')", False),
        ("os.open(path, flags)", False),
        ("path.open('w', encoding='utf-8', newline='')", False),
    ],
)
def test_the_rule_finds_what_it_should(code: str, expected: bool) -> None:
    assert any(map(leaves_it_to_the_locale, ast.walk(ast.parse(code)))) == expected


def test_every_text_file_names_its_encoding() -> None:
    found = [
        f"{path.relative_to(ROOT)}, line {vars(node)['lineno']}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if leaves_it_to_the_locale(node)
    ]
    assert len(SOURCES) > 50
    assert not found


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
"""A locale that knows ASCII only."""
TWICE = """
from synergy.terminal.cli import main
words = "run --dataset rot-digits --model sgd --n_tasks 1 --max_steps_per_task 2 --csv_log --experiment_id".split()
assert main([*words, "one", "--notes", "na\\u00efve \\u20ac"]) == 0
assert main(["run", "--config", "runs/one", "--csv_log", "--experiment_id", "two"]) == 0
assert main([*words, "three", "--notes", "na\\u00efve \\u20ac"]) == 0
assert main(["report", "runs"]) == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="of another system")
def test_a_run_in_a_locale_of_ascii_is_read_everywhere(tmp_path: Path) -> None:
    environment = {**os.environ, **ASCII, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TWICE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    for record in records.read_all(tmp_path / "runs"):
        expected = None if record.run_id == "two" else "naïve €"
        assert record.config["output"].get("notes") == expected
        assert records.read(tmp_path / "runs" / record.run_id) == record
    assert "naïve €" in (tmp_path / "runs" / "one" / "config.toml").read_text(encoding="utf-8")
    assert len(list((tmp_path / "runs" / "csv").rglob("*.csv"))) == 1
