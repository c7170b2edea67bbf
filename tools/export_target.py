"""slt-export --target: the words that a chip loads, written and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rich.console import Group, RenderableType

from slt_infer.format import dumps, loads
from slt_infer.format.target import rtl_image, save_image
from slt_infer.ticket import Ticket
from slt_infer.tools import cli, tables

Form = Literal["bin", "hex"]


def form_of(path: Path) -> Form:
    """How the words are written, by the file's name; other names are bad usage."""
    if path.suffix == ".bin":
        return "bin"
    if path.suffix == ".hex":
        return "hex"
    cli.usage(f"--target writes FILE.bin or FILE.hex, not {path.name}")


def written(ticket: Ticket, path: Path, form: Form) -> dict[str, Any]:
    """What was written of a ticket, which is verified first."""
    ticket = loads(dumps(ticket))
    image = rtl_image(ticket)
    return {
        "target": "rtl",
        "form": form,
        "file_bytes": save_image(image, path, form),
        "words": len(image.words),
        "parts": image.parts,
        "quantised": ticket.quantisation is not None,
        "provenance": dict(ticket.provenance),
        "steps": [
            {
                "at": at,
                "operator": step.operator,
                "layer": step.layer and step.layer.shape.name,
                "reads": [value for value in (step.operand, step.residual) if value is not None],
                "gives": step.value,
            }
            for step, at in zip(image.steps, image.places, strict=True)
        ],
    }


def lines(answer: dict[str, Any]) -> RenderableType:
    """What a person reads of it."""
    parts = ", ".join(f"{part} {tables.number(words)}" for part, words in answer["parts"].items() if words)
    text = [f"{cli.count(answer['words'], 'word')} of 32 bits for the units of rtl/: {parts}"]
    if not answer["quantised"]:
        text.append("weights alone, no roundings: the ticket has no scales for int8 (--int8 adds them)")
    return Group(*map(tables.plain, text), tables.steps(answer["steps"]))
