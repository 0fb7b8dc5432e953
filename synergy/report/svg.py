"""Small charts as SVG for a page: colours and text follow the style of the page, light or dark."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from synergy.report.statistics import Interval, Ranking

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 38
COLOURS = 8
DOT, LETTER, LINE = 6.0, 6.2, 11.0
"""Pixels: half the side of a dot with the room around it, the width of a letter, the height of a line."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom of what a chart has already."""


@dataclass(frozen=True)
class Scale:
    """From values to pixels along one axis.

    Examples:
        >>> Scale(0, 10, 100, 200)(5)
        150.0
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / ((self.high - self.low) or 1) * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from `low` to `high`.

    >>> ticks(0, 20)
    [0.0, 5.0, 10.0, 15.0, 20.0]
    """
    rough = (high - low) / count or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Stroke:
    """A line of a chart.

    Attributes:
        name: shown when the pointer is on its end.
        colour: its place among the colours.
        points: x, and y with its interval, from left to right.
        aside: whether it is one of the lesser lines: thinner, dashed, without a band.

    Examples:
        >>> Stroke("er", 0, ((1.0, Interval(90.0)),)).aside
        False
    """

    name: str
    colour: int
    points: Sequence[tuple[float, Interval]]
    aside: bool = False


def lines(courses: Mapping[str, Sequence[Interval | None]], colours: Mapping[str, int], y_label: str) -> str:
    """A line for each name over tasks 1, 2, ..., with a band for its interval."""
    strokes = [
        Stroke(name, colours[name], [(t + 1.0, point) for t, point in enumerate(course) if point is not None])
        for name, course in courses.items()
    ]
    return chart(strokes, ("tasks learned", y_label), f"{y_label} over tasks")


def chart(
    strokes: Sequence[Stroke],
    labels: tuple[str, str],
    title: str,
    reference: Sequence[tuple[float, float]] = (),
    marks: bool = False,
    x_ticks: Mapping[float, str] | None = None,
) -> str:
    """Lines with bands for their intervals.

    Args:
        strokes: one or more points altogether.
        labels: of the two axes.
        title: for readers without a screen.
        reference: a grey line behind the others.
        marks: whether every point gets a dot, as where there are few.
        x_ticks: texts below the axis, by place; by default round numbers.
    """
    xs = [x for stroke in strokes for x, _ in stroke.points] + [x for x, _ in reference]
    ys = [point.value for stroke in strokes for _, point in stroke.points] + [y for _, y in reference]
    room = max(0.02 * max(map(abs, ys)), 0.1 * (max(ys) - min(ys))) or 1.0
    left, right = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    x, y = _scales(left, right, min(ys) - room, max(ys) + room)
    between = ticks(left, right, 6)
    whole = [tick for tick in between if tick == int(tick)] if all(value == int(value) for value in xs) else between
    parts = [_axes(x, y, *labels, {tick: f"{tick:g}" for tick in whole} if x_ticks is None else x_ticks)]
    if reference:
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in reference)
        parts.append(f'<polyline class="front" points="{path}"/>')
    # The lines that matter most are drawn last.
    for stroke in sorted(strokes, key=lambda stroke: not stroke.aside):
        parts += _stroke(stroke, x, y, marks)
    return figure(parts, title)


def _stroke(stroke: Stroke, x: Scale, y: Scale, marks: bool) -> list[str]:
    points = [(x(px), point) for px, point in stroke.points]
    colour = f"c{stroke.colour % COLOURS}" + (" dashed" if stroke.colour >= COLOURS else "")
    path = " ".join(f"{px:.1f},{y(p.value):.1f}" for px, p in points)
    title = f"<title>{html.escape(stroke.name)}: {points[-1][1].value:.2f}</title>" if points else ""
    if stroke.aside:
        return [f'<polyline class="line aside {colour}" points="{path}">{title}</polyline>']
    parts = []
    if any(point.low is not None for _, point in points):
        highs = [f"{px:.1f},{_within(y(p.value if p.high is None else p.high)):.1f}" for px, p in points]
        lows = [f"{px:.1f},{_within(y(p.value if p.low is None else p.low)):.1f}" for px, p in reversed(points)]
        parts.append(f'<polygon class="band {colour}" points="{" ".join(highs + lows)}"/>')
    parts.append(f'<polyline class="line {colour}" points="{path}"/>')
    shown = points if marks else points[-1:]
    return [
        *parts,
        *(
            f'<circle class="dot {colour}" cx="{px:.1f}" cy="{y(p.value):.1f}" r="2.5">{title}</circle>'
            for px, p in shown
        ),
    ]


