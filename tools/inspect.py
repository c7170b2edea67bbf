"""slt-inspect: verifies a packed ticket and prints what is inside; or tells what this machine runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from rich.console import Group, RenderableType

from slt_infer import _core, reference
from slt_infer.codec import core_layer
from slt_infer.errors import SltError
from slt_infer.format import load
from slt_infer.format.header import VERSION
from slt_infer.report import size_report, ticket_report
from slt_infer.ticket import Layer, Ticket
from slt_infer.tools import cli, tables

WEIGHT_LIMIT = 2**24  # a --weights answer is text: this many numbers are over 30 MB of it


def show(answer: dict[str, Any]) -> RenderableType:
    if "isa" in answer:
        return Group(*(tables.plain(f"{key}: {_text(value)}") for key, value in answer.items()))
    if "values" in answer:
        rows = (" ".join("+" if v > 0 else "-" if v < 0 else "." for v in row) for row in answer["values"])
        name = tables.plain(answer["layer"]).plain
        return "\n".join([f"{name}: {answer['shape']}, c = {answer['constant']!r}", *rows])
    source = answer["source"]
    image = "x".join(map(str, answer["input"]))
    lines = [
        f"{answer['file']}: {answer['network']}, input {image}, {answer['classes']} classes",
        f"{source['generator']} with {source['rounds']} rounds, seed {source['seed']}, "
        f"freeze law {source['freeze']}; format version {answer['format']}; all checksums right",
        tables.origin(answer["provenance"]),
        *_preprocessing(answer["preprocessing"]),
        _quantisation(answer["quantisation"]),
    ]
    if answer.get("tasks", 1) > 1:
        lines.append(f"task {answer['task']} of {answer['tasks']}; sizes are of the whole file")
    head = map(tables.plain, lines)
    return Group(*head, tables.ratios(answer), tables.layers(answer), tables.sizes(answer))


def _preprocessing(rules: dict[str, Any]) -> list[str]:
    mean, std = (" ".join(f"{value:g}" for value in rules[key]) for key in ("mean", "std"))
    images = f"mean {mean}, std {std}" if mean else "divided by 255"
    lines = [f"images: {images}, resize {rules['resize']}"]
    return lines + ([f"class names: {', '.join(rules['classes'])}"] if rules["classes"] else [])


def _quantisation(given: dict[str, Any] | None) -> str:
    if given is None:
        return "runs in f32; no scales for int8"
    powers = ", powers of two: with --multiplierless no multiplications" if given["pow2"] else ""
    return f"runs in f32 and int8 ({given['scales']} scales{powers})"


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


@cli.command("slt-inspect", example=["slt-inspect net.slt", "slt-inspect net.slt --weights fc1"], show=show)
def main(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A packed ticket (.slt).")] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="LAYER", help="Print this layer's weights instead, a row per output."),
    ] = None,
    machine: Annotated[
        bool, typer.Option("--machine", help="Tell which instruction set is used here, and why.")
    ] = False,
    task: cli.Task = None,
    max_memory: cli.MaxMemory = None,
    as_json: cli.Json = False,
    version: cli.Version = False,
) -> cli.Answer:
    """Verifies every checksum of a packed ticket and prints what is inside: sizes, layers, realised ratios.

    --weights LAYER regenerates one layer: rows of [out, K], in docs/format.md's order, as + (c), - (-c) and
    . (removed), a line per row of the weight matrix.
    """
    if machine:
        return dict(_core.machine())
    if file is None:
        cli.usage("give a FILE, or --machine")
    whole = load(file, max_memory=max_memory)
    ticket = whole.task(task or 0)
    if weights is None:
        rules = msgspec.to_builtins(ticket.preprocessing)
        report = {**ticket_report(ticket), **size_report(whole), "tasks": len(whole.tasks)}
        return {"file": str(file), "format": VERSION, "preprocessing": rules, "task": task or 0, **report}
    names = [layer.shape.name for layer in ticket.layers]
    if weights not in names:
        raise SltError("no-layer", f"no layer {weights!r}; there are: {', '.join(names)}", "--weights")
    return _weights(ticket, ticket.layers[names.index(weights)])


def _weights(ticket: Ticket, layer: Layer) -> dict[str, Any]:
    shape = layer.shape
    if shape.weights > WEIGHT_LIMIT:
        raise SltError(
            "limit", f"{shape.weights} weights are too many to print; {WEIGHT_LIMIT} are not", "--weights"
        )
    if layer.coats or layer.flips is not None:  # no fast path has these
        values = reference.weights(ticket.source, layer)
    else:
        core = core_layer(ticket.source, shape, layer.id, layer.freeze, layer.code)
        kept, sign = (_bits(words, shape.fan_in) for words in core.rows(0, shape.out))
        values = np.where(kept, np.where(sign, -layer.constant, layer.constant), np.float32(0))
    return {
        "layer": shape.name,
        "shape": [shape.out, shape.fan_in],
        "order": ["kernel row", "kernel column", "input channel"],
        "constant": float(layer.constant),
        "values": values,
    }


def _bits(rows: np.ndarray, columns: int) -> np.ndarray:
    octets = np.ascontiguousarray(rows, dtype="<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little", count=columns).astype(bool)
