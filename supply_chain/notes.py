"""Print the notes of a release, its part of the CHANGELOG: `python supply_chain/notes.py 0.1.0`.

It fails if the package is another release, or if the CHANGELOG says nothing about it or that it is not released.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python supply_chain/notes.py VERSION")
    try:
        print(notes(sys.argv[1], (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), package_version()))
    except ValueError as error:
        sys.exit(f"notes: {error}")


def package_version() -> str:
    """The release that this source tree says it is. It is read, not imported: nothing is installed yet."""
    source = (ROOT / "synergy" / "release.py").read_text(encoding="utf-8")
    found = re.search(r'^VERSION = "(.+)"$', source, re.MULTILINE)
    if found is None:
        raise ValueError("synergy/release.py has no VERSION")
    return found[1]


def notes(release: str, changelog: str, package: str) -> str:
    """The text below the heading `## RELEASE` or `## RELEASE (DATE)`.

    Raises:
        ValueError: the package is another release; there is no such heading, or it says "not released"; or the text is
            missing.
    """
    if release != package:
        raise ValueError(f"given {release}; synergy/release.py says {package}")
    parts = re.split(r"^## (.+)\n", changelog, flags=re.MULTILINE)
    found = {heading: text.strip() for heading, text in zip(parts[1::2], parts[2::2], strict=True)}
    matching = [heading for heading in found if heading.split(" ")[0] == release]
    if not matching or "not released" in matching[0]:
        raise ValueError(f"CHANGELOG.md has no heading '## {release} (DATE)'; it has {', '.join(found)}")
    if not found[matching[0]]:
        raise ValueError(f"CHANGELOG.md says nothing below '## {matching[0]}'")
    return found[matching[0]]


if __name__ == "__main__":
    main()
