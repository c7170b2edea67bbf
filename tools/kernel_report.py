"""What is made of the rows of `slt-bench kernels`: where one kernel overtakes another, and plots."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from slt_infer.errors import SltError
from slt_infer.tools.kernel_shapes import shape_of

Row = dict[str, Any]

CLASSES: dict[str, Callable[[Row], bool]] = {
    "all": lambda row: True,
    "grouped": lambda row: shape_of(row["shape"]).layer.groups > 1,
    "few pixels": lambda row: shape_of(row["shape"]).pixels <= 64,
    "many pixels": lambda row: shape_of(row["shape"]).pixels > 64,
}


def tuned(rows: Sequence[Row]) -> list[Row]:
    """The kernel table: [{isa, op, type, mode, shapes, multiplierless, upto: [[density, kernel], ...]}].

    Up to each density, in order, that kernel has the least time; the last density is 1. Times of several
    shapes count by their geometric mean. multiplierless: without the kernels of dot products. shapes: one of
    CLASSES; the ones that are not grouped, where a class tells of pixels.
    """
    table = []
    for key in dict.fromkeys((r["isa"], r["op"], r["type"], r["mode"]) for r in rows):
        isa, op, kind, mode = key
        group = [r for r in rows if (r["isa"], r["op"], r["type"], r["mode"]) == key]
        for name, belongs in CLASSES.items():
            if name != "all" and op == "linear":
                continue
            here = [r for r in group if belongs(r)]
            if name.endswith("pixels"):
                here = [r for r in here if not CLASSES["grouped"](r)]
            for multiplierless in (False, True):
                chosen = [r for r in here if not (multiplierless and r["kernel"] == "dot")]
                if chosen and (not multiplierless or len(chosen) < len(here)):
                    about = {"isa": isa, "op": op, "type": kind, "mode": mode, "shapes": name}
                    about |= {"multiplierless": multiplierless or not _has_dot(chosen)}
                    table.append(about | {"upto": upto(chosen)})
    return table


def _has_dot(rows: Iterable[Row]) -> bool:
    return any(row["kernel"] == "dot" for row in rows)


def upto(rows: Sequence[Row]) -> list[list[Any]]:
    """[[density, kernel], ...] of rows that differ in shape, density and kernel only.

    Between two measured densities with different winners lies the point where their times, straight lines
    in logarithms, cross; where one of the two was not measured on both sides, the geometric mean. A layer
    that cannot keep lists keeps planes: there lists have the time of planes.
    """
    times: dict[float, dict[str, float]] = {}
    for density in sorted({row["density"] for row in rows}):
        taken: dict[str, dict[str, float]] = {}  # by kernel and shape
        for row in rows:
            if row["density"] == density:
                taken.setdefault(row["kernel"], {})[row["shape"]] = math.log(row["seconds"])
        if "lists" in taken:
            taken["lists"] = taken.get("planes", {}) | taken["lists"]
        shapes = {shape for of_shape in taken.values() for shape in of_shape}
        times[density] = {
            kernel: sum(of_shape.values()) for kernel, of_shape in taken.items() if of_shape.keys() == shapes
        }
    steps: list[list[Any]] = []
    before, winner = 0.0, ""
    for density, of_kernel in times.items():
        if not of_kernel:
            continue
        best = min(of_kernel, key=lambda kernel: of_kernel[kernel])
        if winner and best != winner:
            steps.append([_crossing(before, density, times, winner, best), winner])
        before, winner = density, best
    return [*steps, [1.0, winner]] if winner else []


def _crossing(low: float, high: float, times: dict[float, dict[str, float]], below: str, above: str) -> float:
    share = 0.5
    if {below, above} <= times[low].keys() & times[high].keys():
        gap_low = times[low][above] - times[low][below]  # not below 0: there `below` wins
        gap_high = times[high][below] - times[high][above]
        share = gap_low / (gap_low + gap_high) if gap_low + gap_high > 0 else 0.5
    return round(math.exp(math.log(low) + share * (math.log(high) - math.log(low))), 4)


def svg_pyplot() -> Any:
    """matplotlib.pyplot without a screen. Raises SltError (`missing-plot`) where it is not installed."""
    try:
        import matplotlib
    except ImportError as error:
        remedy = "pip install 'slt-infer[plot]' installs it"
        raise SltError("missing-plot", f"cannot be imported ({error}); {remedy}", "matplotlib") from error
    matplotlib.use("svg")
    from matplotlib import pyplot

    return pyplot


def plot(path: Path, answer: Row) -> None:
    """An SVG: the roofline of the first ISA, and time against density for each kernel.

    Raises SltError as svg_pyplot.
    """
    pyplot = svg_pyplot()
    settings = {"svg.hashsalt": "kernels", "svg.fonttype": "none", "font.size": 9}
    with pyplot.rc_context(settings):
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 5.8), layout="constrained")
        rows = [row for row in answer["results"] if row["isa"] == answer["peaks"][0]["isa"]]
        _roofline(axes[0], rows, answer["peaks"][0])
        _against_density(axes[1], rows)
        lines = {line.get_label(): line for axis in axes for line in axis.get_lines()}
        named = {label: line for label, line in lines.items() if not label.startswith("_")}
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=5, fontsize=7)
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    # matplotlib ends lines of path data with blanks
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def kinds(rows: Iterable[Row]) -> dict[tuple[str, str, str, str], list[Row]]:
    """Rows by op, type, mode and kernel."""
    found: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["op"], row["type"], row["mode"], row["kernel"]), []).append(row)
    return found


def _roofline(axis: Any, rows: Sequence[Row], peaks: Row) -> None:
    for number, (kind, of_kind) in enumerate(kinds(rows).items()):
        x = [row["operations"] / row["bytes"] for row in of_kind]
        y = [row["operations"] / row["seconds"] / row["threads"] for row in of_kind]
        axis.plot(x, y, ".", color=_colour(number), label=" ".join(kind))
    ends = [min(row["operations"] / row["bytes"] for row in rows) / 2]
    ends.append(max(row["operations"] / row["bytes"] for row in rows) * 2)
    roofs = {"add_load_f32": "additions, f32"}
    if any(row["type"] == "int8" for row in rows):
        roofs |= {"add_load_i16": "additions, int16", "dot": "dot products"}
    for name, text in roofs.items():
        axis.plot(ends, [peaks[name]] * 2, "k-", linewidth=0.8)
        axis.annotate(text, (ends[0], peaks[name]), (2, 3), textcoords="offset points", fontsize=7)
    for name, style in (("l2", "--"), ("memory", ":")):
        axis.plot(ends, [peaks[name] * x for x in ends], f"k{style}", linewidth=0.8, label=name)
    rates = [row["operations"] / row["seconds"] / row["threads"] for row in rows]
    axis.set(xscale="log", yscale="log", ylim=(min(rates) / 2, max(peaks[name] for name in roofs) * 2))
    axis.set(xlabel="operations per byte moved", ylabel="operations per second", title="roofline")


def _against_density(axis: Any, rows: Sequence[Row]) -> None:
    for number, (kind, of_kind) in enumerate(kinds(rows).items()):
        shapes = Counter(
            row["density"] for row in of_kind
        )  # lists are kept of some shapes alone: no mean then
        densities = sorted(d for d, count in shapes.items() if count == max(shapes.values()))
        times = [
            _mean(row["seconds"] / row["macs"] for row in of_kind if row["density"] == d) for d in densities
        ]
        axis.plot(densities, [1e9 * t for t in times], "o-", color=_colour(number), label=" ".join(kind))
    for op, kind in dict.fromkeys((row["op"], row["type"]) for row in rows):
        of_peer = {
            row["shape"]: row["peer_seconds"] / row["macs"]
            for row in rows
            if (row["op"], row["type"]) == (op, kind) and row["peer_seconds"]
        }
        if of_peer:
            time = 1e9 * _mean(of_peer.values())
            axis.axhline(time, color="k", linewidth=0.8)
            axis.annotate(f"dense {op} {kind}", (1, time), (-80, 3), textcoords="offset points", fontsize=7)
    axis.set(xscale="log", yscale="log", xlabel="density", title="geometric mean over the shapes")
    axis.set(ylabel="seconds per 10^9 dense multiply-accumulates")


def _colour(number: int) -> str:
    """matplotlib's ten, then light ones."""
    light = ("#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94", "#f7b6d2", "#c7c7c7")
    return f"C{number}" if number < 10 else light[number % len(light)]


def _mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))
