"""What the pages show is what their code prints."""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from docs import generate
from synergy.methods import METHODS
from synergy.scenarios import SCENARIOS

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/streams.md", "docs/python.md", "docs/cheatsheet.md")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?|```console\n\$ synergy (.*?)\n(.*?)```", re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")


class Block(NamedTuple):
    """A piece of Python on a page, and what is shown below it; of a command, only some lines are."""

    code: str
    shown: str | None
    only_some: bool


def blocks(page: str) -> Iterator[Block]:
    """The pieces of Python and the commands on a page. A piece that begins with the name of a file is that file too."""
    for code, shown, command, lines in BLOCK.findall((ROOT / page).read_text()):
        if command:
            yield Block(f"from synergy.terminal.cli import main\nmain({shlex.split(command)})", lines, True)
        elif name := FILE.match(code):
            yield Block(
                f"{code}\nfrom pathlib import Path\nPath({name[1]!r}).write_text({code!r})", shown or None, False
            )
        else:
            yield Block(code, shown or None, False)


def is_printed(printed: str, block: Block) -> bool:
    """Whether all that is shown was printed, in this order. Of a command, three dots stand for what is left out."""
    assert block.shown is not None
    if not block.only_some:
        return close(printed, block.shown)
    lines = iter(printed.splitlines())
    return all(any(close(line, wanted) for line in lines) for wanted in block.shown.splitlines() if wanted != "...")


def close(printed: str, shown: str) -> bool:
    """The same words, and numbers that other processors may round otherwise: within 5 or a tenth."""
    if NUMBER.split(printed) != NUMBER.split(shown):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return all(math.isclose(float(one), float(other), rel_tol=0.1, abs_tol=5) for one, other in pairs)


@pytest.mark.parametrize("page", [*PAGES, pytest.param("docs/own_networks.md", marks=pytest.mark.slow)])
def test_the_code_prints_what_is_shown(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    some_shown = False
    # A user's network is initialised by torch itself, from the global generator.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in blocks(page):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(block.code, page, "exec"), names)
            if block.shown is not None:
                some_shown = True
                assert is_printed(output.getvalue(), block), (
                    f"{page} shows\n{block.shown}\nbut this was printed:\n{output.getvalue()}"
                )
    assert some_shown, f"nothing is shown on {page}"


def test_a_difference_would_be_seen() -> None:
    assert close("accuracy 81.2 of [1, 2]\n", "accuracy 80.9 of [1, 2]\n")
    assert not close("accuracy 81.2\n", "accuracy 61.2\n")
    assert not close("accuracy 81.2\n", "precision 81.2\n")
    assert is_printed("one 1\ntwo 2\nthree 3\n", Block("", "one 1\n...\nthree 3\n", True))
    assert not is_printed("one 1\ntwo 2\n", Block("", "two 2\none 1\n", True))


def test_the_readme_needs_ten_lines() -> None:
    (block,) = blocks("README.md")
    assert len([line for line in block.code.splitlines() if line]) <= 10


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: str(page.relative_to(generate.FOLDER)))
def test_what_a_page_takes_from_the_code_is_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generate.regenerated(text) == text, f"{page.name} is out of date: run 'make docs'"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        *((name, ("reference", "facts", "rule", "options", "deviations")) for name in METHODS),
        *((name, ("facts", "options")) for name in SCENARIOS),
    ],
)
def test_every_method_and_scenario_has_its_part_of_a_page(name: str, kinds: tuple[str, ...]) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in generate.pages())
    for kind in kinds:
        assert text.count(f"<!-- generated: {kind} {name} -->") == 1


def test_a_region_is_written_anew_and_the_text_around_it_stays() -> None:
    before = "By hand.\n<!-- generated: options er -->\n| `--lr` | of old | 7 | |\n<!-- end -->\nBy hand, too.\n"
    after = generate.regenerated(before)
    assert after.startswith("By hand.\n") and after.endswith("\n<!-- end -->\nBy hand, too.\n")
    assert "of old" not in after
    assert "| `--buffer_size` | samples the memory holds | 500 | at least 1 |" in after
    assert generate.regenerated(after) == after


@pytest.mark.parametrize(("region", "given"), [("optoins er", "optoins"), ("options err", "err")])
def test_a_region_of_nothing_is_named(region: str, given: str) -> None:
    with pytest.raises(ValueError, match=f"'{given}'"):
        generate.regenerated(f"<!-- generated: {region} -->\n<!-- end -->\n")
