"""Published tables, made again: which runs a table needs, and how they compare with what was published."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from synergy import presets
from synergy.errors import UsageError, unknown
from synergy.methods import METHOD_CLASSES
from synergy.presets.published import PublishedResult, results
from synergy.runs import records
from synergy.runs.config import RunConfig
from synergy.runs.records import Record
from synergy.studies.folders import StudyFolder
from synergy.studies.grid import PlannedRun, planned
from synergy.studies.request import Request, asked

MAIN = ("er", "der", "derpp", "clser", "synergy")
"""Methods of a table unless others are named."""
SIZES = (200, 500)
"""Buffer sizes of a table unless others are named."""
QUICK_MODELS, QUICK_SIZES = ("er", "clser", "synergy"), (500,)


@dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
        scenario: of its runs.
        metric: what the table shows.
        streams: options of each stream of the scenario in it.
        quick: options that make its runs short; empty if they are short as they are.

    Examples:
        >>> TABLES["gcil"].scenario, [dict(each) for each in TABLES["gcil"].streams]
        ('gcil-cifar100', [{'weight_dist': 'unif'}, {'weight_dist': 'longtail'}])
    """

    scenario: str
    metric: str = "final_average"
    streams: tuple[Mapping[str, Any], ...] = (MappingProxyType({}),)
    quick: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_SHORT_TASKS: Mapping[str, Any] = MappingProxyType({"max_steps_per_task": 100})
_SMALL_IMAGES: Mapping[str, Any] = MappingProxyType({"max_steps_per_task": 20, "n_epochs": 1, "width": 8})
_FEW_PHASES: Mapping[str, Any] = MappingProxyType({**_SMALL_IMAGES, "max_tasks": 3})

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "rot-mnist": Table("rot-mnist", quick=_SHORT_TASKS),
        "mnist-360": Table("mnist-360"),
        "perm-mnist": Table("perm-mnist", quick=_SHORT_TASKS),
        "seq-mnist": Table("seq-mnist", quick=_SHORT_TASKS),
        "seq-cifar10": Table("seq-cifar10", quick=_SMALL_IMAGES),
        "seq-tinyimg": Table("seq-tinyimg", quick=_SMALL_IMAGES),
        "gcil": Table(
            "gcil-cifar100",
            "published_final",
            (MappingProxyType({"weight_dist": "unif"}), MappingProxyType({"weight_dist": "longtail"})),
            _FEW_PHASES,
        ),
    }
)
"""The tables that can be made again, by name."""


@dataclass(frozen=True)
class Cell:
    """Runs of a table that differ in their seed alone.

    Attributes:
        options: of the stream and the method, besides the buffer and the tuned values.
        published: what was published of such runs.
        tuned: where the tuned values come from; None without tuned values.

    Examples:
        >>> Cell("rot-mnist", "er", 500, {}, (), None).method
        'er'
    """

    scenario: str
    method: str
    buffer_size: int | None
    options: Mapping[str, Any]
    published: tuple[PublishedResult, ...]
    tuned: str | None

    @property
    def name(self) -> str:
        """Method, buffer and options in a few words."""
        size = [] if self.buffer_size is None else [f"buffer {self.buffer_size}"]
        return ", ".join([self.method, *size, *(_option(name, value) for name, value in self.options.items())])

    def fits(self, config: RunConfig) -> bool:
        """Whether a run has the method, the buffer and the options."""
        tables = config.as_mapping()
        held = {name: value for table in ("scenario", "method") for name, value in tables[table].items()}
        size = held.get("buffer_size")
        wanted = all(name in held and _same(held[name], value) for name, value in self.options.items())
        return config.method_name == self.method and size == self.buffer_size and wanted


