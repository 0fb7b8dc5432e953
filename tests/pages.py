"""The code on the pages of the documentation: what each block is, and how it is run or checked.

| language of a block | what is done with it |
|---|---|
| `python` | is run, all blocks of a page one after the other; a `text` block right below it shows what it prints |
| `console` | `$ command` and what it prints; `...` stands for what is left out; `^C` for Ctrl-C |
| `sh` | commands that must succeed; a study makes few steps (`BRIEF`) |
| `toml`, `json` | must be valid |
| `text`, `bibtex` | no code |

A block that begins with the name of a file (`# my.py`, `# study.toml`) is that file too.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from synergy.studies.reproduce import reproduction
from synergy.terminal import reproduce
from synergy.terminal.cli import main
from synergy.terminal.parser import run_config
from tests.commands import BRIEF

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "examples/*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
)
LANGUAGES = {"python", "console", "sh", "toml", "json", "text", "bibtex"}
BLOCK = re.compile(r"^```(?P<language>\S*)\n(?P<text>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?", re.M | re.S)
FILE = re.compile(r"# (\w+\.(?:py|toml))\n")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")

NOT_RUN = {
    r"pip install ": "needs an index of packages; tests/test_package.py installs the wheel",
    r"make ": "sets up an environment, which takes minutes; .ci/run calls the same targets",
    r".*\bpython (-m )?benchmarks\b": "takes minutes to hours; what it prints stands on the page",
    r"python -m tests\.torture": "takes minutes; tests/torture does the same to fewer runs",
    r"synergy reproduce ": "takes minutes; tests/terminal/test_reproduce.py makes a table of few images",
    r".*--dataset \w+-(mnist|360|cifar10|cifar100|tinyimg)\b": "needs data of many megabytes",
}
"""Commands that no test runs, by their beginning, and why. Their flags are checked all the same (`check`)."""


class Block(NamedTuple):
    """A piece of code on a page, and what is shown below it."""

    language: str
    text: str
    shown: str | None


class Command(NamedTuple):
    """A command and the lines that are shown below it, `None` if it only has to succeed."""

    text: str
    shown: list[str] | None

    @property
    def reason(self) -> str | None:
        """Why it is not run; None if it is."""
        return next((reason for start, reason in NOT_RUN.items() if re.match(start, self.text)), None)


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page, without the `text` blocks that show what a piece of Python prints."""
    for language, content, shown in BLOCK.findall(text):
        yield Block(language, content, shown or None)


def commands(block: Block) -> list[Command]:
    """The commands of a `console` or `sh` block. A backslash at the end of a line joins the next one."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    if block.language == "sh":
        return [
            Command(text, None) for line in lines if (text := line.partition(" #")[0].strip("# ")) and line[0] != "#"
        ]
    found: list[Command] = []
    for line in lines:
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        else:
            shown = found[-1].shown
            assert shown is not None
            shown.append(line)
    return found


def run_page(text: str, name: str) -> None:
    """Run all blocks of a page in the working folder.

    Raises:
        AssertionError: something was printed that is not shown, or a command failed.
    """
    names: dict[str, object] = {}
    for block in blocks(text):
        if found := FILE.match(block.text):
            Path(found[1]).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(block.text, name, "exec"), names)
            if block.shown is not None:
                assert close(output.getvalue(), block.shown), differ(name, block.shown, output.getvalue())
        elif block.language in ("console", "sh"):
            for command in commands(block):
                run_command(command, name)
        else:
            check_text(block)


def run_command(command: Command, page: str) -> None:
    """Run a command, or check it if it is one of those that are not run."""
    if command.reason is not None:
        check(command)
        return
    if command.shown is not None and "^C" in command.shown:
        code, printed = interrupted(command)
    elif command.text.startswith("synergy "):
        brief = BRIEF if command.shown is None and command.text.startswith("synergy study") else ()
        code, printed = called([*shlex.split(command.text)[1:], *brief])
    else:
        with started("sh", "-c", command.text) as process:
            printed, _ = process.communicate(timeout=300)
        code = process.returncode
    if command.shown is None:
        assert code == 0, f"{page}: {command.text}\nended with {code}:\n{printed}"
    else:
        shown = [line for line in command.shown if line != "^C"]
        assert all_shown(printed, shown), differ(page, "\n".join([f"$ {command.text}", *shown]), printed)


def called(arguments: list[str]) -> tuple[int, str]:
    """Exit code and output of `synergy` in this process."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            code = main(arguments)
        except SystemExit as end:  # help
            code = int(end.code or 0)
    return code, output.getvalue()


