"""Write what follows from the code: parts of docs/, and the rows of `synergy list`.

    make docs                   # or: python -m docs.generate

A page marks such a part as a region. Its first word is one of `WRITERS`, its second a name of ours:

    <!-- generated: options er -->
    <!-- end -->

All text outside of regions is written by hand and stays.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from synergy.methods import METHOD_CLASSES, METHODS, method_class
from synergy.nets import NET_CLASSES
from synergy.report.gather import gather
from synergy.report.groups import Choice, groups
from synergy.report.page import html
from synergy.report.tables import markdown, table
from synergy.runs import metrics
from synergy.scenarios import SCENARIO_CLASSES, SCENARIOS
from synergy.terminal import catalogue
from synergy.terminal.described import (
    allowed,
    built,
    default,
    inherited_sections,
    method_facts,
    protocols,
    scenario_facts,
    sections,
    summary,
)

FOLDER = Path(__file__).parent
STUDY = FOLDER.parent / "benchmarks" / "records" / "study.jsonl"
STUDY_PAGE = FOLDER / "study.html"
REGION = re.compile(r"(<!-- generated: (\w+)(?: ([\w-]+))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Bring every page up to date."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := regenerated(text)) != text:
            page.write_text(new, encoding="utf-8")
    catalogue.PATH.write_text(catalogue.written(), encoding="utf-8")
    STUDY_PAGE.write_text(study_page(), encoding="utf-8")


def pages() -> list[Path]:
    """The pages that have a region."""
    return [page for page in sorted(FOLDER.rglob("*.md")) if REGION.search(page.read_text(encoding="utf-8"))]


def regenerated(text: str) -> str:
    """A page with all its regions as the code is now.

    Raises:
        ValueError: a region is of an unknown kind, or of an unknown method, scenario or network.
    """

    def region(found: re.Match[str]) -> str:
        begin, kind, of, _, end = found.groups()
        if kind not in WRITERS:
            raise ValueError(f"generated: given '{kind}'; allowed: {', '.join(WRITERS)}")
        return f"{begin}{WRITERS[kind](of or '')}\n{end}"

    return REGION.sub(region, text)


def reference(name: str) -> str:
    """The line *Reference* of a method or a scenario."""
    return _prose(inherited_sections(_class(name))["Reference"])


def rule(name: str) -> str:
    """The update rule of a method, as its docstring lays it out."""
    return f"```text\n{inherited_sections(_class(name))['Update rule']}\n```"


def deviations(name: str) -> str:
    """Where a method or a scenario differs from its paper and from the published code."""
    paragraphs = inherited_sections(_class(name))["Deviations"].split("\n\n")
    bare = (re.sub(r"^Deviations(?: (from [^:]*: )|: )", lambda heading: heading[1] or "", each) for each in paragraphs)
    return _prose("\n\n".join(paragraph[0].upper() + paragraph[1:] for paragraph in bare))


def options(name: str) -> str:
    """The flags of a method, a scenario or a network, with defaults and limits."""
    config = _class(name).Config
    rows = [(f"`--{each.name}`", each.help, default(each), allowed(each)) for each in config.specs()]
    return _table(("flag", "meaning", "default", "allowed"), rows) if rows else "It has no flags of its own."


def facts(name: str) -> str:
    """What a method or a scenario declares about itself."""
    rows = method_facts(method_class(name)) if name in METHODS else scenario_facts(built(name))
    return _table(("", ""), list(rows))


def methods(_: str) -> str:
    """A line for each method."""
    rows = []
    for name in METHODS:
        kind = method_class(name)
        boundaries = "needed" if kind.needs_boundaries else ""
        rows.append((f"[`{name}`]({name}.md)", summary(kind), boundaries, protocols(kind.protocols)))
    return _table(("name", "what it does", "task boundaries", "answers under"), rows)


def scenarios(_: str) -> str:
    """A line for each scenario."""
    rows = []
    for name in SCENARIOS:
        stream = built(name)
        page = "digits" if stream.dataset == "digits" else name
        marked = f"{stream.n_tasks}" if stream.boundaries else f"{stream.n_tasks}, unmarked"
        rows.append((f"[`{name}`]({page}.md)", summary(type(stream)), marked, ", ".join(stream.protocols)))
    return _table(("name", "stream", "tasks", "judged under"), rows)


def metric_table(_: str) -> str:
    """A line for each metric, with its formula."""
    rows = [(metric.title, *_formula(vars(metrics)[metric.name])) for metric in metrics.METRICS]
    rows.append(("calibration error", *_formula(metrics.expected_calibration_error)))
    return _table(("metric", "formula", "source and range"), rows)


def streams(_: str) -> str:
    """Accuracy and cost of every model on every stream of `benchmarks/streams.py`, as its record has them."""
    record = json.loads((FOLDER.parent / "benchmarks" / "records" / "streams.json").read_text(encoding="utf-8"))
    names = list(next(iter(record["streams"].values()))["models"])
    accuracy, cost = [], []
    for stream, found in record["streams"].items():
        models = found["models"]
        means = {name: statistics.mean(models[name]["accuracy"]) for name in names}
        cells = [f"**{mean:.1f}**" if mean == max(means.values()) else f"{mean:.1f}" for mean in means.values()]
        accuracy.append((f"{stream} ({found['samples']:,} x {found['features']}, {found['classes']} classes)", *cells))
        cost.append((stream, *(f"{models[name]['microseconds']:.0f}" for name in names)))
    tables = _table(("accuracy, %", *names), accuracy), _table(("µs a sample", *names), cost)
    return "\n\n".join([*tables, f"Measured on {record['device']}, with river {record['versions']['river']}."])


def study(_: str) -> str:
    """The table of the study, from its records."""
    return markdown(table(groups(gather([STUDY]).records), Choice())).rstrip("\n")


def study_page() -> str:
    """The page of the study, from its records."""
    return html(gather([STUDY]), Choice())


WRITERS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "reference": reference,
        "rule": rule,
        "deviations": deviations,
        "options": options,
        "facts": facts,
        "methods": methods,
        "scenarios": scenarios,
        "metrics": metric_table,
        "streams": streams,
        "study": study,
    }
)


def _class(name: str) -> Any:
    for registry in (METHOD_CLASSES, SCENARIO_CLASSES, NET_CLASSES):
        if name in registry.table:
            return registry.load(name)
    raise ValueError(f"generated: given '{name}'; allowed: the name of a method, a scenario or a network")


def _formula(function: Callable[..., float | None]) -> tuple[str, str]:
    first, *others = sections(function)[""].split("\n\n")
    return " ".join(first.split()).removesuffix("."), " ".join(" ".join(others).split())


def _prose(text: str) -> str:
    """Text of a docstring as Markdown: a star outside of code is a star."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else piece.replace("*", r"\*") for piece in pieces)


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    first = "|".join(f" {cell} " if cell else " " for cell in heading)
    lines = (" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows)
    return "\n".join([f"|{first}|", "|---" * len(heading) + "|", *(f"| {line} |" for line in lines)])


if __name__ == "__main__":
    main()
