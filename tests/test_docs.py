"""What the pages show is what their code prints."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from docs import generate
from synergy.methods import METHODS
from synergy.scenarios import SCENARIOS

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/streams.md", "docs/python.md")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def blocks(page: str) -> Iterator[tuple[str, str | None]]:
    """Each piece of Python on a page, and what is shown right below it."""
    found = re.finditer(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", (ROOT / page).read_text(), re.DOTALL)
    yield from ((match[1], match[2]) for match in found)


def close(printed: str, shown: str) -> bool:
    """The same words, and numbers that other processors may round otherwise: within 5 or a tenth."""
    if NUMBER.split(printed) != NUMBER.split(shown):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return all(math.isclose(float(one), float(other), rel_tol=0.1, abs_tol=5) for one, other in pairs)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_prints_what_is_shown(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    some_shown = False
    # A user's network is initialised by torch itself, from the global generator.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for code, shown in blocks(page):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(code, page, "exec"), names)
            if shown is not None:
                some_shown = True
                assert close(output.getvalue(), shown), (
                    f"{page} shows\n{shown}\nbut this was printed:\n{output.getvalue()}"
                )
    assert some_shown, f"nothing is shown on {page}"


def test_a_difference_would_be_seen() -> None:
    assert close("accuracy 81.2 of [1, 2]\n", "accuracy 80.9 of [1, 2]\n")
    assert not close("accuracy 81.2\n", "accuracy 61.2\n")
    assert not close("accuracy 81.2\n", "precision 81.2\n")


def test_the_readme_needs_ten_lines() -> None:
    ((code, _),) = blocks("README.md")
    assert len([line for line in code.splitlines() if line]) <= 10


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
