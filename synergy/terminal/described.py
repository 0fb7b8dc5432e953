"""What a method, a scenario or a network says of itself: the parts of its docstring, facts, options.

The command line shows them, and the pages of docs/ are made of them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import nn

from synergy.data import sources
from synergy.data.published import PUBLISHED, Published
from synergy.data.sources import Source, SourceInfo
from synergy.errors import counted
from synergy.methods.base import Method
from synergy.options import Option
from synergy.scenarios import scenario_class
from synergy.scenarios.base import AnyScenario, Scenario, StreamSetting
from synergy.types import Split

HEADING = re.compile(r"(Reference|Update rule|Deviations|Examples|Args|Attributes|Raises)\b[^:]*:")
EVERY_PROTOCOL = ("class-IL", "task-IL", "domain-IL", "general")


def sections(owner: object) -> dict[str, str]:
    """The docstring of a class in parts: "" for its beginning, then by the first word of a heading.

    A part keeps its headings. One that comes twice, such as two paragraphs of deviations, is one part.

    Examples:
        >>> from synergy.methods.er import ER
        >>> sections(ER)["Deviations"]
        'Deviations: none.'
    """
    found: dict[str, list[str]] = {"": []}
    current = ""
    for paragraph in inspect.cleandoc(owner.__doc__ or "").split("\n\n"):
        if heading := HEADING.match(paragraph):
            current = heading[1]
        found.setdefault(current, []).append(paragraph)
    return {name: "\n\n".join(paragraphs) for name, paragraphs in found.items()}


def inherited_sections(kind: type[Any]) -> dict[str, str]:
    """The docstring of a class in parts; what it leaves out is its base's."""
    found: dict[str, str] = {}
    bases = [each for each in kind.__mro__ if issubclass(each, Method | Scenario | nn.Module)]
    for each in reversed(bases):
        if vars(each).get("__doc__") and not each.__module__.startswith("torch."):
            found |= sections(each)
    return found


def summary(kind: type[Any]) -> str:
    """What a class is, in a sentence or two: the first paragraph of its docstring."""
    return " ".join(sections(kind)[""].split("\n\n")[0].split())


def protocols(of: frozenset[str]) -> str:
    """How a method's answers may be judged."""
    return "every protocol" if of == set(EVERY_PROTOCOL) else ", ".join(p for p in EVERY_PROTOCOL if p in of)


def default(of: Option) -> str:
    """The default of an option; empty for an option that is left open."""
    if of.default is None:
        return ""
    return f"{of.default:g}" if isinstance(of.default, float) else str(of.default)


def allowed(of: Option) -> str:
    """The values that an option takes; empty if that is all of its type."""
    limits = of.limits
    if limits.choices:
        return ", ".join(map(str, limits.choices))
    if limits.low is not None and limits.high is not None:
        return f"{limits.low:g} to {limits.high:g}"
    return f"at least {limits.low:g}" if limits.low is not None else ""


def method_facts(kind: type[Method[Any]]) -> Iterator[tuple[str, str]]:
    """What a method declares about itself, in pairs."""
    yield "task boundaries", "needed" if kind.needs_boundaries else "not needed"
    yield "answers under", protocols(kind.protocols)
    yield "learns from streams (`synergy.Learner`)", "no" if kind.needs_boundaries else "yes"
    yield "loss", "any that is a mean over samples" if kind.any_objective else "cross-entropy"
    if kind.only_batch_size is not None:
        yield "stream batch", f"{kind.only_batch_size}"
    yield "steps", "decided ahead" if kind.waits is None else f"wait for the device: {kind.waits}"
    if kind.trains_to_answer:
        yield "training", "when it is asked for an answer"


def scenario_facts(stream: AnyScenario) -> Iterator[tuple[str, str]]:
    """What a scenario is made of, in pairs."""
    samples = f"{len(stream.train):,} training and {len(stream.test):,} test images"
    net = stream.build_net(torch.Generator())
    parameters = sum(each.numel() for each in net.parameters())
    epochs = counted(stream.default_epochs, "epoch")
    yield "tasks", f"{stream.n_tasks}" + ("" if stream.boundaries else ", their boundaries unmarked")
    yield "judged under", ", ".join(stream.protocols)
    yield "data", f"{stream.dataset}: {samples}, {'x'.join(map(str, stream.train.raw.shape[1:]))}"
    yield "network", f"`--net {stream.default_net}`, {stream.n_classes} outputs, {parameters:,} parameters"
    yield "training", f"batch {stream.default_batch_size}, {epochs}"


@cache
def built(name: str) -> AnyScenario:
    """One of our scenarios over blank images of the published number and size: what it says of itself needs no data."""
    kind = scenario_class(name)
    source = sources.load("digits") if kind.dataset == "digits" else _blank(PUBLISHED[kind.dataset])
    return kind(kind.Config(), StreamSetting(source, 0, kind.default_batch_size, torch.device("cpu")))


def _blank(data: Published) -> Source:
    def split(count: int) -> Split:
        raw = torch.zeros(1, dtype=torch.uint8).expand(count, data.channels, data.size, data.size)
        return Split(raw, torch.arange(count) % data.classes, tuple(range(data.classes)))

    info = SourceInfo(data.name, "blank", data.train_samples, data.test_samples, complete=True)
    return Source(info, split(data.train_samples), split(data.test_samples))