@dataclass(frozen=True)
class Reproduction:
    """A table to be made again.

    Attributes:
        cells: all of it, those without tuned values too.
        request: the study that makes the cells with tuned values.
        quick: whether it is a first look.
        also: methods with published numbers that are left out, because they were not asked for.
    """

    table: Table
    cells: tuple[Cell, ...]
    request: Request
    quick: bool
    also: tuple[str, ...]

    @property
    def shortened(self) -> bool:
        """Whether its runs have fewer steps or a smaller network than the published ones."""
        return self.quick and bool(self.table.quick)


@dataclass(frozen=True)
class Row:
    """A number of a table beside the published one.

    Attributes:
        predictor, protocol: of which the number is; empty if there is neither a run nor a published number.
        values: by seed, in percent.
        published: None if the package holds none.

    Examples:
        >>> er = results("seq-cifar10", "er", buffer_size=500, protocol="class-IL")[0]
        >>> row = Row(Cell("seq-cifar10", "er", 500, {}, (er,), None), "working", "class-IL", {0: 58.0, 1: 58.02}, er)
        >>> f"{row.difference:.2f} points, {row.deviations:.1f} standard deviations"
        '0.27 points, 1.0 standard deviations'
    """

    cell: Cell
    predictor: str
    protocol: str
    values: Mapping[int, float]
    published: PublishedResult | None

    @property
    def mean(self) -> float | None:
        """Over the seeds; None without a run."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def sd(self) -> float | None:
        """Over the seeds; None with fewer than two runs."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Our mean less the published one, in points."""
        return None if self.mean is None or self.published is None else self.mean - self.published.mean

    @property
    def deviations(self) -> float | None:
        """The difference in standard deviations of the published runs; of ours if the source gives none."""
        if self.difference is None or self.published is None:
            return None
        sd = self.published.sd if self.published.sd is not None else self.sd
        return None if not sd else self.difference / sd


