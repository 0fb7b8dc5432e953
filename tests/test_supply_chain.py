"""The locks pin and hash all that is installed; the audit never calls a package safe that it has not looked up."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from typing import Any

import pytest

from supply_chain.audit import verdict
from supply_chain.lock import CUDA, CUDA_LOCK, HASH, LOCK, ROOT, UNLOCKED, entries, with_hashes

ENTRIES = entries(LOCK.read_text(encoding="utf-8"))
CUDA_ENTRIES = entries(CUDA_LOCK.read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", [*ENTRIES.values(), *CUDA_ENTRIES.values()], ids=[*ENTRIES, *CUDA_ENTRIES])
def test_every_entry_is_pinned_and_hashed(entry: str) -> None:
    pin, *others = entry.split(" \\\n")
    assert re.fullmatch(r"[\w.-]+==[\w.+]+( ; .+)?", pin)
    assert others and all(HASH.match(other.strip()) for other in others)


def test_the_locks_hold_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [asked for name, asked in project["optional-dependencies"].items() if name not in UNLOCKED]
    asked = [*project["dependencies"], *itertools.chain(*extras)]
    assert {re.split(r"[><=\[]", each)[0] for each in asked} - {project["name"]} <= ENTRIES.keys()


def test_a_machine_without_a_gpu_build_of_torch_needs_one_lock_only() -> None:
    assert not [name for name in ENTRIES if name.startswith(CUDA)]
    assert CUDA_ENTRIES and all(name.startswith(CUDA) for name in CUDA_ENTRIES)
    # PyPI's files are for several platforms and versions of Python.
    assert len(HASH.findall(ENTRIES["torch"])) > 5


def test_hashes_are_added_to_an_entry() -> None:
    a, b, c = (f"sha256:{digit * 64}" for digit in "abc")
    before = f"torch==2.0 ; x \\\n    --hash={b} \\\n    --hash={c}\n    # via me\n"
    after = f"torch==2.0 ; x \\\n    --hash={a} \\\n    --hash={b} \\\n    --hash={c}\n    # via me\n"
    assert with_hashes(before, [a, b]) == after
    assert with_hashes(after, []) == after
    assert entries("# head\n" + before + "tqdm==1 \\\n    --hash=x\n") == {
        "torch": before,
        "tqdm": "tqdm==1 \\\n    --hash=x\n",
    }


def report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


SAFE = {"name": "safe", "version": "1.0", "vulns": []}
HARMFUL = {"name": "harmful", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited: unknown (3.0)"}


@pytest.mark.parametrize(
    ("report", "errors", "code", "parts"),
    [
        (report(SAFE, SAFE), "", 0, ["2 packages"]),
        (report(SAFE, HARMFUL), "", 1, ["harmful 2.0", "PYSEC-1", "2.1"]),
        (report(HARMFUL, UNKNOWN), "", 1, ["harmful 2.0"]),
        (report(UNKNOWN, UNKNOWN), "", 2, ["cannot be reached", "none of 2"]),
        (report(SAFE, UNKNOWN), "", 2, ["1 of 2", "unknown"]),
        ("", "Traceback ...\nConnectionError: api.osv.dev\n", 2, ["ConnectionError: api.osv.dev"]),
        ("", "", 2, ["nothing was looked up"]),
    ],
)
def test_only_what_was_looked_up_is_called_safe(report: str, errors: str, code: int, parts: list[str]) -> None:
    found, text = verdict(report, errors)
    assert found == code
    assert text.startswith("audit: ") and (code == 1 or "\n" not in text)
    for part in parts:
        assert part in text
