"""A page of its own about some runs: tables, charts and data in one HTML file that needs no network."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synergy.disk import files
from synergy.errors import UsageError, counted
from synergy.randomness import generator
from synergy.report import analysed, maps, sections, statistics, svg
from synergy.report.cells import Cell
from synergy.report.courses import group_course
from synergy.report.gather import Gathered
from synergy.report.groups import Choice, Entry, Group, groups
from synergy.report.statistics import Interval
from synergy.report.svg import Stroke
from synergy.report.tables import Column, Table, number, table
from synergy.runs.folder import shell_word
from synergy.runs.groups import NAMED
from synergy.runs.records import Record

FEWEST_STREAMS = 5
"""Data sets below which a critical-difference diagram says nothing."""
MEANING = (
    "Every value is the mean over seeds with its 95 % interval by Student's t. Bold: the best mean. Italics: not "
    "clearly worse, the 95 % interval of the difference to the best holds 0 (paired over shared seeds; the number of "
    "comparisons is not corrected for). Differences are paired on equal streams, with bootstrap intervals (10,000 "
    "resamples of the seeds)."
)


def write(gathered: Gathered, choice: Choice, path: Path, missing: Sequence[str] = ()) -> Path:
    """Write the page.

    Args:
        gathered: the runs.
        choice: the number that is compared.
        missing: what the runs lack, a line each.

    Returns:
        Where the page lies.

    Raises:
        UsageError: jinja2 is missing, no run has the number, or the file cannot be written.
    """
    text = html(gathered, choice, missing)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot write the page '{path}': {reason}; name another file") from error
    return path


def html(gathered: Gathered, choice: Choice, missing: Sequence[str] = ()) -> str:
    """The page as text. Raises UsageError as `write` does."""
    try:
        import jinja2
    except ImportError as error:
        raise UsageError("a page needs jinja2; install it with: pip install 'synergy-cl[report]'") from error
    content = table(groups(gathered.records), choice)
    if not content.columns:
        raise UsageError(f"a page: no finished run has a {choice.title}; name folders of finished runs")
    loader = jinja2.PackageLoader("synergy.report", "")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["unbroken"] = unbroken
    colours = {method: place for place, method in enumerate(content.methods)}
    rng = generator(0, "report/bootstrap")
    known, damaged = analysed.held(gathered)
    versions = sorted({f"{name} {v}" for record in gathered.records for name, v in record.versions.items()})
    counts = counted(len(content.methods), "method"), counted(len(content.columns), "comparison")
    return environment.get_template("page.html.j2").render(
        title=f"{choice.title}: {', '.join(counts)}",
        verdict=[_verdict(column, choice) for column in content.columns],
        meaning=MEANING,
        colours=colours,
        parts=[_part(column, choice, colours, rng, known) for column in content.columns],
        overall=_overall(content, rng, colours),
        sizes=sections.buffer_sizes(content, colours),
        ablation=sections.ablation(content),
        missing=[*missing, *gathered.damaged, *damaged],
        machines=", ".join(sorted({record.device for record in gathered.records})),
        versions=", ".join(versions),
        metric=choice.title,
        runs=[_run(record, choice) for record in gathered.records],
        data=_data(gathered.records),
    )


def unbroken(text: str) -> str:
    """A cell's text that breaks into lines before a bracket alone, so that numbers stay whole.

    >>> unbroken("-0.83 [-1.03, -0.62]").replace("\\N{NO-BREAK SPACE}", "_")
    '-0.83 [-1.03,_-0.62]'
    """
    return re.sub(r" (?![(\[])", "\N{NO-BREAK SPACE}", text)


def command(record: Record) -> str:
    """The command that makes the run again, with every option that was no default."""
    words = ["synergy", "run"]
    for group in NAMED:
        name = record.config.get(group.name, {}).get("name")
        if name is not None and (group.name != "net" or record.provenance.get("net", "default")[:7] != "default"):
            words += [f"--{group.flag}", _word(name)]
    for options in record.config.values():
        for name, value in options.items() if isinstance(options, Mapping) else ():
            chosen = not record.provenance.get(name, "default").startswith("default") or name == "seed"
            if chosen and name not in ("name", "output_dir", "data_dir") and value is not None and value is not False:
                words += [f"--{name}"] if value is True else [f"--{name}", _word(value)]
    return " ".join(words)


def _word(value: Any) -> str:
    return shell_word(Path(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))


def _verdict(column: Column, choice: Choice) -> str:
    """A sentence: which method is ahead, by how much, and whether that is clear."""
    entries = list(column.entries.values())
    best, others = entries[0], entries[1:]
    if not others:
        return f"{column.title}: {best.group.method} has {number(best.shown)} %."
    second = others[0]
    gap = statistics.difference(best.group.values(choice), second.group.values(choice))
    if gap.low is None or gap.high is None:
        clear = "one seed cannot say how sure that is"
    elif gap.holds(0):
        clear = (
            f"the 95 % interval of the difference, {gap.low:.2f} to {gap.high:.2f}, holds 0: they are not told apart"
        )
    else:
        clear = f"95 % interval {gap.low:.2f} to {gap.high:.2f}: a clear difference"
    ahead = f"{abs(best.shown.value - second.shown.value):.2f} points ahead of {second.group.method}"
    return f"{column.title}: {best.group.method} is best with {number(best.shown)} %, {ahead} ({clear})."


def _part(
    column: Column, choice: Choice, colours: Mapping[str, int], rng: np.random.Generator, known: analysed.Held
) -> dict[str, Any]:
    """The table and the figures of one column."""
    entries = list(column.entries.values())
    heads = ["method", "answer", "buffer", choice.title, "seeds", "behind the best", "P(better than best)"]
    rows = [_row(entry, entries[0], choice, rng) for entry in entries]
    heads += ["forgetting", "seconds", "memory, MB"]
    notes = [f"Protocol {column.protocol}."]
    for extra in (_signed_ranks(entries, choice), _published(entries, choice)):
        heads[5:5] = extra.heads
        rows = [[*row[:5], *cells, *row[5:]] for row, cells in zip(rows, extra.cells, strict=True)]
        notes.append(extra.note)
    return {
        "title": column.title,
        "heads": heads,
        "rows": rows,
        "note": " ".join(notes),
        "analyses": sections.analyses(analysed.analysed(entries, known), colours),
        "figures": list(_figures(entries, choice, colours)),
        "maps": list(_maps(entries, choice)),
    }


@dataclass(frozen=True)
class _Extra:
    """Columns that only some tables have: their heads, the cells of each row, and a sentence."""

    heads: Sequence[str]
    cells: Sequence[Sequence[Cell]]
    note: str


def _signed_ranks(entries: Sequence[Entry], choice: Choice) -> _Extra:
    """A column of p-values, where there are seeds enough for any."""
    best = entries[0].group.values(choice)
    values = [statistics.signed_rank(entry.group.values(choice), best) for entry in entries]
    if not any(value is not None for value in values):
        fewest = statistics.FEWEST_FOR_TESTS
        note = f"Too few shared seeds for a signed-rank test, which needs {fewest}: intervals instead."
        return _Extra([], [[] for _ in entries], note)
    cells = [[Cell("-" if p is None else f"{p:.3f}", "" if p is None else p)] for p in values]
    note = (
        "p: Wilcoxon's signed-rank test of the difference to the best over shared seeds, exact, not corrected for the "
    )
    return _Extra(["p (signed rank)"], cells, f"{note}number of comparisons.")


def _published(entries: Sequence[Entry], choice: Choice) -> _Extra:
    """Columns of published numbers and our distance to them, where there are any."""
    found = [sections.published(entry, choice) for entry in entries]
    if not any(found):
        return _Extra([], [[] for _ in entries], "")
    cells = []
    for entry, each in zip(entries, found, strict=True):
        if each is None:
            cells.append([Cell("-", ""), Cell("-", "")])
            continue
        spread = "" if each.sd is None else f" ± {each.sd:.2f}"
        runs = "" if each.runs is None else f" (n = {each.runs})"
        gap = entry.shown.value - each.mean
        cells.append([Cell(f"{each.mean:.2f}{spread}{runs}", each.mean), Cell(f"{gap:+.2f}", gap)])
    sources = ", ".join(sorted({each.source for each in found if each is not None}))
    note = f"Published: mean ± standard deviation over n runs, by {sources}; same predictor, protocol and buffer."
    return _Extra(["published", "ours - published"], cells, note)


def _row(entry: Entry, best: Entry, choice: Choice, rng: np.random.Generator) -> list[Cell]:
    group, values = entry.group, entry.group.values(choice)
    mark = "best" if entry.best else "close" if entry.close else ""
    of_best = best.group.values(choice)
    shared = sorted(values.keys() & of_best.keys())
    sign = -1 if choice.lower_is_better else 1
    gap = statistics.bootstrap([values[s] - of_best[s] for s in shared], rng) if shared and entry is not best else None
    scores = [[sign * v for v in each.values()] for each in (values, of_best)]
    chance = None if entry is best else statistics.probability_of_improvement([scores[0]], [scores[1]], rng)
    lost = group.interval(Choice("forgetting", choice.predictor, choice.protocol))
    return [
        Cell(group.method, group.method),
        Cell(entry.predictor, entry.predictor),
        Cell("-" if group.buffer_size is None else str(group.buffer_size), group.buffer_size or 0),
        Cell(number(entry.shown), entry.shown.value, mark),
        Cell(str(len(values)), len(values)),
        sections.between(gap),
        sections.between(chance),
        Cell("-" if lost is None else number(lost), "" if lost is None else lost.value),
        Cell(f"{group.seconds:.1f}", group.seconds),
        Cell(f"{_memory(group):.0f}", _memory(group)),
    ]


def _memory(group: Group) -> float:
    return max(record.measured.peak_memory_mb for record in group.runs.values())


def _figures(entries: Sequence[Entry], choice: Choice, colours: Mapping[str, int]) -> Iterator[dict[str, str]]:
    courses = {entry.group.method: group_course(entry.group, choice) for entry in entries}
    over_time = {name: each for name, each in courses.items() if sum(point is not None for point in each) > 1}
    if over_time:
        caption = f"{choice.title} after each task: mean over seeds, band: 95 % interval"
        yield {"svg": svg.lines(over_time, colours, f"{choice.title}, %"), "caption": caption}
    learned, lost = (Choice(name, choice.predictor, choice.protocol) for name in ("plasticity", "forgetting"))
    pairs = {e.group.method: (e.group.interval(learned), e.group.interval(lost)) for e in entries}
    points = {name: (a.value, b.value) for name, (a, b) in pairs.items() if a is not None and b is not None}
    if points:
        caption = "lower right is better: learns each task well and keeps it"
        yield {"svg": svg.scatter(points, colours, ("plasticity, %", "forgetting, points")), "caption": caption}
    sign = -1 if choice.lower_is_better else 1
    for label, cost in (("seconds", lambda group: group.seconds), ("memory, MB", _memory)):
        priced = {entry.group.method: (cost(entry.group), entry.shown.value) for entry in entries}
        names = list(priced)
        front = [names[i] for i in statistics.front([(priced[name][0], sign * priced[name][1]) for name in names])]
        caption = f"dashed: the Pareto front of {choice.title} and {label.split(',')[0]}"
        yield {"svg": svg.scatter(priced, colours, (label, f"{choice.title}, %"), front), "caption": caption}


def _maps(entries: Sequence[Entry], choice: Choice) -> Iterator[dict[str, str]]:
    for entry in entries:
        held = [choice.accuracies(record) for record in entry.group.runs.values()]
        matrices = [np.array(each.matrix, dtype=np.float64) for each in held if each is not None]
        if matrices and len({each.shape for each in matrices}) == 1 and matrices[0].shape[0] > 1:
            mean = np.mean(matrices, axis=0)
            rows = [[None if np.isnan(value) else float(value) for value in row] for row in mean]
            low, high = maps.shown_range(rows)
            caption = f"{entry.group.name}: {entry.predictor}, {entry.protocol}; light {low:.0f} %, dark {high:.0f} %"
            yield {"svg": maps.heat_map(rows), "caption": caption}


def _overall(content: Table, rng: np.random.Generator, colours: Mapping[str, int]) -> dict[str, Any] | None:
    """What holds over all columns, for the methods that are in each of them."""
    sign = -1 if content.choice.lower_is_better else 1
    everywhere = [m for m in content.methods if all(m in column.entries for column in content.columns)]
    if len(content.columns) < 2 or len(everywhere) < 2:
        return None
    scores = {
        m: [list(column.entries[m].group.values(content.choice).values()) for column in content.columns]
        for m in everywhere
    }
    heads = ["method", "interquartile mean", "mean rank"]
    thresholds = [10.0 * k for k in range(1, 10)]
    values = [v for of_method in scores.values() for of_column in of_method for v in of_column]
    fine = np.linspace(min(values), max(values), 60).tolist()
    by_stream = content.by_stream(everywhere)
    ranking = statistics.ranking([[sign * value for value in means] for means in by_stream.values()])
    rows, profiles = [], []
    for place, m in enumerate(everywhere):
        pooled = [v for each in scores[m] for v in each]
        profile = statistics.performance_profile(pooled, thresholds)
        shares = statistics.performance_profile(pooled, fine)
        profiles.append(
            Stroke(m, colours[m], [(x, Interval(100 * share)) for x, share in zip(fine, shares, strict=True)])
        )
        middle = sections.between(statistics.interquartile_mean(scores[m], rng))
        rank = Cell(f"{ranking.ranks[place]:.2f}", ranking.ranks[place])
        rows.append([Cell(m, m), middle, rank, *(Cell(f"{share:.2f}", share) for share in profile)])
    note = (
        f"{len(content.columns)} comparisons. Performance profile: share of runs at or above each accuracy. "
        "Interquartile mean: of the middle half of all runs, with a bootstrap interval over the seeds of each stream. "
        f"Mean rank: over {counted(len(by_stream), 'data set')}, each by its mean over protocols and buffer sizes."
    )
    labels = (f"{content.choice.title}, %", "runs at or above it, %")
    drawn = svg.chart(profiles, labels, "performance profiles")
    figures = [{"svg": drawn, "caption": "performance profiles: higher is better"}]
    if len(by_stream) >= FEWEST_STREAMS:
        p = "< 0.001" if ranking.p_value < 0.001 else f"= {ranking.p_value:.3f}"
        caption = f"critical difference {ranking.difference:.2f} (Nemenyi, 5 %), Friedman p {p}"
        figures.append({"svg": svg.critical_difference(everywhere, ranking), "caption": caption})
    else:
        note += f" A critical-difference diagram needs {FEWEST_STREAMS} data sets."
    return {"heads": [*heads, *(f"≥ {t:.0f} %" for t in thresholds)], "rows": rows, "note": note, "figures": figures}


def _run(record: Record, choice: Choice) -> dict[str, Any]:
    value = choice.value(record)
    status = record.status + (f": {record.error}" if record.error else "") + (" (partial)" if record.partial else "")
    return {
        "name": record.run_id,
        "seed": record.seed,
        "status": status,
        "value": "" if value is None else value,
        "text": "-" if value is None else f"{value:.2f}",
        "seconds": f"{record.measured.wall_s:.1f}",
        "command": command(record),
    }


def _data(records: Sequence[Record]) -> str:
    """A line for each run, predictor, protocol and metric."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "scenario", "method", "buffer_size", "seed", "predictor", "protocol", "metric", "percent"])
    for record in records:
        names = [record.name_of("scenario"), record.name_of("method")]
        size = record.config["method"].get("buffer_size", "")
        for each in record.accuracies:
            for metric, value in each.metrics.items():
                writer.writerow(
                    [record.run_id, *names, size, record.seed, each.predictor, each.protocol, metric, f"{value:.4f}"]
                )
    return out.getvalue()
