"""A real shell completes commands, flags, methods and scenarios."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from synergy.methods import METHODS
from synergy.scenarios import SCENARIOS
from synergy.terminal import cli
from tests.commands import call
from tests.disk.test_files import posix

pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = call("completion", "bash")
    assert (written.code, written.err) == (0, "")
    path = tmp_path_factory.mktemp("shell") / "synergy.bash"
    path.write_text(written.out, encoding="utf-8")
    return path


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of these words."""
    quoted = " ".join(f"'{word}'" for word in words)
    program = f"source '{script}'; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
    program += 'read -ra how <<< "$(complete -p synergy)"; ${how[-2]} synergy; printf \'%s\\n\' "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, cwd=script.parent)
    return {word.strip() for word in done.stdout.splitlines()}


@posix
def test_bash_completes_commands(script: Path) -> None:
    assert completed(script, "synergy", "") >= {*cli.COMMANDS, "completion"}
    assert completed(script, "synergy", "re") == {name for name in cli.COMMANDS if name.startswith("re")}


@posix
def test_bash_completes_methods_scenarios_and_choices(script: Path) -> None:
    assert completed(script, "synergy", "run", "--model", "") >= set(METHODS)
    assert completed(script, "synergy", "run", "--dataset", "rot-") == {"rot-mnist", "rot-digits"}
    assert completed(script, "synergy", "show", "der") >= {"der", "derpp"}
    assert completed(script, "synergy", "run", "--precision", "b") == {"bf16"}
    assert set(SCENARIOS) <= completed(script, "synergy", "show", "")


@posix
def test_bash_completes_flags_of_runs_of_methods_and_of_other_commands(script: Path) -> None:
    assert completed(script, "synergy", "run", "--buf") == {"--buffer_size"}
    assert {"--seed", "--ema_alpha", "--rotation_angles", "--width"} <= completed(script, "synergy", "run", "--")
    assert {"--html", "--format", "--by_run"} <= completed(script, "synergy", "report", "--")


@posix
def test_bash_completes_files(script: Path) -> None:
    assert "synergy.bash" in completed(script, "synergy", "report", "syn")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script_too(shell: str) -> None:
    text = call("completion", shell).out
    assert "synergy" in text and "rot-digits" in text


def test_an_unknown_shell_and_a_missing_library_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = call("completion", "fish")
    assert wrong.code == 2 and "bash, tcsh, zsh" in wrong.err
    none = call("completion")
    assert none.code == 2 and all(shell in none.err for shell in ("bash", "zsh", "tcsh"))
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "pip install 'synergy-cl[completion]'" in call("completion", "bash").err