def reproduction(
    name: str,
    output_dir: Path,
    *,
    models: Sequence[str] | None = None,
    buffer_sizes: Sequence[int] | None = None,
    seeds: str | None = None,
    quick: bool = False,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Reproduction:
    """What a table needs.

    Args:
        name: one of `TABLES`.
        output_dir: the folder of the study.
        models: methods; by default the main ones.
        buffer_sizes: by default 200 and 500.
        seeds: as a study takes them; by default three, or one if `quick`.
        quick: shorten the runs.
        more: further options of the runs, such as the device.

    Raises:
        UsageError: the table or a method is unknown, or no run of it has tuned values.

    Examples:
        >>> found = reproduction("rot-mnist", Path("S"), models=["er"], buffer_sizes=[500], seeds="0")
        >>> [cell.name for cell in found.cells]
        ['er, buffer 500', 'er, buffer 500, 20 rotation_angles']
    """
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    table = TABLES[name]
    for model in models or ():
        if model not in METHOD_CLASSES.table:
            raise unknown("method", model, METHOD_CLASSES.table)
    models = models or (QUICK_MODELS if quick else MAIN)
    cells = tuple(_cells(table, models, buffer_sizes or (QUICK_SIZES if quick else SIZES)))
    runnable = [cell for cell in cells if cell.tuned is not None]
    if not runnable:
        tuned = sorted({preset.method for preset in presets.available(table.scenario)})
        place = f"no tuned values for {', '.join(models)} in table '{name}'"
        raise UsageError(f"{place} with these buffer sizes; methods with tuned values there: {', '.join(tuned)}")
    content = {"dataset": table.scenario, "load_best_args": True, "output_dir": str(output_dir)}
    content |= {"seeds": seeds or ("0" if quick else "0-2"), "variant": _variants(runnable)}
    content |= (dict(table.quick) if quick else {}) | dict(more)
    also = sorted({each.method for each in results(table.scenario)} - set(models))
    return Reproduction(table, cells, asked(content), quick, tuple(also))


def _cells(table: Table, models: Sequence[str], sizes: Sequence[int]) -> Iterator[Cell]:
    for stream in table.streams:
        variant = next(iter(stream.values()), None)
        for model in models:
            has_memory = "buffer_size" in METHOD_CLASSES.load(model).Config.names()
            for size in sizes if has_memory else (None,):
                found = [each for each in results(table.scenario, model) if each.buffer_size == size]
                found = [each for each in found if each.fits({**each.options, **stream})]
                tuned = [p for p in presets.available(table.scenario, model, variant) if p.buffer_size == size]
                source = tuned[0].source if tuned else None
                settings = [dict(stream), *({**stream, **each.options} for each in found)]
                for options in [each for n, each in enumerate(settings) if each not in settings[:n]]:
                    published = tuple(each for each in found if {**stream, **each.options} == options)
                    yield Cell(table.scenario, model, size, options, published, source)


def _variants(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The cells as variants of a study: each has the methods that share their options and their buffer sizes."""
    settings: list[Mapping[str, Any]] = []
    for cell in cells:
        if cell.options not in settings:
            settings.append(cell.options)
    found: list[dict[str, Any]] = []
    for options in settings:
        sizes: dict[str, list[int]] = {}
        for cell in cells:
            if cell.options == options:
                sizes.setdefault(cell.method, []).extend([] if cell.buffer_size is None else [cell.buffer_size])
        groups: dict[tuple[int, ...], list[str]] = {}
        for method, of_method in sizes.items():
            groups.setdefault(tuple(of_method), []).append(method)
        for of_group, methods in groups.items():
            name = _variant_name(options)
            name += "" if len(groups) == 1 else f"-{'-'.join(map(str, of_group)) or 'no-memory'}"
            memory = {"buffer_size": list(of_group)} if of_group else {}
            written = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
            found.append({"name": name, "model": methods, **memory, **written})
    return found


def _variant_name(options: Mapping[str, Any]) -> str:
    shown = "-".join(_option(name, value) for name, value in options.items())
    return re.sub(r"[^\w.-]+", "-", shown) or "plain"


def _option(name: str, value: Any) -> str:
    return f"{len(value)} {name}" if isinstance(value, tuple | list) else f"{name} {value}"


def _same(one: Any, other: Any) -> bool:
    """Whether two values of an option are equal; lists and tuples are alike."""
    both = [tuple(value) if isinstance(value, list) else value for value in (one, other)]
    return bool(both[0] == both[1])


def compared(wanted: Reproduction) -> tuple[list[Row], list[Record]]:
    """Every number of a table beside the published one, as far as its runs are finished; and the records of these.

    Raises:
        UsageError: the folder of the study cannot be read.
    """
    runs: dict[int, list[Record]] = {number: [] for number in range(len(wanted.cells))}
    folder = StudyFolder(wanted.request.output_dir)
    for standing in folder.standings(planned(wanted.request).runs):
        if standing.state == "finished":
            runs[_cell_of(standing.run, wanted.cells)].append(records.read(folder.path / standing.run.name))
    rows = [row for number, cell in enumerate(wanted.cells) for row in _rows(cell, runs[number], wanted.table.metric)]
    return rows, [record for found in runs.values() for record in found]


def _cell_of(run: PlannedRun, cells: Sequence[Cell]) -> int:
    """The cell of a run: the one with the most options among those that fit."""
    fitting = [number for number, cell in enumerate(cells) if cell.tuned is not None and cell.fits(run.config)]
    return max(fitting, key=lambda number: len(cells[number].options))


def _rows(cell: Cell, runs: Sequence[Record], metric: str) -> Iterator[Row]:
    for published in cell.published:
        found = {run.seed: run.find(published.predictor, published.protocol).metrics for run in runs}
        values = {seed: metrics[published.metric] for seed, metrics in found.items() if published.metric in metrics}
        yield Row(cell, published.predictor, published.protocol, values, published)
    if not cell.published:
        values = {run.seed: run.answer().metrics[metric] for run in runs if metric in run.answer().metrics}
        answer = runs[0].answer() if runs else None
        yield Row(cell, answer.predictor if answer else "", answer.protocol if answer else "", values, None)
