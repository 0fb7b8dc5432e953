"""Write the parts of docs/ that follow from the code: `make docs`, or `python -m docs.generate`.

A page marks such a part as a region. Its first word is one of `WRITERS`, its second a name of ours:

    <!-- generated: options er -->
    <!-- end -->

All text outside of regions is written by hand and stays.
"""

from __future__ import annotations

import inspect
import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from synergy.data import sources
from synergy.data.published import PUBLISHED, Published
from synergy.data.sources import Source, SourceInfo
from synergy.methods import METHOD_CLASSES, METHODS, method_class
from synergy.nets import NET_CLASSES
from synergy.options import Option
from synergy.runs import metrics
from synergy.scenarios import SCENARIO_CLASSES, SCENARIOS, scenario_class
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.types import Split

FOLDER = Path(__file__).parent
REGION = re.compile(r"(<!-- generated: (\w+)(?: ([\w-]+))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)
HEADING = re.compile(r"(Reference|Update rule|Deviations|Examples|Args|Attributes|Raises)\b[^:]*:")


def main() -> None:
    """Bring every page up to date."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := regenerated(text)) != text:
            page.write_text(new, encoding="utf-8")


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


def sections(owner: object) -> dict[str, str]:
    """The docstring of a class in parts: "" for its beginning, then by the first word of a heading.

    A part keeps its headings. One that comes twice, such as two paragraphs of deviations, is one part.
    """
    found: dict[str, list[str]] = {"": []}
    current = ""
    for paragraph in inspect.cleandoc(owner.__doc__ or "").split("\n\n"):
        if heading := HEADING.match(paragraph):
            current = heading[1]
        found.setdefault(current, []).append(paragraph)
    return {name: "\n\n".join(paragraphs) for name, paragraphs in found.items()}


def reference(name: str) -> str:
    """The line *Reference* of a method or a scenario."""
    return _prose(_described(name)["Reference"])


def rule(name: str) -> str:
    """The update rule of a method, as its docstring lays it out."""
    return f"```text\n{_described(name)['Update rule']}\n```"


def deviations(name: str) -> str:
    """Where a method or a scenario differs from its paper and from the published code."""
    paragraphs = _described(name)["Deviations"].split("\n\n")
    bare = (re.sub(r"^Deviations(?: (from [^:]*: )|: )", lambda heading: heading[1] or "", each) for each in paragraphs)
    return _prose("\n\n".join(paragraph[0].upper() + paragraph[1:] for paragraph in bare))


def options(name: str) -> str:
    """The flags of a method, a scenario or a network, with defaults and limits."""
    config = _class(name).Config
    rows = [(f"`--{each.name}`", each.help, _default(each), _allowed(each)) for each in config.specs()]
    return _table(("flag", "meaning", "default", "allowed"), rows) if rows else "It has no flags of its own."


def facts(name: str) -> str:
    """What a method or a scenario declares about itself."""
    rows = _method_facts(name) if name in METHODS else _scenario_facts(name)
    return _table(("", ""), list(rows))


def methods(_: str) -> str:
    """A line for each method."""
    rows = []
    for name in METHODS:
        kind = method_class(name)
        boundaries = "needed" if kind.needs_boundaries else ""
        rows.append((f"[`{name}`]({name}.md)", _summary(kind), boundaries, _protocols(kind.protocols)))
    return _table(("name", "what it does", "task boundaries", "answers under"), rows)


def scenarios(_: str) -> str:
    """A line for each scenario."""
    rows = []
    for name in SCENARIOS:
        stream = built(name)
        page = "digits" if stream.dataset == "digits" else name
        marked = f"{stream.n_tasks}" if stream.boundaries else f"{stream.n_tasks}, unmarked"
        rows.append((f"[`{name}`]({page}.md)", _summary(type(stream)), marked, ", ".join(stream.protocols)))
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
    }
)


@cache
def built(name: str) -> AnyScenario:
    """A scenario over blank images of the published number and size: what it says of itself needs no data."""
    kind = scenario_class(name)
    source = sources.load("digits") if kind.dataset == "digits" else _blank(PUBLISHED[kind.dataset])
    return kind(kind.Config(), StreamSetting(source, 0, kind.default_batch_size, torch.device("cpu")))


def _blank(data: Published) -> Source:
    def split(count: int) -> Split:
        raw = torch.zeros(1, dtype=torch.uint8).expand(count, data.channels, data.size, data.size)
        return Split(raw, torch.arange(count) % data.classes, tuple(range(data.classes)))

    info = SourceInfo(data.name, "blank", data.train_samples, data.test_samples, complete=True)
    return Source(info, split(data.train_samples), split(data.test_samples))


def _class(name: str) -> Any:
    for registry in (METHOD_CLASSES, SCENARIO_CLASSES, NET_CLASSES):
        if name in registry.table:
            return registry.load(name)
    raise ValueError(f"generated: given '{name}'; allowed: the name of a method, a scenario or a network")


def _described(name: str) -> dict[str, str]:
    """The docstring of a class in parts; what it leaves out is its base's."""
    found: dict[str, str] = {}
    for kind in reversed(_class(name).__mro__):
        if kind.__module__.startswith(("synergy.methods.", "synergy.scenarios.")) and "__doc__" in vars(kind):
            found |= sections(kind)
    return found


def _method_facts(name: str) -> Iterator[tuple[str, str]]:
    kind = method_class(name)
    yield "task boundaries", "needed" if kind.needs_boundaries else "not needed"
    yield "answers under", _protocols(kind.protocols)
    yield "learns from streams (`synergy.Learner`)", "no" if kind.needs_boundaries else "yes"
    yield "loss", "any that is a mean over samples" if kind.any_objective else "cross-entropy"
    if kind.only_batch_size is not None:
        yield "stream batch", f"{kind.only_batch_size}"
    yield "steps", "decided ahead" if kind.waits is None else f"wait for the device: {kind.waits}"
    if kind.trains_to_answer:
        yield "training", "when it is asked for an answer"


def _scenario_facts(name: str) -> Iterator[tuple[str, str]]:
    stream = built(name)
    samples = f"{len(stream.train):,} training and {len(stream.test):,} test images"
    net = stream.build_net(torch.Generator())
    parameters = sum(each.numel() for each in net.parameters())
    epochs = f"{stream.default_epochs} epoch" + "s" * (stream.default_epochs > 1)
    yield "tasks", f"{stream.n_tasks}" + ("" if stream.boundaries else ", their boundaries unmarked")
    yield "judged under", ", ".join(stream.protocols)
    yield "data", f"{stream.dataset}: {samples}, {'x'.join(map(str, stream.train.raw.shape[1:]))}"
    yield "network", f"`--net {stream.default_net}`, {stream.n_classes} outputs, {parameters:,} parameters"
    yield "training", f"batch {stream.default_batch_size}, {epochs}"


def _protocols(protocols: frozenset[str]) -> str:
    everything = ("class-IL", "task-IL", "domain-IL", "general")
    return "every protocol" if protocols == set(everything) else ", ".join(p for p in everything if p in protocols)


def _summary(kind: type) -> str:
    return " ".join(sections(kind)[""].split("\n\n")[0].split())


def _default(of: Option) -> str:
    if of.default is None:
        return ""
    return f"{of.default:g}" if isinstance(of.default, float) else str(of.default)


def _allowed(of: Option) -> str:
    limits = of.limits
    if limits.choices:
        return ", ".join(map(str, limits.choices))
    if limits.low is not None and limits.high is not None:
        return f"{limits.low:g} to {limits.high:g}"
    return f"at least {limits.low:g}" if limits.low is not None else ""


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
