"""Runs that differ in their seed alone are a group; groups of one stream are compared.

What the runs of one method differ in, besides the seed, becomes a part of the method's name. What the streams of one
scenario differ in becomes a part of the stream's name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from synergy.errors import unknown
from synergy.report.statistics import Interval, difference, mean_interval
from synergy.runs.metrics import is_lower_better, titles
from synergy.runs.records import Accuracies, Record, setup

STREAM_TRAINING = frozenset(("validation", "max_tasks", "max_steps_per_task"))
"""Training options that decide what is learned and on what it is judged, rather than how."""
LONGEST_VALUE = 24
"""Characters of an option's value in a name."""


@dataclass(frozen=True)
class Choice:
    """Which number of a run is shown.

    Attributes:
        metric: a key of `Accuracies.metrics`, or `calibration_error`.
        predictor, protocol: those of the run's answer where they are None.

    Examples:
        >>> Choice("forgetting").lower_is_better, Choice().title
        (True, 'final average')
    """

    metric: str = "final_average"
    predictor: str | None = None
    protocol: str | None = None

    @property
    def title(self) -> str:
        """Of the metric."""
        return titles([self.metric])[self.metric]

    @property
    def lower_is_better(self) -> bool:
        """Whether the best value is the lowest."""
        return is_lower_better(self.metric)

    def accuracies(self, record: Record) -> Accuracies | None:
        """What the choice names in a record; None if it is not there."""
        if not record.accuracies:
            return None
        predictor = self.predictor or record.answer().predictor
        held = [each for each in record.accuracies if each.predictor == predictor]
        return next((each for each in held if self.protocol in (None, each.protocol)), None)

    def value(self, record: Record) -> float | None:
        """The number of a run; None if it has none."""
        return self.of(self.accuracies(record))

    def of(self, accuracies: Accuracies | None) -> float | None:
        """The metric of these accuracies; None if they have none."""
        if accuracies is None:
            return None
        return (
            accuracies.calibration_error if self.metric == "calibration_error" else accuracies.metrics.get(self.metric)
        )


def check_choice(choice: Choice, records: Iterable[Record]) -> None:
    """Raises UsageError if no run has the metric, the predictor or the protocol."""
    held = [each for record in records for each in record.accuracies]
    if not held:
        return
    allowed: dict[str, set[str]] = {
        "metric": {name for each in held for name in each.metrics} | {"calibration_error"},
        "predictor": {each.predictor for each in held},
        "protocol": {each.protocol for each in held},
    }
    for what, names in allowed.items():
        given = vars(choice)[what]
        if given is not None and given not in names:
            raise unknown(f"{what} of these runs", given, names)


