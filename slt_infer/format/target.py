"""What a chip loads of a ticket: one image of 32-bit words (docs/target.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np

from slt_infer import _core, quantise
from slt_infer.errors import SltError
from slt_infer.files import write_atomically
from slt_infer.format.sizes import align
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Node,
    Relu,
    Ticket,
    inputs_of,
)

MAGIC, VERSION, RTL = 0x49544C53, 1, 1
BURST = 16  # words; every part begins at a multiple of it
STEP_WORDS, INTERVALS_AT = 64, 48
TILE_WORDS, ROUNDING_WORDS = 4, 2
NO_VALUE = 2**32 - 1
MAX_WORDS = 2**32 - 1
RAW_TILE = 1 << 31
OPERATORS = (Conv2d, Linear, Relu, Add, MaxPool2d, AvgPool2d, GlobalAvgPool2d, Flatten)  # numbered from 1
MODES = ("const", "raw", "static", "prior")
FIELDS = (
    *("operator", "value", "operand", "residual", "relu", "wide"),
    *("channels", "height", "width", "out", "out_height", "out_width"),
    *("kernel_rows", "kernel_columns", "stride", "padding", "groups", "columns"),
    *("layer", "bits", "prune", "lock", "free", "kept", "mode", "ones", "lanes", "planes", "sign"),
    *("tile_rows", "tiles", "tiles_at", "mask_words", "mask_at", "roundings", "roundings_at", "s", "m_r"),
)


@dataclass(frozen=True)
class Step:
    """A node of the graph with the add that it is joined to and the relu that alone reads it.

    value: what it gives; rounded: the value that the rounding gives, before that relu. residual: None where
    there is none. layer: None for a node without weights.
    """

    node: Node
    value: int
    rounded: int
    operand: int
    residual: int | None
    layer: Layer | None

    @property
    def operator(self) -> str:
        return self.node.__struct_config__.tag  # type: ignore[return-value]

    @property
    def relu(self) -> bool:
        return self.value != self.rounded

    @property
    def rows(self) -> int:
        """Rows of its rounding."""
        if self.layer is not None:
            return self.layer.shape.out
        return int(isinstance(self.node, Add | AvgPool2d | GlobalAvgPool2d))


@dataclass(frozen=True)
class Image:
    """words: uint32. steps and their places; parts: words by part, `padding` the zeros between them."""

    words: np.ndarray
    steps: tuple[Step, ...]
    places: tuple[int, ...]
    parts: dict[str, int]


def rtl_image(ticket: Ticket) -> Image:
    """The image for the units of rtl/ of a ticket of one task.

    Raises SltError: `unsupported` for what they lack, `limit` for what 32 bits do not hold.
    """
    _check_units(ticket)
    steps = _steps(ticket)
    layers = list({step.layer.id: step.layer for step in steps if step.layer is not None}.values())
    quantised = ticket.quantisation is not None
    sizes = {
        "header": BURST,
        "steps": STEP_WORDS * len(steps),
        "tiles": TILE_WORDS * sum(len(layer.code.free) for layer in layers),
        "roundings": ROUNDING_WORDS * sum(step.rows for step in steps) if quantised else 0,
        "masks": sum(len(layer.code.payload) // 4 for layer in layers),
        "checksum": 1,
    }
    ends = list(accumulate(align(size, BURST) for size in sizes.values()))
    begins = dict(zip(sizes, [0, *ends], strict=False))
    total = begins["checksum"] + 1
    if total > MAX_WORDS:
        raise SltError("limit", f"an image of {total} words, over the {MAX_WORDS} that it may have", "image")

    words = np.zeros(total, dtype="<u4")
    roundings = quantise.rounding(ticket) if quantised else {}
    shapes = ticket.network.shapes()
    tiles_at, masks_at = _write_masks(words, layers, begins["tiles"], begins["masks"])
    rounding_at = begins["roundings"]
    for number, step in enumerate(steps):
        fields = _node_fields(step, shapes, wide=step.rounded == len(shapes) - 1)
        if step.layer is not None:
            fields |= _layer_fields(step.layer, tiles_at[step.layer.id], masks_at[step.layer.id])
        if step.rounded in roundings:
            rounding = roundings[step.rounded]
            rows = _rounding_words(rounding)
            fields |= {"roundings": step.rows, "roundings_at": rounding_at}
            fields |= {"s": rounding.s, "m_r": rounding.m_r}
            words[rounding_at : rounding_at + len(rows)] = rows
            rounding_at += len(rows)
        at = begins["steps"] + STEP_WORDS * number
        words[at : at + len(FIELDS)] = _checked(fields, _where(step))
        if step.layer is not None:
            words[at + INTERVALS_AT : at + STEP_WORDS] = _intervals(step.layer)
    words[: begins["steps"]] = _header(ticket, total, len(steps), len(shapes))
    words[-1] = _core.crc32c(words[:-1].tobytes())
    places = tuple(begins["steps"] + STEP_WORDS * number for number in range(len(steps)))
    return Image(words, tuple(steps), places, sizes | {"padding": total - sum(sizes.values())})


def save_image(image: Image, path: Path, form: Literal["bin", "hex"]) -> int:
    """Writes an image, wholly or not at all; returns the file's size in bytes."""
    if form == "hex":
        data = (image.words.astype(">u4").tobytes().hex("\n", 4) + "\n").encode()
    else:
        data = image.words.tobytes()
    write_atomically(path, lambda file: file.write(data))
    return len(data)


