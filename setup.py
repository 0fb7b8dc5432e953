"""The package's page on an index; `pyproject.toml` has all the rest."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

README = Path(__file__).with_name("README.md")


def without_files(text: str) -> str:
    """Markdown that needs no file beside it: pictures are left out, a link to a file becomes its text."""
    pictures = re.sub(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n\n?", "", text, flags=re.MULTILINE)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", pictures)


if __name__ == "__main__":
    setup(
        long_description=without_files(README.read_text(encoding="utf-8")),
        long_description_content_type="text/markdown",
    )
