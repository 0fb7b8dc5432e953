"""`synergy analyse`: questions about finished runs, answered from their checkpoints."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synergy.errors import UsageError, unknown
from synergy.terminal.ablation import ablation
from synergy.terminal.output import say
from synergy.terminal.parser import Parser, add_options, several

if TYPE_CHECKING:  # help is printed without torch
    from synergy.analyses.base import Analysis
    from synergy.options import Options
    from synergy.runs.findings import Chart, Description, Finding, Grid

ABLATION, ALL = "ablation", "all"
MOST_COLUMNS = 20
"""Of a table that is printed; a larger one is in the file alone."""

DESCRIPTION = """\
Look into what finished runs have learned. A run needs the checkpoint of its end (synergy run ... --checkpoint_every
1000; a study keeps it). Each finding is a file in the folder of its run, analyses/NAME.json, and a figure of
synergy report --html. A single finding is printed whole, of several the numbers.

NAME is one of:
"""


def analyse(arguments: list[str]) -> int:
    """`synergy analyse`: make findings about runs, and print them."""
    parsed, chosen = _parsed(arguments)
    if parsed.name == ABLATION:
        return ablation(parsed)
    from synergy.analyses import analysis
    from synergy.analyses.trained import trained_run
    from synergy.runs import findings

    analyses = [analysis(name) for name in _names(parsed.name)]
    folders = _folders(parsed.runs)
    alone, made = len(folders) * len(analyses) == 1, 0
    for folder in folders:
        try:
            run = trained_run(folder, data_dir=parsed.data_dir, device=parsed.device)
        except UsageError as error:
            _refuse(error, len(folders) == 1)
            continue
        for each in analyses:
            try:
                finding = each.of(run, _options(each, chosen))
            except UsageError as error:
                _refuse(error, alone)
                continue
            path = findings.write(finding, folder)
            made += 1
            say("\n".join([f"{run.record.run_id}: {each.question}", *_shown(finding, whole=alone), f"  in {path}", ""]))
    if not made:
        raise UsageError(f"{', '.join(parsed.runs)}: no finding could be made; the lines above say why")
    return 0


def _refuse(error: UsageError, alone: bool) -> None:
    """Raise what stands in the way of the only finding; of one among several, say it."""
    if alone:
        raise error
    say(f"left out: {error}\n")


def _parsed(arguments: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The arguments, and the options that were given."""
    from synergy.analyses import ANALYSES, analysis

    name = arguments[0] if arguments and not arguments[0].startswith("-") else None
    allowed = (ABLATION, ALL, *ANALYSES)
    if name is not None and name not in allowed:
        raise unknown("analysis", name, allowed)
    lines = [f"  {each:<15}{analysis(each).question}" for each in ANALYSES]
    lines.append(f"  {ABLATION:<15}what does each change of a method cost? (of many runs; from their records alone)")
    parser = Parser(
        "synergy analyse",
        description=DESCRIPTION + "\n".join([*lines, f"  {ALL:<15}each that says something about the run"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="of an analysis; with --help after it, its options")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or of runs at any depth")
    if name == ABLATION:
        parser.add_argument("--metric", default="final_average", help="the number to compare (default final_average)")
        parser.add_argument("--protocol", default=None, help="by default that of each answer")
        parser.add_argument("--predictor", default=None, help="by default the recommended one of each method")
    else:
        parser.add_argument("--data_dir", default=None, help="where the data are, if not where they were")
        parser.add_argument("--device", default=None, help="where to compute, if not where the run did")
    options = None if name is None or name not in ANALYSES else analysis(name).options
    if options is not None:
        add_options(parser, f"options of {name}", options)
    parsed = parser.parse_strictly(arguments)
    specs = {} if options is None else {spec.name: spec for spec in options.specs()}
    given = {key: value for key, value in vars(parsed).items() if key in specs}
    return parsed, {key: several(specs[key], v) if isinstance(v, list) else v for key, v in given.items()}


def _names(name: str) -> Sequence[str]:
    from synergy.analyses import ANALYSES

    return [*ANALYSES] if name == ALL else [name]


def _options(analysis: Analysis, given: dict[str, Any]) -> Options:
    return analysis.options.from_mapping(given, f"analysis {analysis.name}")


def _folders(runs: Sequence[str]) -> list[Path]:
    """The folders of all finished runs below the given ones."""
    from synergy.report.gather import gather

    gathered = gather([Path(run) for run in runs])
    if warning := gathered.warning():
        warnings.warn(warning, stacklevel=2)
    folders = [found.folder for found in gathered.runs if found.folder is not None]
    if not folders:
        raise UsageError(f"{', '.join(runs)}: holds records alone; allowed: folders of runs, with their checkpoints")
    return folders


def _shown(finding: Finding, *, whole: bool) -> Iterator[str]:
    """The numbers of a finding; of a whole one the charts and grids too."""
    shown = finding.shown
    yield from _numbers(shown)
    if whole:
        for chart in shown.charts:
            yield from ["", *_chart(chart)]
        for grid in shown.grids:
            yield from ["", *_grid(grid)]


def _numbers(shown: Description) -> list[str]:
    from synergy.terminal.screen import table

    predictors = list(dict.fromkeys(number.predictor for number in shown.numbers))
    titles = list(dict.fromkeys(number.title for number in shown.numbers))
    values = {(number.title, number.predictor): f"{number.value:.2f}" for number in shown.numbers}
    rows = [["", *predictors], *([title, *(values.get((title, p), "-") for p in predictors)] for title in titles)]
    return [table(rows)]


def _chart(chart: Chart) -> list[str]:
    """A chart as a table: a row for each line."""
    from synergy.terminal.screen import table

    lines = [(line.predictor, line) for line in chart.lines]
    if chart.reference is not None and chart.reference.x == chart.lines[0].x:
        lines.append((chart.reference_label, chart.reference))
    rows = [[chart.x_label, *(f"{x:.4g}" for x in chart.lines[0].x)]]
    rows += [[name, *("-" if y is None else _short(y) for y in line.y)] for name, line in lines]
    return [f"  {chart.title} ({chart.y_label})", table(rows)]


def _grid(grid: Grid) -> list[str]:
    from synergy.terminal.screen import table

    whose = f", {grid.predictor}" if grid.predictor else ""
    title = f"  {grid.title}{whose}, percent; row: {grid.row_label}, column: {grid.column_label}"
    if len(grid.columns) > MOST_COLUMNS:
        return [f"{title}: {len(grid.rows)} x {len(grid.columns)}, in the file"]
    rows = [["", *grid.columns]]
    for name, values in zip(grid.rows, grid.values, strict=True):
        rows.append([name, *("-" if value is None else f"{value:.1f}" for value in values)])
    return [title, table(rows)]


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
