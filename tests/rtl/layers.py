"""A layer of a packed ticket as rtl/layer.sv takes it, and what it must give by the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slt_infer import _core, quantise
from slt_infer.codec import prior
from slt_infer.codec.masks import coded_layer
from slt_infer.errors import SltError, TicketError
from slt_infer.format import dumps
from slt_infer.reference_int8 import factors_of, joined_values, layer_sums, rounded, value_scales
from slt_infer.ticket import Conv2d, Linear, MaskCode, Relu, Ticket, inputs_of, pack_bits, unpack_bits

from .benches import build, simulate
from .files import Stream, streams

MODES = ("raw", "static", "prior", "const")


@dataclass(frozen=True)
class Array:
    """Parameters of layer.sv."""

    rows: int = 8
    columns: int = 8
    per_cycle: int = 1
    width: int = 1
    blocks: int = 32  # a row's at most
    pow2: bool = False

    def program(self) -> Path:
        return build(
            "layer",
            ROWS=self.rows,
            COLUMNS=self.columns,
            BLOCKS=self.blocks,
            PER_CYCLE=self.per_cycle,
            WIDTH=self.width,
            POW2=int(self.pow2),
        )


@dataclass(frozen=True)
class Place:
    """Where a layer is in the graph. value: that its node gives. rounded: that its sums become, of an add if
    it is joined to one; residual: the other operand then, else 0. relu: read by nothing but a relu, which the
    rounding does.
    """

    value: int
    rounded: int
    residual: int
    relu: bool


def place(ticket: Ticket, index: int) -> Place:
    nodes = ticket.network.nodes
    (value,) = (v for v, n in enumerate(nodes, 1) if isinstance(n, Conv2d | Linear) and n.layer == index)
    add = {joined: add for add, joined in joined_values(ticket.network).items()}.get(value)
    gives = add or value
    other = sum(inputs_of(nodes[add - 1])) - value if add else 0
    readers = [node for node in nodes if gives in inputs_of(node)]
    return Place(value, gives, other, len(readers) == 1 and isinstance(readers[0], Relu))


def expected(ticket: Ticket, where: Place, values: list[np.ndarray]) -> np.ndarray:
    """What a layer gives for the first image, int64 [out, pixels], from the values before it."""
    assert ticket.quantisation is not None
    network, scales = ticket.network, value_scales(ticket)
    node = network.nodes[where.value - 1]
    assert isinstance(node, Conv2d | Linear)
    s_out = scales[where.rounded]
    factors = factors_of(ticket, node, scales[node.value], s_out, 1)
    r, s_r = (values[where.residual][:1], scales[where.residual]) if where.residual else (np.zeros(1), 0.0)
    sums = layer_sums(ticket, node, values[node.value][:1])
    y = rounded(sums, *factors, r.astype(np.int64), s_r / s_out, ticket.quantisation.pow2)
    last = where.rounded == len(network.nodes)
    low, high = (-(2**31), 2**31 - 1) if last else (-127, 127)
    y = np.clip(y, 0 if where.relu else low, high)
    return y.reshape(y.shape[1], -1)


def by_groups(array: np.ndarray, rows: int) -> np.ndarray:
    """[out, pixels] in the order in which values leave: group of rows, pixel, row."""
    cuts = np.arange(rows, len(array), rows)
    return np.concatenate([group.T.ravel() for group in np.split(array, cuts)])


def memory(q: np.ndarray, columns: int) -> np.ndarray:
    """An image [C, H, W] as the memory has it: uint8 [H * W, words of a pixel * columns]. Bytes past the
    channels may be anything.
    """
    channels = len(q)
    pixels = q.reshape(channels, -1).T % 256
    return np.pad(pixels, ((0, 0), (0, -channels % columns)), constant_values=0x55)


def simulated(
    ticket: Ticket,
    data: bytes,
    index: int,
    values: list[np.ndarray],
    array: Array,
    stalls: int = 0,
    times: int = 1,
) -> tuple[np.ndarray, int]:
    """What the hardware gives for a layer of a file and the first image, [out, pixels], and its cycles.

    Raises SltError (code `unsupported`) for what it cannot: another generator, groups, coats and flips;
    TicketError where it refuses a tile.
    """
    layer, where = ticket.layers[index], place(ticket, index)
    shape, source, freeze = layer.shape, ticket.source, layer.freeze
    if source.generator != "threefry4x32":
        remedy = "the hardware has no multiplier for it: pack the ticket with --generator threefry4x32"
        raise SltError("unsupported", f"generator {source.generator}; {remedy}", "source")
    if shape.groups != 1 or layer.coats or layer.flips is not None:
        message = "groups, coats or flips: the hardware has layers of one group and one coat"
        raise SltError("unsupported", message, f"layer {shape.name}")
    node = ticket.network.nodes[where.value - 1]
    q = values[node.value][0]
    stride, padding = (node.stride, node.padding) if isinstance(node, Conv2d) else (1, 0)
    image = q if isinstance(node, Conv2d) else q.reshape(-1, 1, 1)
    channels, height, width = image.shape
    out_rows, out_columns = (
        (n + 2 * padding - kernel) // stride + 1
        for n, kernel in zip((height, width), shape.kernel, strict=True)
    )
    words = memory(image, array.columns)
    pitch = words.shape[1] // array.columns
    row_pitch = width * pitch
    whole = channels % array.columns == 0 or shape.kernel == (1, 1)
    rounding = quantise.rounding(ticket)[where.rounded]
    m, b = (np.broadcast_to(x, shape.out) for x in (rounding.m, rounding.b))
    tiled = [stream for stream in streams(data, decode=False)[1] if stream.layer[0] == shape.name]
    all_kept = not tiled and bool(unpack_bits(layer.mask, layer.free).all())
    stream = tiled[0] if tiled else Stream([shape.name, layer.id], "const", 1, 0, False, [], [], [])
    given: list[int] = [stalls, times, array.columns, source.seed, source.rounds, source.freeze == "mixed"]
    given += [freeze.bits, freeze.prune, freeze.lock, shape.out, shape.fan_in]
    given += [whole, channels, *shape.kernel, stride, padding, height, width, out_rows, out_columns]
    given += [out_rows * out_columns, -padding * (row_pitch + pitch) % 2**24, pitch, row_pitch]
    given += [stride * pitch, stride * row_pitch, not tiled, all_kept, rounding.s, rounding.m_r]
    given += [bool(where.residual), where.relu, where.rounded == len(ticket.network.nodes), *stream.numbers()]
    given += [*(int(x) % 2**16 for x in m), *(int(x) % 2**48 for x in b), len(stream.tiles)]
    given += [number for tile in stream.tiles for number in tile.numbers()]
    given += [len(words) * pitch, *words.ravel()]
    if where.residual:
        residual = values[where.residual][0].reshape(shape.out, -1) % 256
        given += by_groups(residual, array.rows).tolist()
    refused, *y, cycles = simulate(array.program(), map(int, given))
    if refused:
        remedy = f"the decoder gives {refused} (rtl/mask_decoder.sv says why): the file is damaged"
        raise TicketError("bad-mask", f"a tile is refused, {remedy}", f"mask of layer {shape.name}")
    return np.array(y), cycles


def recoded(ticket: Ticket, index: int, mode: str) -> Ticket:
    """The same ticket with a layer's mask in another mode; in `const` every free weight of it is kept."""
    layer, source = ticket.layers[index], ticket.source
    shape, free = layer.shape, layer.free
    if mode == "const":
        ones = pack_bits(np.ones(free, dtype=bool))
        new = coded_layer(source, shape, layer.id, layer.freeze, ones)
        new = replace(new, affine=layer.affine, affine_bits=layer.affine_bits)
    else:
        mask, counts = layer.mask, layer.code.free
        ends = np.cumsum(counts, dtype=np.int64).tolist()
        spans = list(zip([0, *ends[:-1]], ends, strict=True))
        lanes = _core.lanes_of(free)
        density = round(4096 * (layer.kept - layer.locked) / free)
        found = prior.find_prior(source, layer.id, free, mask)
        found = found or prior.Prior(1, False, ((0, density), (1, density + 1)), 0.0)
        code = MaskCode("raw", 0, layer.code.tile_rows, counts, layer.code.words, b"")
        if mode == "raw":
            tiles = [_core.encode_raw(mask, *span) for span in spans]
        elif mode == "static":
            code = replace(code, mode="static", density=density)
            tiles = [_core.encode_static(mask, *span, lanes, density) for span in spans]
        else:
            cut = found.planes, found.sign, found.intervals
            code = replace(code, mode="prior", planes=cut[0], sign=cut[1], intervals=cut[2])
            scores = source.generator, source.rounds, source.seed, layer.id
            tiles = [_core.encode_prior(mask, *span, lanes, *scores, *cut) for span in spans]
        words = np.array([len(tile) // 2 for tile in tiles], dtype=np.uint32)
        payload = b"".join(tile + bytes(-len(tile) % 4) for tile in tiles)
        new = replace(layer, code=replace(code, words=words, payload=payload))
    layers = list(ticket.layers)
    layers[index] = new
    return replace(ticket, layers=tuple(layers))


def check(
    ticket: Ticket,
    index: int,
    values: list[np.ndarray],
    array: Array,
    mode: str = "",
    stalls: int = 0,
    times: int = 1,
) -> int:
    """Simulates a layer so many times, in the mode of the file or another, and asserts every value. Returns
    the cycles of the last time.
    """
    if mode and mode != ticket.layers[index].code.mode:
        ticket = recoded(ticket, index, mode)
    y, cycles = simulated(ticket, dumps(ticket), index, values, array, stalls, times)
    want = by_groups(expected(ticket, place(ticket, index), values), array.rows)
    wrong = np.flatnonzero(y != want)
    name = ticket.layers[index].shape.name
    assert len(wrong) == 0, f"layer {name}: {len(wrong)} of {len(want)} values, the first {wrong[0]}"
    return cycles
