"""Plots as SVG, drawn here: bars and points. Strings are escaped; nothing outside the file is asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = (
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e",
    "#9498a0", "#2b3a67",
)  # fmt: skip
BAR, LEFT, WIDTH = 16, 190, 1000


def bars(title: str, rows: Sequence[tuple[str, dict[str, float]]], unit: str) -> str:
    """Stacked bars, a row each, in one scale; kinds that are nowhere above 0 are left out. A kind has one
    colour in all plots of the same kinds.
    """
    colours = dict(zip(rows[0][1], itertools.cycle(COLOURS), strict=False))
    kinds = [kind for kind in colours if any(value[kind] for _, value in rows)]
    most = max(sum(value.values()) for _, value in rows) or 1
    scale = (WIDTH - LEFT - 90) / most
    height = len(rows) * (BAR + 4) + 8
    drawn = []
    for number, (name, value) in enumerate(rows):
        y, x = number * (BAR + 4) + 4, float(LEFT)
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 12}" text-anchor="end">{escape(_short(name))}</text>')
        for kind in kinds:
            wide = value[kind] * scale
            if wide > 0:
                tip = f"{name}, {kind}: {value[kind]:,.6g} {unit}"
                drawn.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{wide:.2f}" height="{BAR}" '
                    f'fill="{colours[kind]}">'
                    f"<title>{escape(tip)}</title></rect>"
                )
            x += wide
        drawn.append(f'<text x="{x + 5:.1f}" y="{y + 12}">{si(sum(value.values()))}</text>')
    keys = "".join(
        f'<span class="key" style="background:{colours[kind]}"></span>{escape(kind.replace("_", " "))}'
        for kind in kinds
    )
    return (
        f'<figure><figcaption>{escape(title)} ({unit}){keys}</figcaption><svg viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
        "</figure>"
    )


@dataclass(frozen=True)
class Point:
    """tip: what is shown when it is pointed at."""

    x: float
    y: float
    tip: str
    colour: str = COLOURS[0]


def scatter(title: str, points: Sequence[Point], line: Sequence[tuple[float, float]], x_label: str) -> str:
    """Points and a line through others, both axes logarithmic; all numbers are above 0."""
    across = _ticks([point.x for point in points] + [x for x, _ in line])
    up = _ticks([point.y for point in points] + [y for _, y in line])
    wide, high = 900, 360

    def at(x: float, y: float) -> tuple[float, float]:
        return 70 + _place(x, across) * (wide - 90), 10 + (1 - _place(y, up)) * (high - 50)

    drawn = []
    for tick in across:
        x, y = at(tick, up[0])
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{y:.1f}" stroke="#e5e5e5"/>')
        drawn.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{si(tick)}</text>')
    for tick in up:
        x, y = at(across[0], tick)
        drawn.append(f'<line x1="{x:.1f}" x2="{wide - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e5e5"/>')
        drawn.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{si(tick)}</text>')
    path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in line)
    drawn.append(f'<polyline points="{path}" fill="none" stroke="#222" stroke-width="1.5"/>')
    for point in points:
        x, y = at(point.x, point.y)
        drawn.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{point.colour}" fill-opacity=".7">'
            f"<title>{escape(point.tip)}</title></circle>"
        )
    drawn.append(f'<text x="{wide / 2}" y="{high - 4}" text-anchor="middle">{escape(x_label)}</text>')
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {wide} {high}" width="{wide}" '
        f'height="{high}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg></figure>'
    )


def _ticks(values: Sequence[float]) -> list[float]:
    """From the last at or below all values to the first at or above: powers of ten, and 2 and 5 times these
    where they span little.
    """
    low, high = min(values), max(values)
    steps = (1, 2, 5) if high < 100 * low else (1,)
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high)) + 1
    known = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    below = [tick for tick in known if tick <= low * (1 + 1e-9)]
    above = [tick for tick in known if tick >= high * (1 - 1e-9) and tick > below[-1]]
    return [tick for tick in known if below[-1] <= tick <= above[0]]


def _place(value: float, ticks: Sequence[float]) -> float:
    """From 0 at the first tick to 1 at the last."""
    return math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def si(value: float) -> str:
    """Three digits: 864, 36.9k, 2.36M."""
    for unit, one in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= one:
            return f"{value / one:.3g}{unit}"
    return f"{value:.3g}"
