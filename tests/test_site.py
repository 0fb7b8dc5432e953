"""The site builds without a warning, holds together by itself, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import pytest

import synergy
from docs.site.hooks import converted, moved, with_links

ROOT = Path(__file__).parent.parent
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src")}


class Targets(HTMLParser):
    """What a page loads, what it links to, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if (tag, name) in LOADED and value:
                self.loads.append(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.append(value)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "built"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"PYTHONPATH": ".", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    pages = {path: Targets(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.stem != "404"}
    assert len(pages) > 50
    for page, targets in pages.items():
        for target in targets.loads + targets.links:
            if target.startswith(("https:", "data:", "javascript:")):
                continue
            path, anchor = urldefrag(target)
            place = (page.parent / unquote(path)).resolve() if path else page
            assert place.exists(), f"{page.relative_to(site)} leads to {target}"
            if anchor and place in pages:
                assert unquote(anchor) in pages[place].anchors, f"{page.relative_to(site)} leads to {target}"


@pytest.mark.slow
def test_pages_from_outside_of_docs_are_linked(site: Path) -> None:
    links = Targets((site / "tutorials" / "method.html").read_text(encoding="utf-8")).links
    assert "../CONTRIBUTING.html#a-new-method" in links


@pytest.mark.slow
def test_the_lines_of_a_rule_are_broken_to_the_width_of_the_page(site: Path) -> None:
    for page in (site / "methods").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert ('class="rule highlight"' in text) == ('id="rule"' in text), page


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loads = Targets(page.read_text(encoding="utf-8")).loads
        assert [each for each in loads if each.startswith(("http:", "https:", "//"))] == [], page


@pytest.mark.slow
def test_the_search_and_the_reference_know_every_public_name(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    reference = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
    for name in set(synergy.__all__) - {"__version__"}:
        assert name in index
        assert f".{name}" in reference


def test_links_follow_a_page_that_moves() -> None:
    text = "[terms](docs/terms.md#metrics), [how](CONTRIBUTING.md), ![a](docs/a.png), [x](https://x.org), [y](#here)"
    expected = "[terms](terms.md#metrics), [how](CONTRIBUTING.md), ![a](a.png), [x](https://x.org), [y](#here)"
    assert moved(text, "README.md", "index.md") == expected


def test_a_link_to_nowhere_becomes_its_text_and_code_stays() -> None:
    text = "A [file](../a.py).\n\n```text\n[file](../a.py)\n```\n"
    assert with_links(text, lambda path, text: None) == "A file.\n\n```text\n[file](../a.py)\n```\n"


def test_a_notebook_becomes_a_page_with_its_outputs(tmp_path: Path) -> None:
    picture = nbformat.v4.new_output("display_data", {"image/png": "aGVsbG8="})
    pieces = [nbformat.v4.new_output("stream", text=text) for text in ("one\n", "two\n")]
    code = nbformat.v4.new_code_cell("1 + 1", outputs=[*pieces, picture])
    cells = [nbformat.v4.new_markdown_cell("# Title"), code]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "walk.ipynb")
    files = converted(tmp_path / "walk.ipynb")
    text = files.pop("walk.md")
    assert isinstance(text, str) and text.lstrip().startswith("# Title")
    assert "```python\n1 + 1\n```" in text, "the site shows code in colours"
    assert "    one\n    two\n" in text, "what was printed in two pieces is one output"
    ((name, content),) = files.items()
    assert content == b"hello" and f"({name})" in text