def _steps(ticket: Ticket) -> list[Step]:
    """In the order of the nodes of which each is the first."""
    nodes = ticket.network.nodes
    readers: dict[int, list[int]] = {}
    for value, node in enumerate(nodes, 1):
        for operand in inputs_of(node):
            readers.setdefault(operand, []).append(value)
    add_of = {joined: add for add, joined in ticket.network.joined.items()}
    steps, taken = [], set[int]()
    for first, node in enumerate(nodes, 1):
        if first in taken:
            continue
        layer = ticket.layers[node.layer] if isinstance(node, Conv2d | Linear) else None
        value = rounded = add_of.get(first, first)
        operand, last, residual = inputs_of(node)[0], nodes[rounded - 1], None
        if isinstance(last, Add):
            summed = operand if last is node else first
            residual = last.left + last.right - summed
        alone = readers.get(rounded, [])
        if not isinstance(node, Relu | MaxPool2d | Flatten) and len(alone) == 1:
            (reader,) = alone
            value = reader if isinstance(nodes[reader - 1], Relu) else rounded
        taken |= {rounded, value}
        steps.append(Step(node, value, rounded, operand, residual, layer))
    return steps


def _where(step: Step) -> str:
    if step.layer is not None:
        return f"layer {step.layer.shape.name}"
    return f"value {step.value} ({step.operator})"


def _check_units(ticket: Ticket) -> None:
    source = ticket.source
    if source.generator != "threefry4x32":
        message = (
            f"the units of rtl/ have the generator threefry4x32, the ticket has {source.generator}: "
            "search or pack with --generator threefry4x32"
        )
        raise SltError("unsupported", message, "source")
    if ticket.others:
        message = f"an image is of one task, the ticket has {len(ticket.tasks)}: give one, ticket.task(0)"
        raise SltError("unsupported", message, "tasks")
    for layer in ticket.layers:
        if layer.coats or layer.flips is not None:
            message = "the units of rtl/ have one coat and no flips"
            raise SltError("unsupported", message, f"layer {layer.shape.name}")


def _checked(fields: dict[str, int], where: str) -> list[int]:
    """In the order of FIELDS, each in 32 bits."""
    for name, value in fields.items():
        if not 0 <= value < 2**32:
            raise SltError("limit", f"{name} is {value}, more than 32 bits hold", where)
    return [fields.get(name, 0) for name in FIELDS]


def _header(ticket: Ticket, total: int, steps: int, values: int) -> list[int]:
    source, quantisation = ticket.source, ticket.quantisation
    scales = quantise.scales(ticket.network, quantisation) if quantisation is not None else [0.0]
    words = [MAGIC, VERSION, RTL, total, source.seed % 2**32, source.seed >> 32, source.rounds]
    words += [source.freeze == "mixed", quantisation is not None]
    words += [quantisation is not None and quantisation.pow2, steps, values]
    words += [_float_bits(scales[0]), _float_bits(scales[-1])]
    return words + [0] * (BURST - len(words))


