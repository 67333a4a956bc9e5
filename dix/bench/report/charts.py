"""The report's small charts as SVG text; they take their colours from the page's style, so they follow dark mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dix.bench.report.styles import Style
from dix.bench.tables.curves import CurveLine, CurvePanel
from dix.bench.tables.statistics import Floats
from dix.bench.tables.table import TableCell

WIDTH, HEIGHT = 360.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 38.0, 8.0, 10.0, 34.0
#: A curve with more points than this is thinned for drawing.
POINTS = 80


def curve_style(style: Style, ours: bool) -> str:
    """The attributes that give a method its colour and its dashes."""
    own = f' style="--c:{style.own}"' if style.own else ""
    return f'class="curve k{style.colour} d{style.dash}{" ours" if ours else ""}"{own}'


def forest(cell: TableCell, scale: tuple[float, float]) -> str:
    """A cell's interval (line), score (dot) and the thesis's value (tick) on its column's scale."""
    low, high = scale
    span = (high - low) or 1.0

    def x(number: float) -> str:
        return f"{4 + 76 * (number - low) / span:.1f}"

    tick = "" if np.isnan(cell.printed) or cell.reason else f'<path d="M{x(cell.printed)} 0V9"/>'
    return (
        f'<svg class="forest interval" viewBox="0 0 84 9" aria-hidden="true"><line x1="{x(cell.low)}" '
        f'x2="{x(cell.high)}" y1="4.5" y2="4.5"/>{tick}<circle cx="{x(cell.value)}" cy="4.5" r="2.6"/></svg>'
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round positions that cover a range: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** np.floor(np.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [round(k * step, 10) for k in range(first, last + 1)]


def curve_chart(panel: CurvePanel, looks: Mapping[str, Style], proposed: Sequence[str]) -> str:
    """All methods' mean curves of one panel with their bands; proposed methods are drawn last, on top.

    looks: how each method is drawn; its place among them is the curve's number.
    """
    numbers = {method: number for number, method in enumerate(looks)}
    x_range = (min(panel.axis.x), max(panel.axis.x))
    clean = [panel.reference] if panel.reference else []
    y_range = _y_range([*panel.lines, *clean])
    lines = sorted(panel.lines, key=lambda line: line.method in proposed)
    drawn = "".join(
        f'<g {curve_style(looks[line.method], line.method in proposed)} data-curve="{numbers[line.method]}">'
        f"{_curve(line, panel.axis.x, x_range, y_range)}</g>"
        for line in lines
    )
    drawn += "".join(f'<g class="curve clean">{_curve(line, panel.axis.x, x_range, y_range)}</g>' for line in clean)
    title = escape(f"{panel.metric}: mean curves of {len(lines)} methods")
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{title}">'
        f"{_axes(x_range, y_range, panel.axis.label)}{drawn}</svg>"
    )


def _y_range(lines: Sequence[CurveLine]) -> tuple[float, float]:
    low = min(float(np.nanmin(line.low)) for line in lines)
    high = max(float(np.nanmax(line.high)) for line in lines)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _place(values: Floats, low: float, high: float, start: float, end: float) -> Floats:
    return start + (end - start) * (values - low) / ((high - low) or 1.0)


def _axes(x_range: tuple[float, float], y_range: tuple[float, float], label: str) -> str:
    parts = []
    for tick in ticks(*y_range):
        y = float(_place(np.array([tick]), *y_range, HEIGHT - BOTTOM, TOP)[0])
        parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 5:g}" y="{y + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(*x_range):
        x = float(_place(np.array([tick]), *x_range, LEFT, WIDTH - RIGHT)[0])
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14:g}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:g}" y="{HEIGHT - 5:g}" text-anchor="middle">{escape(label)}</text>')
    return "".join(parts)


def _curve(line: CurveLine, x: Sequence[float], x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    """One method's band and mean, thinned to what a chart can show."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int))
    across = _place(np.asarray(x)[chosen], *x_range, LEFT, WIDTH - RIGHT)
    mean, low, high = (
        _place(part[chosen], *y_range, HEIGHT - BOTTOM, TOP) for part in (line.mean, line.low, line.high)
    )
    band = _points(np.concatenate([across, across[::-1]]), np.concatenate([low, high[::-1]]))
    return f'<polygon points="{band}"/><path d="M{_points(across, mean)}"/>'


def _points(x: Floats, y: Floats) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
