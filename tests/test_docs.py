"""What the pages show is what their code prints."""

from __future__ import annotations

import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from docs import generate
from synergy.errors import UsageError
from synergy.methods import METHODS
from synergy.scenarios import SCENARIOS
from synergy.terminal.cli import COMMANDS
from tests.pages import (
    BLOCK,
    LANGUAGES,
    NOT_RUN,
    PAGES,
    ROOT,
    all_shown,
    blocks,
    called,
    check,
    close,
    commands,
    run_page,
)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


QUICK = ("CONTRIBUTING.md", "docs/cheatsheet.md", "docs/python.md", "docs/streams.md")
"""Pages whose code takes a few seconds."""
WITH_CODE = [
    page for page in PAGES if re.search("^```(python|console|sh|toml)$", (ROOT / page).read_text("utf-8"), re.M)
]
COMMAND = re.compile(r"^(\$ |synergy [a-z]|python |pip )", re.M)
INDENTED = re.compile(r"\n\n    (synergy|python|pip|make|from|import|[A-Z_]+=\S+) ")
IN_A_SENTENCE = re.compile(r"(?<!`)`(synergy [^`]+)`(?!`)")


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[] if page in QUICK else pytest.mark.slow) for page in WITH_CODE]
)
def test_the_code_of_a_page_runs_and_prints_what_is_shown(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    # A user's network is initialised by torch itself, from the global generator.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        run_page(read(page), page)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_run_or_checked(page: str) -> None:
    text = read(page)
    found = list(blocks(text))
    fences = sum(4 if block.shown else 2 for block in found)
    assert len(re.findall("^ *```", text, re.M)) == fences, f"{page}: a block is indented or not closed"
    for block in found:
        assert block.language in LANGUAGES, f"{page}: tests/pages.py does not know {block.language!r}:\n{block.text}"
        if block.language == "text":
            assert not COMMAND.search(block.text), f"{page}: these are commands, `sh` or `console`:\n{block.text}"
    assert not INDENTED.search(BLOCK.sub("", text)), f"{page}: code without a fence"


def test_commands_that_are_not_run_are_right_and_each_reason_is_needed() -> None:
    needed = set()
    for page in PAGES:
        for block in blocks(read(page)):
            for command in commands(block) if block.language in ("console", "sh") else ():
                if command.reason is not None:
                    check(command)
                    needed.add(command.reason)
    assert needed == set(NOT_RUN.values())


@cache
def help_of(*words: str) -> str:
    return called([*words, "--help"])[1]


def flags_of(words: list[str]) -> set[str]:
    """The flags of a command, with those of the classes that it names, else of usual ones."""
    given = dict(pairwise(words))
    names = ("--dataset", given.get("--dataset", "rot-digits"), "--model", given.get("--model", "synergy"))
    shown = help_of(words[0]) + (help_of("run", *names) if words[0] in ("run", "study") else "")
    return set(re.findall(r"--[\w-]+", shown)) | {"--help"}


def wrong_in_sentences(text: str) -> list[str]:
    """The commands within sentences that do not exist, or whose flags do not."""
    wrong = []
    for command in IN_A_SENTENCE.findall(BLOCK.sub("", text)):
        words = shlex.split(command.replace("…", "rot-digits"))[1:]
        exists = words[0].startswith("-") or words[0] in COMMANDS
        if not exists or not {word for word in words[1:] if word.startswith("--")} <= flags_of(words):
            wrong.append(command)
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_a_command_within_a_sentence_has_flags_that_exist(page: str) -> None:
    assert wrong_in_sentences(read(page)) == []


def test_a_wrong_command_is_seen() -> None:
    text = "Say `synergy runn`, `synergy report runs --picturr a.png`, `synergy run --model er --buffer_size 3`."
    assert wrong_in_sentences(text) == ["synergy runn", "synergy report runs --picturr a.png"]


def test_a_difference_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page("```python\nprint(81.2)\n```\n\n```text\n80.9\n```\n", "page")
    for wrong in (
        "```python\nprint(81.2)\n```\n\n```text\n61.2\n```\n",
        "```python\nassert False\n```\n",
        "```sh\nsynergy run --dataset rot-digits   # no method\n```\n",
        "```console\n$ synergy list\nNo method\n```\n",
        "```sh\nmake coffee\n```\n",
        "```sh\nsynergy run --dataset rot-mnist --model er --penalty_weight 1\n```\n",
        "```sh\npip install '.[reports]'\n```\n",
        "```sh\npython benchmarks/streams.py --no_such_flag\n```\n",
    ):
        with pytest.raises((AssertionError, UsageError)):
            run_page(wrong, "page")


def test_lines_are_compared() -> None:
    assert close("accuracy 81.2 of [1, 2]\n", "accuracy 80.9 of [1, 2]\n")
    assert not close("accuracy 81.2\n", "accuracy 61.2\n")
    assert not close("accuracy 81.2\n", "precision 81.2\n")
    assert all_shown("one 1\ntwo 2\nthree 3\n", ["one 1", "...", "th...3"])
    assert not all_shown("one 1\ntwo 2\n", ["two 2", "one 1"])
    assert not all_shown("one 1\ntwo 2\n", ["o...3"])


def test_the_readme_needs_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in blocks(read("README.md")) if block.language == "python"]
    assert len([line for line in block.text.splitlines() if line]) <= 10
    with torch.random.fork_rng():
        run_page(f"```python\n{block.text}```\n\n```text\n{block.shown}```\n", "README.md")


@pytest.mark.parametrize("name", [*PAGES, *(f"docs/tutorials/{name}.ipynb" for name in ("paper", "stream", "method"))])
def test_the_method_is_spelled_as_its_paper_does(name: str) -> None:
    """`synergy` is the package, the command and the key of the method."""
    assert set(re.findall("synergy", read(name), re.I)) <= {"SYNERgy", "synergy", "Synergy", "SYNERGY"}


def test_the_page_of_the_study_is_that_of_its_records() -> None:
    assert generate.STUDY_PAGE.read_text(encoding="utf-8") == generate.study_page(), "out of date: run 'make docs'"


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
