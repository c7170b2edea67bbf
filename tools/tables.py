"""Tables that a person reads: sizes and layers of a ticket."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SIZE_ROWS = [
    ("fp32", "fp32_bytes"),
    ("fp16", "fp16_bytes"),
    ("int8", "int8_bytes"),
    ("1 bit per weight", "binary_bytes"),
    ("1 bit per free weight (the paper's)", "paper_bytes"),
    ("entropy bound, one density per layer", "entropy_bytes"),
]


def number(value: float) -> str:
    """Bytes, or another count, with thousands separated."""
    return f"{value:,.0f}"


def sizes(answer: dict[str, Any]) -> RenderableType:
    """The file by part, next to every other way to store the network."""
    total = answer["file_bytes"]
    by_part = Table("part", "bytes", "share", title="the file", title_justify="left")
    for part, size in answer["parts"].items():
        if size:
            by_part.add_row(part, number(size), f"{size / total:.1%}")
    by_part.add_row("whole file", number(total), "100.0%", style="bold")
    others = Table("stored as", "bytes", "times the file", title="the same network", title_justify="left")
    for label, key in SIZE_ROWS:
        others.add_row(label, number(answer[key]), f"{answer[key] / total:.2f}")
    for table in (by_part, others):
        for column in table.columns[1:]:
            column.justify = "right"
    bits = f"{answer['bits_per_weight']:.4f} bits per weight"
    if answer["bits_per_free_weight"]:
        bits += f", {answer['bits_per_free_weight']:.3f} per free weight (whole file)"
    return Group(by_part, others, Text(bits))


def ratios(answer: dict[str, Any]) -> Text:
    """Realised ratios next to those that were asked for, where the ticket knows them."""
    asked = answer["provenance"]
    lines = []
    for name in ("sparsity", "prune", "lock"):
        requested = f" (asked for {asked[name]})" if name in asked else ""
        lines.append(f"{name} {answer[name]:.4f}{requested}")
    return Text(
        ", ".join([*lines, f"density {answer['density']:.4f}", f"MAC density {answer['mac_density']:.4f}"])
    )


def layers(answer: dict[str, Any]) -> Table:
    """A row per layer."""
    columns = (
        "layer",
        "shape",
        "weights",
        "pruned",
        "locked",
        "free",
        "kept",
        "density",
        "MACs",
        "mode",
        "mask bits",
    )
    table = Table(*columns, title="layers", title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    for layer in answer["layers"]:
        counts = [number(layer[key]) for key in ("weights", "pruned", "locked", "free", "kept")]
        shape = "x".join(map(str, layer["shape"]))
        density = f"{layer['density']:.3f}"
        table.add_row(
            layer["name"],
            shape,
            *counts,
            density,
            number(layer["macs"]),
            layer["mode"],
            number(layer["mask_bits"]),
        )
    return table
