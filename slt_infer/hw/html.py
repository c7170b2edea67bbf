"""The report as one HTML file that opens offline: tables, and plots as SVG drawn here. No scripts, nothing
fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from slt_infer.hw.plots import Point, bars, scatter, si

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 72rem }
body { margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } small, figcaption { color: #555 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } th { font-weight: 600 }
td, th { padding: .15rem .5rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th { white-space: normal; vertical-align: bottom }
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
        _figure("Bytes off chip, by kind", layers, _bytes, "bytes"),
        _figure("Cycles, by cause", layers, _cycles, "cycles"),
        _figure("Energy, by part", layers, _energy, "uJ"),
        "<h2>Roofline</h2>",
        _roofline(layers),
        "<h2>Every layer</h2>",
        _layers(layers),
        "<h2>Area</h2>",
        _area(answer["area"]),
        "<h2>Energy of each action</h2>",
        _energies(machine["energies"]),
        "<p><small>TOPS/W: 2 operations per multiply-accumulate; dense counts all weights, kept those that "
        "are kept; chip leaves the energy of DRAM out, system has it. docs/accelerator.md has each formula "
        "and what is not modelled.</small></p>",
    ]
    return _page(title, sections)


def _page(title: str, sections: Sequence[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        + "\n".join(sections)
        + "</html>\n"
    )


def _figure(
    title: str,
    rows: Sequence[tuple[str, dict[str, Any]]],
    parts: Callable[[dict[str, Any]], dict[str, float]],
    unit: str,
) -> str:
    return bars(title, [(name, parts(result)) for name, result in rows], unit)


def _bytes(result: dict[str, Any]) -> dict[str, float]:
    return dict(result["dram_bytes"])


def _energies(energies: dict[str, Any]) -> str:
    rows = [_row(["action", "pJ here", "source"], "th")]
    for name, action in energies.items():
        source = f'<td class="why">{escape(action["source"])}</td>'
        rows.append(f"<tr><td>{escape(name)}</td><td>{action['pj']:.4g}</td>{source}</tr>")
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _area(area: dict[str, Any]) -> str:
    """What is unknown is in no sum."""
    rows = [_row(["part", "gate equivalents", "bits", "mm2", "what it is", "source of its size"], "th")]
    for name, its in area["parts"].items():
        told, source = (escape(str(its.get(key) or "")) for key in ("what", "source"))
        if "unknown" in its:
            told = f"unknown: {escape(its['unknown'])}"
        cells = f"<td>{escape(name)}</td>{_sizes(its)}"
        rows.append(f'<tr>{cells}<td class="why">{told}</td><td class="why">{source}</td></tr>')
    rows.append(f"<tr><td>sum of what is known</td>{_sizes(area)}<td></td><td></td></tr>")
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _sizes(its: dict[str, Any]) -> str:
    numbers = (f"{its[key]:,}" if its.get(key) else "" for key in ("gate_equivalents", "bits"))
    size = its.get("mm2")
    return "".join(f"<td>{cell}</td>" for cell in (*numbers, "" if size is None else f"{size:.3f}"))


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
        _figure("Bytes off chip, by kind", whole, _bytes, "bytes"),
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


def _roofline(layers: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Layers that move nothing are left out."""
    bounds = layers[0][1]["roofline"]
    peak, rate = bounds["peak_operations_per_s"], bounds["dram_bytes_per_s"]
    points = []
    for name, result in layers:
        intensity, speed = result["roofline"]["operations_per_byte"], 2 * result["macs"] / result["seconds"]
        if intensity:
            tip = f"{name}: {intensity:,.1f} operations per byte, {si(speed)} operations per second"
            points.append(Point(intensity, speed, tip))
    if not points:
        return "<p>No layer moves anything off chip.</p>"
    ridge = peak / rate
    low, high = (f([ridge, *(point.x for point in points)]) for f in (min, max))
    title = (
        f"Operations per second of each layer (dense), under the array's peak {si(peak)} and DRAM's "
        f"{si(rate)} bytes per second"
    )
    roof = [(low, low * rate), (ridge, peak), (high, peak)]
    return scatter(title, points, roof, "operations per byte of DRAM")


def sweep_report(answer: dict[str, Any]) -> str:
    """Of what slt-sim sweep answers: every point, and those that no other beats."""
    points = [point for point in answer["points"] if "reason" not in point]
    keys = answer["parameters"]
    front = sorted((point for point in points if point["pareto"]), key=lambda point: point["cycles"])
    drawn = [
        Point(
            point["cycles"],
            point["energy_pj"] / 1e6,
            _tip(point),
            "#ff725c" if point["pareto"] else "#97bbf5",
        )
        for point in [*(point for point in points if not point["pareto"]), *front]
    ]
    line = [(point["cycles"], point["energy_pj"] / 1e6) for point in front]
    heads = [*keys, "stored as", "cycles", "DRAM kB", "energy uJ", "TOPS/W chip, dense"]
    rows = [_row([escape(head) for head in heads], "th")]
    for point in front:
        numbers = [
            f"{point['cycles']:,}",
            f"{point['dram_bytes'] / 1e3:,.0f}",
            f"{point['energy_pj'] / 1e6:,.1f}",
        ]
        values = [escape(str(point["parameters"][key])) for key in keys]
        rows.append(_row([*values, escape(point["scheme"]), *numbers, f"{point['tops_per_watt']:.2f}"]))
    refused = len(answer["points"]) - len(points)
    title = f"{answer['file']} on {answer['hardware']}, changed"
    return _page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f"<p>{len(points):,} points, {refused:,} more cannot be; closed form.</p>",
            scatter(
                "Energy (uJ) against cycles; red: no other point is better in both", drawn, line, "cycles"
            ),
            "<h2>The best</h2>",
            f'<div class="scroll"><table>{"".join(rows)}</table></div>',
        ],
    )


def _tip(point: dict[str, Any]) -> str:
    values = ", ".join(f"{key} {value}" for key, value in point["parameters"].items())
    return f"{values}: {point['cycles']:,} cycles, {point['energy_pj'] / 1e6:,.1f} uJ"