def _float_bits(number: float | None) -> int:
    assert number is not None  # a joined value is neither the image nor the logits
    (bits,) = struct.unpack("<I", struct.pack("<f", number))
    return bits


def _node_fields(step: Step, shapes: Sequence[tuple[int, ...]], wide: bool) -> dict[str, int]:
    node = step.node
    channels, height, width = (*shapes[step.operand], 1, 1)[:3]
    out, out_height, out_width = (*shapes[step.value], 1, 1)[:3]
    fields = {
        "operator": 1 + OPERATORS.index(type(node)),
        "value": step.value,
        "operand": step.operand,
        "residual": NO_VALUE if step.residual is None else step.residual,
        "relu": int(step.relu),
        "wide": int(wide and step.rows > 0),
        "channels": channels,
        "height": height,
        "width": width,
        "out": out,
        "out_height": out_height,
        "out_width": out_width,
    }
    if step.layer is not None:
        rows, columns = step.layer.shape.kernel
        fields |= {"kernel_rows": rows, "kernel_columns": columns, "stride": 1}
    if isinstance(node, MaxPool2d | AvgPool2d):
        fields |= {"kernel_rows": node.kernel, "kernel_columns": node.kernel}
    if isinstance(node, Conv2d | MaxPool2d | AvgPool2d):
        fields |= {"stride": node.stride, "padding": node.padding}
    return fields


def _layer_fields(layer: Layer, tiles_at: int, mask_at: int) -> dict[str, int]:
    code = layer.code
    return {
        "groups": layer.shape.groups,
        "columns": layer.shape.fan_in,
        "layer": layer.id,
        "bits": layer.freeze.bits,
        "prune": layer.freeze.prune,
        "lock": layer.freeze.lock,
        "free": layer.free,
        "kept": layer.kept,
        "mode": MODES.index(code.mode),
        "ones": int(code.mode == "const" and code.density > 0),
        "lanes": _core.lanes_of(layer.free),
        "planes": code.planes,
        "sign": int(code.sign),
        "tile_rows": code.tile_rows,
        "tiles": len(code.free),
        "tiles_at": tiles_at if len(code.free) else 0,
        "mask_words": len(code.payload) // 4,
        "mask_at": mask_at if code.payload else 0,
    }


def _intervals(layer: Layer) -> list[int]:
    code = layer.code
    intervals = code.intervals or ((0, code.density if code.mode == "static" else 0),)
    words = [start | f << 16 for start, f in intervals]
    return words + words[-1:] * (STEP_WORDS - INTERVALS_AT - len(words))


def _write_masks(
    words: np.ndarray, layers: Iterable[Layer], tiles_at: int, mask_at: int
) -> tuple[dict[int, int], dict[int, int]]:
    """Tiles and payloads of every mask; where they begin, by layer id."""
    tiles_of, mask_of = {}, {}
    for layer in layers:
        code = layer.code
        tiles_of[layer.id], mask_of[layer.id] = tiles_at, mask_at
        count = code.free.astype(np.int64)
        taken = (code.words.astype(np.int64) & ~RAW_TILE) + 1 >> 1
        entries = words[tiles_at : tiles_at + TILE_WORDS * len(count)].reshape(-1, TILE_WORDS)
        entries[:, 0] = count.cumsum() - count
        entries[:, 1] = count
        entries[:, 2] = code.words | np.uint32(RAW_TILE if code.mode == "raw" else 0)
        entries[:, 3] = mask_at + taken.cumsum() - taken
        payload = np.frombuffer(code.payload, dtype="<u4")
        words[mask_at : mask_at + len(payload)] = payload
        tiles_at += entries.size
        mask_at += len(payload)
    return tiles_of, mask_of


def _rounding_words(rounding: quantise.Rounding) -> np.ndarray:
    """uint32 [2 * rows]: 48 bits of b, then 16 of m."""
    m = (rounding.m.astype(np.int64) & 0xFFFF).astype(np.uint64) << np.uint64(48)
    b = (rounding.b & (1 << 48) - 1).astype(np.uint64)
    return (b | m).astype("<u8").view("<u4")
