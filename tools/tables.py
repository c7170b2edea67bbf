"""What a person reads: sizes and layers of a ticket, strings of a file as literal text."""

from __future__ import annotations

import unicodedata
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SIZE_ROWS = [
    ("fp32", "fp32_bytes"),
    ("fp16", "fp16_bytes"),
    ("dense int8", "int8_bytes"),
    ("1 bit per weight", "binary_bytes"),
    ("1 bit per free weight (the paper's)", "paper_bytes"),
    ("entropy-coded, one density per layer", "entropy_bytes"),
]


SYNTHETIC = "SYNTHETIC: a random mask; predictions mean nothing"


def plain(text: str) -> Text:
    """Text as it is, for every string that comes from a file: no markup, and control characters visible
    (ESC as \\x1b), so that a terminal never obeys a file.
    """
    return Text("".join(repr(c)[1:-1] if unicodedata.category(c)[0] == "C" else c for c in text))


def origin(provenance: dict[str, str]) -> str:
    """Where a ticket comes from, in a line."""
    if provenance.get("method") == "synthetic":
        return SYNTHETIC
    known = [f"{key} {provenance[key]}" for key in ("method", "data", "run") if key in provenance]
    return "searched: " + ", ".join(known) if known else "of unknown origin"


def number(value: float) -> str:
    """Bytes, or another count, with thousands separated."""
    return f"{value:,.0f}"


def short(count: float) -> str:
    """Three digits of a count: 864, 36.9k, 2.36M."""
    for unit, one in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= one:
            return f"{count / one:.3g}{unit}"
    return f"{count:.0f}"


def sizes(answer: dict[str, Any]) -> RenderableType:
    """The file by part, next to every other way to store the network."""
    total = answer["file_bytes"]
    by_part = _table("the file", "part", "bytes", "share")
    for part, size in answer["parts"].items():
        if size:
            by_part.add_row(part, number(size), f"{size / total:.1%}")
    by_part.add_row("whole file", number(total), "100.0%", style="bold")
    others = _table("the same network", "stored as", "bytes", "times the file")
    for label, key in SIZE_ROWS:
        others.add_row(label, number(answer[key]), f"{answer[key] / total:.2f}")
    bits = f"{answer['bits_per_weight']:.4f} bits per weight"
    if answer["bits_per_free_weight"]:
        bits += f", {answer['bits_per_free_weight']:.3f} per free weight (whole file)"
    return Group(by_part, others, Text(bits), *map(Text, _affines(answer["layers"])))


def _affines(layers: list[dict[str, Any]]) -> list[str]:
    """A line that says how many bits a scale or shift has; none for a ticket without affines."""
    widths = [layer["affine_bits"] for layer in layers if layer["affine_bits"]]
    counts = [f"{bits} bits in {widths.count(bits)}" for bits in sorted(set(widths))]
    return [f"scales and shifts of {', '.join(counts)} of {len(layers)} layers"] if widths else []


def ratios(answer: dict[str, Any]) -> Text:
    """Realised ratios next to those that were asked for, where the ticket knows them."""
    asked = answer["provenance"]
    lines = []
    for name in ("sparsity", "prune", "lock"):
        requested = f" (asked for {_ratio(asked[name])})" if name in asked else ""
        lines.append(f"{name} {answer[name]:.4f}{requested}")
    return plain(
        ", ".join([*lines, f"density {answer['density']:.4f}", f"MAC density {answer['mac_density']:.4f}"])
    )


def _ratio(text: str) -> str:
    """A ratio of the provenance, whose strings may be anything: what is no number is shown as it is."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def layers(answer: dict[str, Any]) -> Table:
    """A row per layer; pruned and locked counts are in the JSON."""
    columns = ("layer", "shape", "weights", "free", "kept", "density", "MACs", "mode", "bits")
    table = _table("layers", *columns)
    for layer in answer["layers"]:
        counts = [short(layer[key]) for key in ("weights", "free", "kept")]
        shape = "x".join(map(str, layer["shape"]))
        row = [shape, *counts, f"{layer['density']:.3f}", short(layer["macs"]), layer["mode"]]
        table.add_row(plain(layer["name"]), *row, short(layer["mask_bits"]))
    return table


def steps(steps: list[dict[str, Any]]) -> Table:
    """A row per step of a chip's image, with its place in it."""
    table = _table("steps", "at", "operator", "layer", "reads", "gives")
    for step in steps:
        reads = " ".join(map(str, step["reads"]))
        row = [str(step["at"]), step["operator"], plain(step["layer"] or ""), reads, str(step["gives"])]
        table.add_row(*row)
    return table


def _table(title: str, *columns: str) -> Table:
    """Numbers to the right, names and modes to the left, no lines: it must fit into 80 columns."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), title_style="bold")
    for column in columns:
        left = column in ("layer", "shape", "part", "stored as", "mode", "operator")
        # in a narrow terminal names are shortened, never numbers
        table.add_column(
            column, justify="left" if left else "right", no_wrap=not left, overflow="ellipsis", min_width=3
        )
    return table
