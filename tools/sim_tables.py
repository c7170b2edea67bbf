"""What slt-sim shows: tables for a person, CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slt_infer.tools import tables


def show(answer: dict[str, Any]) -> RenderableType | None:
    if "csv" in answer:
        return str(answer["csv"])
    if "toml" in answer:
        return str(answer["toml"]).rstrip("\n")
    if "presets" in answer:
        table = _table("machines", "name", "elements", "what it is")
        for preset in answer["presets"]:
            table.add_row(preset["name"], str(preset["elements"]), preset["summary"])
        return table
    machine = answer["hardware"]
    head = [
        f"{answer['file']}: {answer['network']}, {tables.short(answer['macs'])} multiply-accumulates of "
        f"{tables.short(answer['weights'])} weights, one image",
        f"{machine['name']}: {machine['summary']}; {machine['hz'] / 1e6:g} MHz",
    ]
    found = {name: result for name, result in answer["schemes"].items() if "reason" not in result}
    parts: list[RenderableType] = [tables.plain(line) for line in head]
    parts.append(_schemes(found))
    parts += [
        tables.plain(f"{name}: {result['reason']}")
        for name, result in answer["schemes"].items()
        if "reason" in result
    ]
    if len(found) == 1:
        parts.append(_layers(answer["layers"], next(iter(found))))
    parts.append(_area(answer["area"]))
    if "report" in answer:
        parts.append(tables.plain(f"wrote {answer['report']}"))
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    """Numbers to the right, names to the left, no lines."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), title_style="bold")
    for column in columns:
        left = column in ("stored as", "layer", "bound", "name", "part", "what it is")
        table.add_column(
            column, justify="left" if left else "right", no_wrap=column != "what it is", min_width=3
        )
    return table


def _schemes(found: dict[str, dict[str, Any]]) -> Table:
    """TOPS/W: 2 operations per multiply-accumulate, of all weights and of the kept ones; the chip without
    DRAM.
    """
    columns = ("stored as", "cycles", "ms", "stalls", "use", "DRAM kB", "uJ", "of it DRAM", "TOPS/W", "kept")
    table = _table("one image", *columns)
    for name, result in found.items():
        energy = result["energy_pj_total"]
        rate = result["tops_per_watt"]
        table.add_row(
            name,
            f"{result['cycles']:,}",
            f"{1e3 * result['seconds']:.3f}",
            f"{sum(result['stall_cycles'].values()) / result['cycles']:.0%}",
            f"{result['utilisation']:.0%}",
            f"{result['dram_bytes_total'] / 1e3:,.0f}",
            f"{energy / 1e6:,.1f}",
            f"{result['energy_pj']['dram'] / energy:.0%}",
            f"{rate['chip_dense']:.1f}",
            f"{rate['chip_kept']:.1f}",
        )
    return table


def _layers(layers: list[dict[str, Any]], scheme: str) -> Table:
    table = _table("layers", "layer", "cycles", "use", "bound", "DRAM kB", "weights kB", "uJ")
    for layer in layers:
        result = layer["schemes"][scheme]
        moved = result["dram_bytes"]
        stored = sum(moved[kind] for kind in ("weights", "mask", "index", "affine"))
        table.add_row(
            tables.plain(layer["name"]),
            f"{result['cycles']:,}",
            f"{result['utilisation']:.0%}",
            result["bound"],
            f"{result['dram_bytes_total'] / 1e3:,.1f}",
            f"{stored / 1e3:,.1f}",
            f"{result['energy_pj_total'] / 1e6:,.2f}",
        )
    return table


def _area(area: dict[str, Any]) -> Table:
    """Of the machine; what is unknown is in no sum."""
    table = _table("area", "part", "gate equivalents", "KiB", "mm2", "what it is")
    for name, its in [*area["parts"].items(), ("sum of what is known", area)]:
        if "unknown" in its and name in area["parts"]:
            table.add_row(name, "unknown", "", "", its["unknown"])
            continue
        count, bits, size = its["gate_equivalents"], its["bits"], its["mm2"]
        table.add_row(
            name,
            f"{count:,}" if count else "",
            f"{bits / 8192:,.0f}" if bits else "",
            f"{size:.3f}" if size is not None else "",
            its.get("what", ""),
        )
    return table


def show_sweep(answer: dict[str, Any]) -> RenderableType:
    keys = answer["parameters"]
    table = _table("points", *keys, "stored as", "cycles", "DRAM kB", "uJ", "TOPS/W", "best")
    points = [point for point in answer["points"] if "reason" not in point]
    for point in points:
        table.add_row(
            *(str(point["parameters"][key]) for key in keys),
            point["scheme"],
            f"{point['cycles']:,}",
            f"{point['dram_bytes'] / 1e3:,.0f}",
            f"{point['energy_pj'] / 1e6:,.1f}",
            f"{point['tops_per_watt']:.1f}",
            "*" if point["pareto"] else "",
        )
    refused = [tables.plain(point["reason"]) for point in answer["points"] if "reason" in point]
    return Group(table, Text("* no other point is better in cycles or energy and no worse in both"), *refused)


def to_csv(answer: dict[str, Any]) -> str:
    """Units: cycles, bytes, pJ; gate equivalents and mm2 of the machine's parts in the last row alone, empty
    where they are unknown.
    """
    parts = answer["area"]["parts"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    first = True
    for scheme, whole in answer["schemes"].items():
        if "reason" in whole:
            continue
        rows = [(layer["name"], layer["schemes"][scheme]) for layer in answer["layers"]]
        for name, result in [*rows, ("total", whole)]:
            flat = {
                "scheme": scheme,
                "layer": name,
                **{
                    key: result[key]
                    for key in ("cycles", "compute_cycles", "macs", "active_macs", "utilisation")
                },
                **{f"stall_{cause}": count for cause, count in result["stall_cycles"].items()},
                **{f"bytes_{kind}": count for kind, count in result["dram_bytes"].items()},
                **{f"pj_{part}": value for part, value in result["energy_pj"].items()},
                **{
                    f"{unit}_{part.replace(' ', '_')}": its.get(key) if name == "total" else None
                    for unit, key in (("gates", "gate_equivalents"), ("mm2", "mm2"))
                    for part, its in parts.items()
                },
            }
            if first:
                writer.writerow(flat)
                first = False
            writer.writerow(flat.values())
    return out.getvalue().rstrip("\n")