def scatter(
    points: Mapping[str, tuple[float, float]],
    colours: Mapping[str, int],
    labels: tuple[str, str],
    front: Sequence[str] = (),
) -> str:
    """A point for each name, with its name; the points of `front` are joined by a dashed line."""
    xs, ys = [p[0] for p in points.values()], [p[1] for p in points.values()]
    margin = [max(0.5, 0.12 * (max(v) - min(v))) for v in (xs, ys)]
    x, y = _scales(min(xs) - margin[0], max(xs) + margin[0], min(ys) - margin[1], max(ys) + margin[1])
    parts = [_axes(x, y, *labels, {tick: f"{tick:g}" for tick in ticks(x.low, x.high)})]
    if len(front) > 1:
        path = " ".join(f"{x(points[name][0]):.1f},{y(points[name][1]):.1f}" for name in front)
        parts.append(f'<polyline class="front" points="{path}"/>')
    places = {name: (x(px), y(py)) for name, (px, py) in points.items()}
    taken = [(cx - DOT, cy - DOT, cx + DOT, cy + DOT) for cx, cy in places.values()]
    for name, (cx, cy) in places.items():
        parts.append(f'<circle class="dot c{colours[name] % COLOURS}" cx="{cx:.1f}" cy="{cy:.1f}" r="5"/>')
    for name, (cx, cy) in sorted(places.items(), key=lambda each: -each[1][1]):
        left, top, right, bottom = _room(LETTER * len(name), cx, cy, taken)
        taken.append((left, top, right, bottom))
        parts.append(f'<text class="name" x="{left:.1f}" y="{bottom - 2:.1f}">{html.escape(name)}</text>')
    return figure(parts, f"{labels[1]} against {labels[0]}")


def _room(wide: float, cx: float, cy: float, taken: Sequence[Box]) -> Box:
    """Where a name so wide stands free, as near to its dot as can be; on the right of it if there is no such place."""
    middle, beside = cy - LINE / 2, DOT + 3
    near = [(cx + beside, middle), (cx - beside - wide, middle)]
    near += [(cx - wide / 2, cy - DOT - LINE), (cx - wide / 2, cy + DOT)]
    lines_away = sorted(range(-8, 9), key=abs)[1:]
    further = [(left, middle + LINE * lines) for lines in lines_away for left, _ in near[:2]]
    boxes = [(left, top, left + wide, top + LINE) for left, top in (*near, *further)]
    return next(
        (box for box in boxes if _within_frame(box) and not any(_overlap(box, each) for each in taken)), boxes[0]
    )


def _within_frame(box: Box) -> bool:
    left, top, right, bottom = box
    return left > LEFT and top > 0 and right < WIDTH and bottom < HEIGHT - BOTTOM


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def forest(rows: Sequence[tuple[str, Interval]], label: str) -> str:
    """A dot with its interval for each name, and a line at 0: what crosses it is not clear."""
    ends = [end for _, i in rows for end in (i.value, i.low, i.high) if end is not None] + [0.0]
    room = 0.08 * (max(ends) - min(ends)) or 1.0
    x = Scale(min(ends) - room, max(ends) + room, 20, WIDTH - 20)
    height = 34 * len(rows) + 44
    parts = [f'<line class="axis" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{height - 36}"/>']
    for tick in ticks(x.low, x.high):
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 22}" text-anchor="middle">{tick:g}</text>')
    for number, (name, interval) in enumerate(rows):
        y = 34 * number + 28
        if interval.low is not None and interval.high is not None:
            parts.append(
                f'<line class="reach" x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(f'<circle class="dot c0" cx="{x(interval.value):.1f}" cy="{y}" r="4"/>')
        parts.append(f'<text x="4" y="{y - 9}">{html.escape(name)}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{height - 4}" text-anchor="middle">{html.escape(label)}</text>')
    return figure(parts, label, WIDTH, height)


def critical_difference(names: Sequence[str], ranking: Ranking) -> str:
    """Mean ranks on a line, 1 is best; a bar joins methods that are not told apart."""
    ordered = sorted(zip(ranking.ranks, names, strict=True))
    x = Scale(1, max(2, len(names)), 60, WIDTH - 60)
    parts = [f'<line class="axis" x1="{x(1)}" x2="{x(len(names))}" y1="20" y2="20"/>']
    for tick in range(1, len(names) + 1):
        parts.append(f'<text x="{x(tick):.1f}" y="14" text-anchor="middle">{tick}</text>')
    for number, (first, last) in enumerate(ranking.cliques):
        ends = f'x1="{x(ordered[first][0]) - 3:.1f}" x2="{x(ordered[last][0]) + 3:.1f}"'
        parts.append(f'<line class="clique" {ends} y1="{30 + 8 * number}" y2="{30 + 8 * number}"/>')
    below = 44 + 8 * len(ranking.cliques)
    for number, (rank, name) in enumerate(ordered):
        height = below + 16 * number
        parts.append(f'<line class="axis" x1="{x(rank):.1f}" x2="{x(rank):.1f}" y1="20" y2="{height - 4}"/>')
        parts.append(f'<text x="{x(rank) + 4:.1f}" y="{height}">{html.escape(name)} ({rank:.2f})</text>')
    return figure(parts, "mean ranks", WIDTH + 80, below + 16 * len(names))


def _scales(x_low: float, x_high: float, y_low: float, y_high: float) -> tuple[Scale, Scale]:
    return Scale(x_low, x_high, LEFT, WIDTH - RIGHT), Scale(y_low, y_high, HEIGHT - BOTTOM, TOP)


def _within(pixel: float) -> float:
    return min(max(pixel, TOP), HEIGHT - BOTTOM)


def _axes(x: Scale, y: Scale, x_label: str, y_label: str, x_ticks: Mapping[float, str]) -> str:
    parts = []
    for tick in ticks(y.low, y.high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick, text in x_ticks.items():
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{text}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(x_label)}</text>')
    turned = f'transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">{html.escape(y_label)}</text>')
    return "".join(parts)


def figure(parts: Sequence[str], label: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """The parts as one picture; `label` is what a screen reader says."""
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px"'
    return f'<svg {box} role="img" aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
