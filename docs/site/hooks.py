"""What MkDocs asks while it builds the site: pages that are not in docs/, and links that lead out of it.

README is the home page. CONTRIBUTING, CHANGELOG and their like are pages as they are. A notebook becomes a page with
its outputs. The reference has a page for each room of the package that has public names.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

import synergy
from synergy.terminal.described import sections

ROOT = Path(__file__).parent.parent.parent
PAGES = {
    "README.md": "index.md",
    "examples/README.md": "examples.md",
    **{name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")},
}
"""File of the repository -> page of the site."""
ALSO_PUBLIC = {
    "runs": ("synergy.runs.session.run", "synergy.runs.records.read", "synergy.runs.records.read_all"),
    "stream": ("synergy.stream.faces.river.RiverClassifier",),
    "memory": ("synergy.memory.base.Memory", "synergy.memory.base.DrawableMemory", "synergy.memory.base.Forgetful"),
    "testing": ("synergy.testing",),
}
"""Public names that are not at the top of `synergy`, by room."""
OVERVIEWS = ("README.md", "costs.md")
"""Pages of a folder that come before those of its single methods or scenarios."""
CODE_OR_LINK = re.compile(r"^```.*?^```$|!?\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)", re.M | re.S)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """In the list of pages a folder, such as `methods/`, stands for all its pages. A page left out joins "Use"."""
    nav = [_expanded(entry) for entry in config.nav or []]
    listed = {page for entry in nav for pages in entry.values() for page in pages}
    left_out = sorted({path.name for path in (ROOT / "docs").glob("*.md")} - listed)
    next(entry for entry in nav if "Use" in entry)["Use"].extend(left_out)
    config.nav = nav
    return config


def _expanded(entry: dict[str, Any]) -> dict[str, Any]:
    ((title, value),) = entry.items()
    if not isinstance(value, str) or not value.endswith("/"):
        return entry
    if value == "api/":
        return {title: sorted((page for page, _ in reference()), key=lambda page: (page != "api/index.md", page))}
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / value).glob("*.md")]
    return {title: sorted(pages, key=lambda page: (not page.endswith(OVERVIEWS), page))}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for source, page in PAGES.items():
        text = moved((ROOT / source).read_text(encoding="utf-8"), source, page)
        # The home page stands alone: it has no other pages beside it, and more room without their list.
        head = "---\nhide: [navigation]\n---\n" if page == "index.md" else ""
        files.append(File.generated(config, page, content=head + text))
    for page, text in reference():
        files.append(File.generated(config, page, content=text))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(notebook)
        for name, content in converted(ROOT / "docs" / notebook.src_uri).items():
            uri = posixpath.join(posixpath.dirname(notebook.src_uri), name)
            files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A link to a folder leads to its README. A link to a file of the repository that is no page becomes its text."""
    folder = posixpath.dirname(page.file.src_uri)

    def target(path: str, text: str) -> str | None:
        place = posixpath.normpath(posixpath.join(folder, path))
        in_repository = posixpath.normpath(posixpath.join("docs", place))
        at_root = PAGES.get(in_repository) or PAGES.get(f"{in_repository}/README.md")
        for each in (at_root or place, f"{place}/README.md", re.sub(r"\.ipynb$", ".md", place)):
            if files.get_file_from_path(each) is not None:
                return posixpath.relpath(each, folder or ".")
        return None if (ROOT / "docs" / place).exists() else path

    text = markdown.replace("```text\nUpdate rule", "``` { .text .rule }\nUpdate rule")  # the style breaks its lines
    return with_links(re.sub(r"^\|.*", unbroken, text, flags=re.M), target)


def unbroken(row: re.Match[str]) -> str:
    """The row of a table, where a mean and its deviation stay on one line."""
    return row[0].replace(" ± ", "\u00a0±\u00a0")


def moved(text: str, source: str, page: str) -> str:
    """A file of the repository as it reads at the place of its page, in docs/."""

    def target(path: str, _: str) -> str:
        place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        seen = PAGES.get(place) or PAGES.get(f"{place}/README.md") or posixpath.relpath(place, "docs")
        return posixpath.relpath(seen, posixpath.dirname(page) or ".")

    return with_links(text, target)


def with_links(text: str, target: Callable[[str, str], str | None]) -> str:
    """Markdown whose links to files lead to `target(path, text)`; where that is None, the text stays alone."""

    def link(found: re.Match[str]) -> str:
        path, mark, anchor = (found["target"] or "#").partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return found[0]
        new = target(path, found["text"])
        return found["text"] if new is None else found[0].replace(f"]({found['target']})", f"]({new}{mark}{anchor})")

    return CODE_OR_LINK.sub(link, text)


def reference() -> Iterator[tuple[str, str]]:
    """Page and text of the reference: a page for each room, and an index."""
    rooms: dict[str, list[str]] = defaultdict(list)
    for name in synergy.__all__:
        if name != "__version__":
            home = synergy._HOMES[name]
            rooms[home.split(".")[0]].append(f"synergy.{home}.{name}")
    for room, others in ALSO_PUBLIC.items():
        rooms[room].extend(others)
    rows = []
    for room, names in sorted(rooms.items()):
        names.sort(key=lambda name: name.split(".")[-1].lower())
        summary = " ".join(sections(import_module(f"synergy.{room}"))[""].split("\n\n")[0].split())
        shown = ", ".join(f"`{name.split('.')[-1]}`" for name in names)
        rows.append(f"| [`synergy.{room}`]({room}.md) | {summary} | {shown} |")
        yield f"api/{room}.md", "\n\n".join([f"# synergy.{room}", summary, *(f"::: {name}" for name in names)])
    head = "# Reference\n\nWritten from the docstrings.\n\n| room | what it is | public names |\n|---|---|---|\n"
    yield "api/index.md", head + "\n".join(rows) + "\n"


def converted(path: Path) -> dict[str, str | bytes]:
    """A notebook as a page, and the pictures in it: name of a file -> content."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    text, resources = MarkdownExporter().from_notebook_node(notebook)
    files: dict[str, str | bytes] = {}
    for name, content in resources["outputs"].items():
        own = f"{path.stem}-{name}"
        text = text.replace(f"({name})", f"({own})")
        files[own] = content
    return files | {f"{path.stem}.md": text}


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """What a cell printed at several moments, as one output."""
    together: list[nbformat.NotebookNode] = []
    for output in outputs:
        if together and output.output_type == together[-1].output_type == "stream":
            together[-1].text += output.text
        else:
            together.append(output)
    return together
