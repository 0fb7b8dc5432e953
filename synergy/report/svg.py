"""Small charts as SVG for a page: colours and text follow the style of the page, light or dark."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synergy.report.statistics import Interval, Ranking

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 38
COLOURS = 8


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


def lines(courses: Mapping[str, Sequence[Interval | None]], colours: Mapping[str, int], y_label: str) -> str:
    """A line for each name over tasks 1, 2, ..., with a band for its interval."""
    values = [point.value for course in courses.values() for point in course if point is not None]
    longest = max(map(len, courses.values()))
    room = max(1.0, 0.1 * (max(values) - min(values)))
    x, y = _scales(1, max(2, longest), min(values) - room, max(values) + room)
    whole = [tick for tick in ticks(1, max(2, longest), 6) if tick == int(tick)]
    parts = [_axes(x, y, "tasks learned", y_label, whole)]
    for name, course in courses.items():
        points = [(x(t + 1), point) for t, point in enumerate(course) if point is not None]
        highs = [f"{px:.1f},{_within(y(p.value if p.high is None else p.high)):.1f}" for px, p in points]
        lows = [f"{px:.1f},{_within(y(p.value if p.low is None else p.low)):.1f}" for px, p in reversed(points)]
        colour = f"c{colours[name] % COLOURS}" + (" dashed" if colours[name] >= COLOURS else "")
        parts.append(f'<polygon class="band {colour}" points="{" ".join(highs + lows)}"/>')
        path = " ".join(f"{px:.1f},{y(p.value):.1f}" for px, p in points)
        parts.append(f'<polyline class="line {colour}" points="{path}"/>')
        title = f"<title>{html.escape(name)}: {points[-1][1].value:.2f}</title>" if points else ""
        parts += [
            f'<circle class="dot {colour}" cx="{px:.1f}" cy="{y(p.value):.1f}" r="2.5">{title}</circle>'
            for px, p in points[-1:]
        ]
    return _figure(parts, f"{y_label} over tasks")


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
    parts = [_axes(x, y, *labels, ticks(x.low, x.high))]
    if len(front) > 1:
        path = " ".join(f"{x(points[name][0]):.1f},{y(points[name][1]):.1f}" for name in front)
        parts.append(f'<polyline class="front" points="{path}"/>')
    taken: list[tuple[float, float]] = []
    for name, (px, py) in sorted(points.items(), key=lambda each: each[1][1]):
        cx, cy = x(px), y(py)
        right = cx < WIDTH * 0.6
        place = cy + 4
        while any(abs(place - other) < 11 and abs(cx - there) < 130 for there, other in taken):
            place -= 11
        taken.append((cx, place))
        parts.append(f'<circle class="dot c{colours[name] % COLOURS}" cx="{cx:.1f}" cy="{cy:.1f}" r="5"/>')
        anchor, shift = ("start", 9) if right else ("end", -9)
        parts.append(f'<text x="{cx + shift:.1f}" y="{place:.1f}" text-anchor="{anchor}">{html.escape(name)}</text>')
    return _figure(parts, f"{labels[1]} against {labels[0]}")


def heat_map(matrix: Sequence[Sequence[float | None]]) -> str:
    """The accuracy on each task (column) after each task (row), in percent: darker is higher."""
    rows, columns = len(matrix), len(matrix[0])
    cell = 13 if max(rows, columns) > 12 else 26
    shades: dict[int, str] = {}  # one path for all cells of a shade: a page holds many maps
    parts = []
    for t, row in enumerate(matrix):
        for k, value in enumerate(row[: t + 1]):
            if value is not None:
                shade = round(value / 5) * 5
                shades[shade] = shades.get(shade, "") + f"M{20 + k * cell} {6 + t * cell}h{cell}v{cell}h-{cell}z"
                if cell > 22:
                    dark = " inverse" if value > 55 else ""
                    middle = f'x="{20 + (k + 0.5) * cell:.0f}" y="{6 + (t + 0.65) * cell:.0f}"'
                    parts.append(f'<text class="value{dark}" {middle} text-anchor="middle">{value:.0f}</text>')
    paths = [f'<path class="cell" fill-opacity="{shade / 100}" d="{path}"/>' for shade, path in shades.items()]
    for k in range(0, columns, max(1, columns // 5)):
        place = f'x="{20 + (k + 0.5) * cell:.0f}" y="{20 + rows * cell}"'
        parts.append(f'<text {place} text-anchor="middle">{k + 1}</text>')
    for t in range(0, rows, max(1, rows // 5)):
        parts.append(f'<text x="16" y="{6 + (t + 0.7) * cell:.0f}" text-anchor="end">{t + 1}</text>')
    size = 30 + columns * cell, 26 + rows * cell
    return _figure([*paths, *parts], "accuracy on task (column) after task (row)", *size)


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
    return _figure(parts, "mean ranks", WIDTH + 80, below + 16 * len(names))


def _scales(x_low: float, x_high: float, y_low: float, y_high: float) -> tuple[Scale, Scale]:
    return Scale(x_low, x_high, LEFT, WIDTH - RIGHT), Scale(y_low, y_high, HEIGHT - BOTTOM, TOP)


def _within(pixel: float) -> float:
    return min(max(pixel, TOP), HEIGHT - BOTTOM)


def _axes(x: Scale, y: Scale, x_label: str, y_label: str, x_ticks: Sequence[float]) -> str:
    parts = []
    for tick in ticks(y.low, y.high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(x_label)}</text>')
    turned = f'transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">{html.escape(y_label)}</text>')
    return "".join(parts)


def _figure(parts: Sequence[str], label: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px"'
    return f'<svg {box} role="img" aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