def started(*words: str) -> subprocess.Popen[str]:
    """A process that finds this Python, its scripts and this tree first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


def interrupted(command: Command) -> tuple[int, str]:
    """Exit code and output of a command that gets Ctrl-C when it prints a line like the one that is shown above `^C`.

    The lines are alike up to the first colon.
    """
    assert command.shown is not None
    last = command.shown[command.shown.index("^C") - 1].partition(":")[0]
    with started(sys.executable, "-m", "synergy.terminal.cli", *shlex.split(command.text)[1:]) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.partition(":")[0] == last:
                process.send_signal(signal.SIGINT)
    return process.returncode, "".join(printed)


def check(command: Command) -> None:
    """What can be said of a command that is not run: its flags, files and names are right."""
    words = [word for word in shlex.split(command.text) if not re.match(r"[A-Z_]+=", word)]
    CHECKS[next(kind for kind in CHECKS if " ".join(words).startswith(kind))](words)


def _check_run(words: list[str]) -> None:
    run_config(words[2:])


def _check_reproduce(words: list[str]) -> None:
    known = reproduce.parser().parse_strictly(words[2:])
    reproduction(known.table, Path("S"), models=known.models, buffer_sizes=known.buffer_sizes, seeds=known.seeds)


def _check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in words[1:]:
        assert re.search(rf"^[\w -]*\b{target}\b[\w -]*:", makefile, re.M), f"the Makefile has no target {target}"


def _check_install(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"\[(.*?)\]", " ".join(words)):
        missing = set(extras.split(",")) - project["optional-dependencies"].keys()
        assert not missing, f"pyproject.toml has no extra {missing}"


def _check_script(words: list[str]) -> None:
    """A file of the repository, or a module of it, that knows the flags by name."""
    given = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
    text = (ROOT / given).read_text(encoding="utf-8")
    for flag in (word for word in words if word.startswith("--")):
        assert f'"{flag}"' in text, f"{given} has no flag {flag}"


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "synergy run": _check_run,
    "synergy reproduce": _check_reproduce,
    "python main.py": _check_run,
    "make": _check_make,
    "pip install": _check_install,
    "python": _check_script,
}
"""How a command that is not run is checked, by its beginning."""


def check_text(block: Block) -> None:
    """A block that is neither Python nor commands is valid in its language."""
    if block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "json":
        json.loads(block.text)


def all_shown(printed: str, shown: list[str]) -> bool:
    """Whether each line that is shown was printed, in this order."""
    lines = iter(printed.splitlines())
    return all(any(close_line(line, wanted) for line in lines) for wanted in shown if wanted != "...")


def close_line(printed: str, shown: str) -> bool:
    """`...` within a line stands for any text, where the rest is the same."""
    if "..." in shown:
        return re.fullmatch(".*".join(map(re.escape, shown.split("..."))), printed) is not None
    return close(printed, shown)


def close(printed: str, shown: str) -> bool:
    """The same words, and numbers that other processors may round otherwise: within 5 or a tenth."""
    if NUMBER.split(printed) != NUMBER.split(shown):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return all(math.isclose(float(one), float(other), rel_tol=0.1, abs_tol=5) for one, other in pairs)


def differ(page: str, shown: str, printed: str) -> str:
    """The message of a test."""
    return f"{page} shows\n{shown}\nbut this was printed:\n{printed}"
