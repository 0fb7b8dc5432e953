"""Maps of shaded cells, as SVG: accuracy matrices, and grids of percentages."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence

from synergy.report.svg import figure


def heat_map(matrix: Sequence[Sequence[float | None]]) -> str:
    """The accuracy on each task (column) after each task (row), in percent: darker is higher.

    The shades go from the lowest value in `shown_range` to the highest.
    """
    rows, columns = len(matrix), len(matrix[0])
    cell = 17 if max(rows, columns) > 12 else 26
    low, high = shown_range(matrix)
    shades = [
        [None if value is None else 5 + round(19 * (value - low) / (high - low)) * 5 for value in row[: t + 1]]
        for t, row in enumerate(matrix)
    ]
    paths, parts = _cells(matrix, shades, cell, 20, inverse=lambda value, shade: shade > 55)
    for k in range(0, columns, max(1, columns // 5)):
        place = f'x="{20 + (k + 0.5) * cell:.0f}" y="{20 + rows * cell}"'
        parts.append(f'<text {place} text-anchor="middle">{k + 1}</text>')
    for t in range(0, rows, max(1, rows // 5)):
        parts.append(f'<text x="16" y="{6 + (t + 0.7) * cell:.0f}" text-anchor="end">{t + 1}</text>')
    size = 30 + columns * cell, 26 + rows * cell
    return figure([*paths, *parts], "accuracy on task (column) after task (row)", *size)


def shown_range(matrix: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    """Lowest and highest accuracy on tasks that were learned, rounded outwards to tens.

    >>> shown_range([[90.0, 0.0], [62.0, 85.0]])
    (60.0, 90.0)
    """
    values = [value for t, row in enumerate(matrix) for value in row[: t + 1] if value is not None]
    low, high = 10.0 * math.floor(min(values) / 10), 10.0 * math.ceil(max(values) / 10)
    return low, high if high > low else low + 10


def grid(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], labels: tuple[str, str]
) -> str:
    """Percentages as shades, darker is higher, with names at both sides.

    Args:
        rows, columns: their names.
        values: `[rows][columns]`.
        labels: what rows and columns are.
    """
    cell = 26 if len(columns) <= 12 else 13 if len(columns) <= 30 else 4
    left = 24 + 6 * max(map(len, rows))
    turned = max(map(len, columns)) > 2
    shades = [[None if value is None or value < 0.5 else math.ceil(value / 5) * 5 for value in row] for row in values]
    parts, texts = _cells(values, shades, cell, left, inverse=lambda value, shade: value > 55)
    bottom = 6 + len(rows) * cell
    parts.append(f'<rect class="frame" x="{left}" y="6" width="{len(columns) * cell}" height="{bottom - 6}"/>')
    every = [max(1, math.ceil(13 / cell)) if len(names) * cell > 13 else len(names) for names in (rows, columns)]
    for r in range(0, len(rows), every[0]):
        place = f'x="{left - 4}" y="{6 + (r + 0.5) * cell + 4:.0f}"'
        parts.append(f'<text {place} text-anchor="end">{html.escape(rows[r])}</text>')
    for c in range(0, len(columns), every[1] if turned or cell > 13 else 2):
        middle = left + (c + 0.5) * cell
        place = f'transform="translate({middle + 4:.0f} {bottom + 8}) rotate(-60)" text-anchor="end"'
        plain = f'x="{middle:.0f}" y="{bottom + 14}" text-anchor="middle"'
        parts.append(f"<text {place if turned else plain}>{html.escape(columns[c])}</text>")
    height = bottom + (12 + 6 * max(map(len, columns)) if turned else 32)
    parts.append(f'<text x="{left}" y="{height - 2}">{html.escape(labels[1])}</text>' * (not turned))
    parts.append(f'<text transform="translate(10 {bottom}) rotate(-90)">{html.escape(labels[0])}</text>')
    return figure([*parts, *texts], f"{labels[0]} against {labels[1]}", left + len(columns) * cell + 8, height)


def _cells(
    values: Sequence[Sequence[float | None]],
    shades: Sequence[Sequence[int | None]],
    cell: int,
    left: int,
    inverse: Callable[[float, int], bool],
) -> tuple[list[str], list[str]]:
    """One path for all cells of a shade, since a page holds many maps; and the numbers in large cells.

    Args:
        values, shades: `[rows][columns]`; a cell without a shade is left out.
        cell: side of a cell, in pixels.
        left: of the first column, in pixels.
        inverse: whether the number of a cell with this value and shade is light.
    """
    of_shade: dict[int, str] = {}
    texts = []
    for r, row in enumerate(shades):
        for c, shade in enumerate(row):
            value = values[r][c]
            if shade is None or value is None:
                continue
            of_shade[shade] = of_shade.get(shade, "") + f"M{left + c * cell} {6 + r * cell}h{cell}v{cell}h-{cell}z"
            if cell > 22:
                dark = " inverse" if inverse(value, shade) else ""
                place = f'x="{left + (c + 0.5) * cell:.0f}" y="{6 + (r + 0.65) * cell:.0f}"'
                texts.append(f'<text class="value{dark}" {place} text-anchor="middle">{value:.0f}</text>')
    paths = [f'<path class="cell" fill-opacity="{shade / 100}" d="{path}"/>' for shade, path in of_shade.items()]
    return paths, texts
