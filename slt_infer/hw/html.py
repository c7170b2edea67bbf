"""The report as one HTML file that opens offline: tables, and plots as SVG drawn here. No scripts, nothing
fetched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

COLOURS = (
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e",
    "#9498a0", "#2b3a67",
)  # fmt: skip
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 72rem }
body { margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } small, figcaption { color: #555 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } th { font-weight: 600 }
td, th { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
td:first-child, th:first-child { text-align: left }
td.why { text-align: left; color: #777; white-space: normal }
figure { margin: 1rem 0; overflow-x: auto } svg text { font: 11px system-ui, sans-serif; fill: #333 }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em; vertical-align: -.05em }
.scroll { overflow-x: auto }
"""


def report(answer: dict[str, Any]) -> str:
    """Of what slt-sim answers: tables of schemes and layers; of the last scheme that can be, plots."""
    found = {name: result for name, result in answer["schemes"].items() if "reason" not in result}
    scheme = list(found)[-1]
    layers = [(layer["name"], layer["schemes"][scheme]) for layer in answer["layers"]]
    machine = answer["hardware"]
    title = f"{answer['network']} on {machine['name']}"
    sections = [
        f"<h1>{escape(title)}</h1><p>{escape(machine['summary'])}; {machine['elements']:,} elements at "
        f"{machine['hz'] / 1e6:g} MHz. {answer['macs']:,} multiply-accumulates of {answer['weights']:,} "
        f"weights, one image. Model: {escape(answer['model'])}.</p>",
        "<h2>Ways to store the network</h2>",
        _schemes(answer["schemes"]),
        *_compared(found),
        f"<h2>Layers, stored as {escape(scheme)}</h2>",
        _figure("Bytes off chip, by kind", layers, lambda r: r["dram_bytes"], "bytes"),
        _figure("Cycles, by cause", layers, _cycles, "cycles"),
        _figure("Energy, by part", layers, _energy, "uJ"),
        "<h2>Roofline</h2>",
        _roofline(layers),
        "<h2>Every layer</h2>",
        _layers(layers),
        "<p><small>TOPS/W: 2 operations per multiply-accumulate; dense counts all weights, kept those "
        "that are "
        "kept; chip leaves the energy of DRAM out, system has it. docs/accelerator.md has each formula "
        "and what "
        "is not modelled.</small></p>",
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        + "\n".join(sections)
        + "</html>\n"
    )


def _cycles(result: dict[str, Any]) -> dict[str, float]:
    return {"compute": result["compute_cycles"], **result["stall_cycles"]}


def _energy(result: dict[str, Any]) -> dict[str, float]:
    return {part: value / 1e6 for part, value in result["energy_pj"].items()}


