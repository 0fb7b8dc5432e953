"""Look for known vulnerabilities in what the locks install: `make audit`.

Exit code 0: every package was looked up, none has a known vulnerability. 1: some have, one line each. 2: packages
could not be looked up; one line says why.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-cuda.lock")


def main() -> int:
    locks = [part for lock in LOCKS for part in ("--requirement", str(ROOT / lock))]
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(
        [*command, "--require-hashes", "--disable-pip", *locks], capture_output=True, text=True, check=False
    )
    code, text = verdict(done.stdout, done.stderr)
    print(text)
    return code


def verdict(report: str, errors: str) -> tuple[int, str]:
    """Exit code and text for a report of pip-audit (JSON, empty if it broke off) and for what it said on stderr."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        last = (errors.strip().splitlines() or ["it said nothing"])[-1]
        return 2, f"audit: nothing was looked up; pip-audit failed: {last}"
    known = [(package, each) for package in packages for each in package.get("vulns", [])]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if known:
        lines = [f"{p['name']} {p['version']}: {each['id']}, mended in {_mended(each)}" for p, each in known]
        return 1, "\n".join(["audit: known vulnerabilities", *lines])
    if len(skipped) == len(packages):
        return 2, f"audit: the database cannot be reached; none of {len(packages)} packages was looked up"
    if skipped:
        return 2, f"audit: {len(skipped)} of {len(packages)} packages could not be looked up: {', '.join(skipped)}"
    return 0, f"audit: no known vulnerability in {len(packages)} packages"


def _mended(vulnerability: dict[str, Any]) -> str:
    return ", ".join(vulnerability.get("fix_versions", [])) or "no version yet"


if __name__ == "__main__":
    sys.exit(main())