@dataclass(frozen=True)
class Group:
    """The runs of one setup.

    Attributes:
        stream: name of the scenario, and what sets this stream apart from others of the scenario.
        method: name of the method, and what sets this setup apart from others of the method on this stream.
        buffer_size: None for a method without memory.
        runs: finished runs, by seed; of several with one seed the last one.
        superseded: finished runs that another one with the same seed stands for.
        stopped: runs that failed or were interrupted, and whose seed has no finished run.

    Examples:
        >>> Group("rot-digits", "er", 200, {}, (), ()).name
        'er, buffer 200'
    """

    stream: str
    method: str
    buffer_size: int | None
    runs: Mapping[int, Record]
    superseded: tuple[Record, ...]
    stopped: tuple[Record, ...]

    @property
    def name(self) -> str:
        """Method and buffer."""
        return self.method if self.buffer_size is None else f"{self.method}, buffer {self.buffer_size}"

    @cached_property
    def example(self) -> Record:
        """One of its runs, a finished one if there is one."""
        return next(iter([*self.runs.values(), *self.stopped]))

    def values(self, choice: Choice) -> dict[int, float]:
        """The chosen number of each finished run that has it, by seed."""
        found = {seed: choice.value(record) for seed, record in self.runs.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def interval(self, choice: Choice) -> Interval | None:
        """Mean and interval of the chosen number; None if no run has it."""
        values = self.values(choice)
        return mean_interval(list(values.values())) if values else None

    @property
    def seconds(self) -> float:
        """Mean time of its finished runs by the clock."""
        return sum(record.measured.wall_s for record in self.runs.values()) / max(1, len(self.runs))


@dataclass(frozen=True)
class Entry:
    """A group in a comparison.

    Attributes:
        shown: its mean and interval.
        predictor, protocol: of which the number is.
        best: whether no other group of the comparison has a better mean.
        close: whether it is not clearly worse than the best: the 95 % interval of the difference holds 0.
    """

    group: Group
    shown: Interval
    predictor: str
    protocol: str
    best: bool
    close: bool


def groups(records: Sequence[Record]) -> list[Group]:
    """All groups, in the order of their first runs.

    Raises:
        UsageError: a configuration does not name its scenario or its method.
    """
    setups: dict[str, tuple[dict[str, dict[str, Any]], list[Record]]] = {}
    for record in records:
        of_run = setup(record)
        setups.setdefault(json.dumps(of_run, sort_keys=True), (of_run, []))[1].append(record)
    parts = [_Parts.of(of_run, members[0], members) for of_run, members in setups.values()]
    streams = _differences([part.scenario for part in parts], [part.stream for part in parts])
    of_stream = [(part.scenario, differs, part.size, part.method) for part, differs in zip(parts, streams, strict=True)]
    methods = _differences(of_stream, [part.own for part in parts])
    return [
        _group(f"{part.scenario} {stream}".rstrip(), f"{part.method} {method}".rstrip(), part)
        for part, stream, method in zip(parts, streams, methods, strict=True)
    ]


def by_stream(found: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups of each stream, in the order of their first runs."""
    streams: dict[str, list[Group]] = {}
    for group in found:
        streams.setdefault(group.stream, []).append(group)
    return streams


def compared(found: Sequence[Group], choice: Choice) -> dict[str, list[Entry]]:
    """Groups of one stream that can be compared by a choice, best first.

    Groups are compared if their numbers are of one protocol. Groups without the number are left out.

    Returns:
        The entries by protocol, in the order of their first groups.
    """
    by_protocol: dict[str, list[tuple[Group, Accuracies]]] = {}
    for group in found:
        accuracies = _first(group, choice)
        if accuracies is not None:
            by_protocol.setdefault(accuracies.protocol, []).append((group, accuracies))
    return {protocol: list(_ranked(members, choice)) for protocol, members in by_protocol.items()}


def _first(group: Group, choice: Choice) -> Accuracies | None:
    """What the choice names in the first run of a group that has it."""
    for record in group.runs.values():
        accuracies = choice.accuracies(record)
        if choice.of(accuracies) is not None:
            return accuracies
    return None


def _ranked(members: Sequence[tuple[Group, Accuracies]], choice: Choice) -> Iterator[Entry]:
    sign = -1 if choice.lower_is_better else 1
    shown = [(mean_interval(list(group.values(choice).values())), group, of) for group, of in members]
    shown.sort(key=lambda each: -sign * each[0].value)
    best = shown[0]
    for interval, group, of in shown:
        is_best = interval.value == best[0].value
        close = len(shown) > 1 and not is_best and _is_close(best[1], group, choice)
        yield Entry(group, interval, of.predictor, of.protocol, is_best and len(shown) > 1, close)


def _is_close(best: Group, other: Group, choice: Choice) -> bool:
    gap = difference(best.values(choice), other.values(choice))
    return gap.low is not None and gap.holds(0)


@dataclass(frozen=True)
class _Parts:
    """What a setup is made of: the options of its stream, and those that are the method's own."""

    scenario: str
    stream: dict[str, Any]
    method: str
    size: int | None
    own: dict[str, Any]
    members: list[Record]

    @classmethod
    def of(cls, options: Mapping[str, Mapping[str, Any]], example: Record, members: list[Record]) -> _Parts:
        training = options.get("training", {})
        stream = {name: value for name, value in options.get("scenario", {}).items() if name != "name"}
        stream |= {name: value for name, value in training.items() if name in STREAM_TRAINING}
        stream |= {f"data {name}": value for name, value in options["source"].items()}
        method, net = options.get("method", {}), options.get("net", {})
        own = {name: value for name, value in method.items() if name not in ("name", "buffer_size")}
        own |= {"net" if name == "name" else name: value for name, value in net.items()}
        own |= {name: value for name, value in training.items() if name not in STREAM_TRAINING}
        size = method.get("buffer_size")
        return cls(
            example.name_of("scenario"),
            stream,
            example.name_of("method"),
            size if isinstance(size, int) else None,
            own,
            members,
        )


def _group(stream: str, method: str, part: _Parts) -> Group:
    finished: dict[int, Record] = {}
    superseded = []
    for record in sorted(part.members, key=lambda record: record.measured.started_at):
        if record.status == "finished":
            if record.seed in finished:
                superseded.append(finished[record.seed])
            finished[record.seed] = record
    stopped = tuple(r for r in part.members if r.status != "finished" and r.seed not in finished)
    runs = dict(sorted(finished.items()))
    return Group(stream, method, part.size, runs, tuple(superseded), stopped)


def _differences(keys: Sequence[Hashable], options: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each part, the options in which the parts of its key differ, as `name=value`."""
    of_key: dict[Hashable, list[Mapping[str, Any]]] = {}
    for key, own in zip(keys, options, strict=True):
        of_key.setdefault(key, []).append(own)
    differing = {key: _differing(all_options) for key, all_options in of_key.items()}
    return [
        " ".join(f"{name}={_shortened(own.get(name))}" for name in differing[key])
        for key, own in zip(keys, options, strict=True)
    ]


def _differing(all_options: Sequence[Mapping[str, Any]]) -> list[str]:
    """The options that do not have one value everywhere."""
    names = dict.fromkeys(name for options in all_options for name in options)
    absent = object()
    return [n for n in names if any(o.get(n, absent) != all_options[0].get(n, absent) for o in all_options[1:])]


def _shortened(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    text = "none" if value is None else str(value)
    if isinstance(value, list | tuple) and len(text) > LONGEST_VALUE:
        return f"[{len(value)} values]"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