def _row(cells: Sequence[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _schemes(schemes: dict[str, Any]) -> str:
    heads = ["stored as", "cycles", "ms", "stalls", "use", "DRAM kB", "energy uJ", "of it DRAM"]
    heads += ["TOPS/W chip, dense", "chip, kept", "system, dense", "system, kept"]
    rows = [_row(heads, "th")]
    for name, result in schemes.items():
        if "reason" in result:
            rows.append(
                f'<tr><td>{escape(name)}</td><td class="why" colspan="11">'
                f"{escape(result['reason'])}</td></tr>"
            )
            continue
        energy, rate = result["energy_pj_total"], result["tops_per_watt"]
        rates = ("chip_dense", "chip_kept", "system_dense", "system_kept")
        rows.append(
            _row(
                [
                    f'<span title="{escape(result["what"])}">{escape(name)}</span>',
                    f"{result['cycles']:,}",
                    f"{1e3 * result['seconds']:.3f}",
                    f"{sum(result['stall_cycles'].values()) / result['cycles']:.0%}",
                    f"{result['utilisation']:.0%}",
                    f"{result['dram_bytes_total'] / 1e3:,.0f}",
                    f"{energy / 1e6:,.1f}",
                    f"{result['energy_pj']['dram'] / energy:.0%}",
                    *(f"{rate[key]:.2f}" for key in rates),
                ]
            )
        )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _compared(found: dict[str, Any]) -> list[str]:
    if len(found) < 2:
        return []
    whole = list(found.items())
    return [
        _figure("Bytes off chip, by kind", whole, lambda r: r["dram_bytes"], "bytes"),
        _figure("Cycles, by cause", whole, _cycles, "cycles"),
        _figure("Energy, by part", whole, _energy, "uJ"),
    ]


def _layers(layers: Sequence[tuple[str, dict[str, Any]]]) -> str:
    heads = [
        "layer",
        "multiply-accumulates",
        "cycles",
        "use",
        "bound",
        "DRAM bytes",
        "energy nJ",
        "operations/byte",
    ]
    rows = [_row(heads, "th")]
    for name, result in layers:
        intensity = result["roofline"]["operations_per_byte"]
        rows.append(
            _row(
                [
                    escape(name),
                    f"{result['macs']:,}",
                    f"{result['cycles']:,}",
                    f"{result['utilisation']:.0%}",
                    result["bound"],
                    f"{result['dram_bytes_total']:,}",
                    f"{result['energy_pj_total'] / 1e3:,.1f}",
                    f"{intensity:,.0f}" if intensity else "nothing moves",
                ]
            )
        )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


Parts = Callable[[dict[str, Any]], dict[str, float]]
BAR, LEFT, WIDTH = 16, 190, 1000


def _figure(title: str, rows: Sequence[tuple[str, dict[str, Any]]], parts: Parts, unit: str) -> str:
    """Stacked bars, a row each, in one scale."""
    values = [(name, parts(result)) for name, result in rows]
    kinds = [kind for kind in values[0][1] if any(value[kind] for _, value in values)]
    most = max(sum(value.values()) for _, value in values) or 1
    scale = (WIDTH - LEFT - 90) / most
    height = len(values) * (BAR + 4) + 8
    drawn = []
    for number, (name, value) in enumerate(values):
        y, x = number * (BAR + 4) + 4, float(LEFT)
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 12}" text-anchor="end">{escape(_short(name))}</text>')
        for kind in kinds:
            wide = value[kind] * scale
            if wide > 0:
                tip = f"{name}, {kind}: {value[kind]:,.6g} {unit}"
                drawn.append(
                    f'<rect x="{x:.1f}" y="{y}" width="{wide:.2f}" height="{BAR}" '
                    f'fill="{_colour(kinds, kind)}">'
                    f"<title>{escape(tip)}</title></rect>"
                )
            x += wide
        drawn.append(f'<text x="{x + 5:.1f}" y="{y + 12}">{_si(sum(value.values()))}</text>')
    keys = "".join(
        f'<span class="key" style="background:{_colour(kinds, kind)}"></span>{escape(kind.replace("_", " "))}'
        for kind in kinds
    )
    return (
        f'<figure><figcaption>{escape(title)} ({unit}){keys}</figcaption><svg viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
        "</figure>"
    )


def _roofline(layers: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Operations per second against operations per byte, both logarithmic; layers that move nothing are left
    out.
    """
    bounds = layers[0][1]["roofline"]
    peak, rate = bounds["peak_operations_per_s"], bounds["dram_bytes_per_s"]
    points = [
        (name, r["roofline"]["operations_per_byte"], 2 * r["macs"] / r["seconds"])
        for name, r in layers
        if r["roofline"]["operations_per_byte"]
    ]
    if not points:
        return "<p>No layer moves anything off chip.</p>"
    low_x, high_x = (f([p[1] for p in points] + [peak / rate]) for f in (min, max))
    low_y = min([p[2] for p in points] + [low_x * rate])
    left, bottom = math.floor(math.log10(low_x)), math.floor(math.log10(low_y))
    right, top = math.ceil(math.log10(high_x)), math.ceil(math.log10(peak))
    wide, high = 900, 360

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - left) / max(right - left, 1)
        up = (math.log10(y) - bottom) / max(top - bottom, 1)
        return 70 + across * (wide - 90), 10 + (1 - up) * (high - 50)

    drawn = []
    for power in range(left, right + 1):
        x, y = at(10.0**power, 10.0**bottom)
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{y:.1f}" stroke="#e5e5e5"/>')
        drawn.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{_si(10.0**power)}</text>')
    for power in range(bottom, top + 1):
        x, y = at(10.0**left, 10.0**power)
        drawn.append(f'<line x1="{x:.1f}" x2="{wide - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e5e5"/>')
        drawn.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{_si(10.0**power)}</text>')
    ridge = peak / rate
    roof = [at(max(10.0**left, 10.0**bottom / rate), max(10.0**left * rate, 10.0**bottom)), at(ridge, peak)]
    roof.append(at(10.0**right, peak))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in roof)
    drawn.append(f'<polyline points="{path}" fill="none" stroke="#222" stroke-width="1.5"/>')
    for name, intensity, speed in points:
        x, y = at(intensity, speed)
        tip = f"{name}: {intensity:,.1f} operations per byte, {_si(speed)} operations per second"
        drawn.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="#4269d0" fill-opacity=".7">'
            f"<title>{escape(tip)}</title></circle>"
        )
    drawn.append(
        f'<text x="{wide / 2}" y="{high - 4}" text-anchor="middle">operations per byte of DRAM</text>'
    )
    return (
        f"<figure><figcaption>Operations per second of each layer (dense), under the array's peak "
        f"{_si(peak)} and "
        f'DRAM\'s {_si(rate)} bytes per second</figcaption><svg viewBox="0 0 {wide} {high}" width="{wide}" '
        f'height="{high}" role="img" aria-label="Roofline">{"".join(drawn)}</svg></figure>'
    )


def _colour(kinds: Sequence[str], kind: str) -> str:
    return COLOURS[kinds.index(kind) % len(COLOURS)]


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _si(value: float) -> str:
    """Three digits: 864, 36.9k, 2.36M."""
    for unit, one in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= one:
            return f"{value / one:.3g}{unit}"
    return f"{value:.3g}"
