"""What stands around the package: forms, workflows, citation and release notes, valid and true."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from supply_chain.notes import notes
from synergy.release import VERSION

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.github-issue-config", [ROOT / ".github/ISSUE_TEMPLATE/config.yml"]),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_files_for_a_code_host_are_valid(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert files and done.returncode == 0, done.stdout + done.stderr


def test_hosted_ci_runs_what_ci_runs_on_three_systems() -> None:
    job = read(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]
    assert set(job["strategy"]["matrix"]["os"]) == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]


def test_hosted_ci_tries_every_python_that_the_package_names() -> None:
    matrix = read(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    tried = {*matrix["python"], *(each["python"] for each in matrix["include"])}
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert tried == set(named)


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / ".pre-commit-config.yaml"], ids=lambda path: path.name)
def test_every_make_target_and_script_that_is_called_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"run: make ([\w-]+)", text):
        assert re.search(rf"^[\w -]*\b{target}\b[\w -]*:", makefile, re.MULTILINE), target
    for script in re.findall(r"python ([\w/]+\.py)|bash (\S+)", text):
        assert (ROOT / "".join(script)).is_file(), script


def test_a_release_is_published_only_from_a_tag_and_after_its_tests() -> None:
    workflow = read(ROOT / ".github/workflows/release.yml")
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML reads the key `on` as true
    assert workflow["jobs"]["publish"]["needs"] == "build"
    assert "bash .ci/run" in [step.get("run") for step in workflow["jobs"]["build"]["steps"]]


def test_the_citation_is_of_this_release_and_the_readme_has_the_same_paper() -> None:
    citation = read(ROOT / "CITATION.cff")
    paper, readme = citation["preferred-citation"], (ROOT / "README.md").read_text(encoding="utf-8")
    assert citation["version"] == VERSION
    bibtex = dict(re.findall(r"^  (\w+) += \{(.*)\},?$", readme, re.MULTILINE))
    assert bibtex["title"] == f"{{{paper['title']}}}"
    assert bibtex["author"] == " and ".join(
        f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]
    )
    assert (bibtex["year"], bibtex["volume"], bibtex["url"]) == ("2022", str(paper["volume"]), paper["url"])
    assert bibtex["pages"] == f"{paper['start']}--{paper['end']}"


def test_the_devcontainer_installs_from_the_lock() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert container["postCreateCommand"] == "make .venv/installed"
    assert re.search(r"^\.venv/installed:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


CHANGELOG = "# Changelog\n\n## Unreleased\n\n- new\n\n## 1.1 (2027-01-01)\n\n- old\n- older\n\n## 1.0\n\n"


def test_notes_are_the_part_of_the_changelog() -> None:
    assert notes("1.1", CHANGELOG, "1.1") == "- old\n- older"


@pytest.mark.parametrize(
    ("release", "changelog", "package", "part"),
    [
        ("1.2", CHANGELOG, "1.1", "given 1.2; synergy/release.py says 1.1"),
        ("1.2", CHANGELOG, "1.2", "no heading '## 1.2 (DATE)'; it has Unreleased, 1.1 (2027-01-01), 1.0"),
        ("1.1", "## 1.1 (not released yet)\n\n- old\n", "1.1", "no heading '## 1.1 (DATE)'"),
        ("1.0", CHANGELOG, "1.0", "says nothing below '## 1.0'"),
    ],
)
def test_notes_of_what_is_not_to_be_released(release: str, changelog: str, package: str, part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        notes(release, changelog, package)


def test_the_script_says_why_it_fails() -> None:
    command = [sys.executable, str(ROOT / "supply_chain/notes.py"), "0.0.7"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1 and done.stderr == f"notes: given 0.0.7; synergy/release.py says {VERSION}\n"
