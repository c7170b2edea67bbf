"""One layer's mask: which coder is cheapest, its tiles, and the way back."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np

from slt_infer import _core
from slt_infer.codec.prior import MAX_PLANES, find_prior
from slt_infer.errors import TicketError
from slt_infer.ticket import Freeze, Layer, LayerShape, MaskCode, Source

RAW_TILE = 1 << 31  # in an index entry's words: this tile of a static or prior layer is raw
INDEX_ENTRY = 12  # bytes
TILE_POSITIONS = 2**18  # a tile's planes then take 32 KiB each, what a first-level cache holds


def core_layer(
    source: Source,
    shape: LayerShape,
    layer_id: int,
    freeze: Freeze,
    code: MaskCode,
    memory: _core.WeightMemory | None = None,
) -> _core.LayerCode:
    """The C++ object that regenerates this layer's rows; its memory is counted by `memory`.

    Raises TicketError if the code's sizes do not fit together.
    """
    try:
        return _core.LayerCode(
            generator=source.generator,
            rounds=source.rounds,
            seed=source.seed,
            id=layer_id,
            out=shape.out,
            fan_in=shape.fan_in,
            bits=freeze.bits,
            prune=freeze.prune,
            lock=freeze.lock,
            mode=code.mode,
            density=code.density,
            planes=code.planes,
            sign=code.sign,
            intervals=code.intervals,
            tile_rows=code.tile_rows,
            free=code.free,
            words=code.words,
            payload=code.payload,
            memory=memory or _core.WeightMemory(),
        )
    except ValueError as error:
        raise TicketError("bad-mask", str(error), f"mask of layer {shape.name}") from error


def _const(shape: LayerShape, density: int) -> MaskCode:
    none = np.zeros(0, dtype=np.uint32)
    return MaskCode("const", density, shape.out, none, none, b"")


def pattern(source: Source, shape: LayerShape, layer_id: int, freeze: Freeze) -> _core.LayerCode:
    """A layer of which only the freeze pattern is of interest."""
    return core_layer(source, shape, layer_id, freeze, _const(shape, 0))


def tile_rows(shape: LayerShape) -> int:
    """Rows of a tile as the writer cuts them."""
    return min(shape.out, max(1, TILE_POSITIONS // shape.row_positions))


def entropy_bits(free: int, kept: int) -> float:
    """Bits of `free` mask bits of which `kept` are set, at one density: the i.i.d. bound for a layer."""
    if kept in (0, free):
        return 0.0
    p = kept / free
    return -free * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


def coded_layer(
    source: Source,
    shape: LayerShape,
    layer_id: int,
    freeze: Freeze,
    mask: np.ndarray,
    planes: int = MAX_PLANES,
) -> Layer:
    """A layer of a ticket from its mask: uint32 words by free ordinal, unused bits 0.

    Codes the mask as const, raw, static or prior, whichever is smallest. planes: how many of the initial
    score's (0 to 8) a prior mask may read; fewer decode faster. Raises TicketError if the mask's length is
    not what the freeze pattern asks for, or if nothing is kept.
    """
    where = f"layer {shape.name}"
    core = pattern(source, shape, layer_id, freeze)
    pruned, locked, free = core.counts()
    mask = np.ascontiguousarray(mask, dtype=np.uint32)
    if len(mask) != -(-free // 32) or (free % 32 and mask[-1] >> (free % 32)):
        raise TicketError("bad-mask", f"{32 * len(mask)} mask bits for {free} free weights", where)
    ones = int(np.bitwise_count(mask).sum(dtype=np.int64))
    if locked + ones == 0:
        raise TicketError(
            "empty-layer", "keeps no weight; lower the sparsity, or lock or free more of this layer", where
        )
    if ones in (0, free):
        code, size = _in_file(_const(shape, 4096 if ones and free else 0))
        code = replace(code, candidates={"const": size})
    else:
        code = _coded(source, shape, layer_id, freeze, mask, free, ones, planes)
    decode = partial(decoded_mask, source, shape, layer_id, freeze, code)
    return Layer(shape, layer_id, freeze, code, pruned, locked, free, locked + ones, decode)


def _coded(
    source: Source,
    shape: LayerShape,
    layer_id: int,
    freeze: Freeze,
    mask: np.ndarray,
    free: int,
    ones: int,
    planes: int,
) -> MaskCode:
    """The smallest of what the modes make of a mask that is neither all zeros nor all ones."""
    rows = tile_rows(shape)
    counts = _tile_counts(source, shape, layer_id, freeze, rows)
    ends = np.cumsum(counts, dtype=np.int64)
    spans = list(zip((ends - counts).tolist(), ends.tolist(), strict=True))
    raw = [_core.encode_raw(mask, first, last) for first, last in spans]
    density, lanes = min(max(round(4096 * ones / free), 1), 4095), _core.lanes_of(free)
    static = [_core.encode_static(mask, first, last, lanes, density) for first, last in spans]
    codes = [
        _in_file(MaskCode("raw", 0, rows, counts, *_joined(raw, raw))),
        _in_file(MaskCode("static", density, rows, counts, *_joined(static, raw))),
    ]
    prior = find_prior(source, layer_id, free, mask, planes)
    if prior is not None:
        scores = (source.generator, source.rounds, source.seed, layer_id)
        planes, sign, intervals = prior.planes, prior.sign, prior.intervals
        tiles = [
            _core.encode_prior(mask, first, last, lanes, *scores, planes, sign, intervals)
            for first, last in spans
        ]
        words, payload = _joined(tiles, raw)
        codes.append(_in_file(MaskCode("prior", 0, rows, counts, words, payload, planes, sign, intervals)))
    candidates: dict[str, int] = {code.mode: size for code, size in codes}
    best, _ = min(codes, key=lambda pair: pair[1])  # of equals the simplest, which stand first
    return replace(best, candidates=candidates)


def _joined(tiles: list[bytes], raw: list[bytes]) -> tuple[np.ndarray, bytes]:
    """Index entries' words and payload: of each tile the shorter form, its coded one or the raw one."""
    best = [min(pair, key=len) for pair in zip(tiles, raw, strict=True)]
    words = [
        len(tile) // 2 | (0 if tile is coded else RAW_TILE) for tile, coded in zip(best, tiles, strict=True)
    ]
    return np.array(words, dtype=np.uint32), b"".join(tile + bytes(-len(tile) % 4) for tile in best)


def _in_file(code: MaskCode) -> tuple[MaskCode, int]:
    """A code and its bytes in the file: tiles, index entries and its own fields of the header."""
    fields = (code.mode, code.density, code.planes, code.sign, code.intervals)
    header = len(msgspec.msgpack.encode(fields)) - 1  # without the array around them
    return code, len(code.payload) + INDEX_ENTRY * len(code.free) + header


def _tile_counts(source: Source, shape: LayerShape, layer_id: int, freeze: Freeze, rows: int) -> np.ndarray:
    """Free weights of each tile of `rows` rows: uint32 [tiles]."""

    def count(first: int) -> int:
        free, _ = _core.freeze_rows(
            source.generator,
            source.rounds,
            source.seed,
            layer_id,
            shape.fan_in,
            freeze.bits,
            freeze.prune,
            freeze.lock,
            first,
            min(rows, shape.out - first),
        )
        return int(np.bitwise_count(free).sum(dtype=np.int64))

    return np.array([count(first) for first in range(0, shape.out, rows)], dtype=np.uint32)


def decoded_layer(
    source: Source,
    shape: LayerShape,
    layer_id: int,
    freeze: Freeze,
    code: MaskCode,
    kept: int,
) -> Layer:
    """A layer of a ticket from its coded mask, with everything that the file claims verified. Raises
    TicketError.
    """
    where = f"mask of layer {shape.name}"
    core = core_layer(source, shape, layer_id, freeze, code)
    if code.mode != "const":
        wrong = np.flatnonzero(core.free_counts() != code.free)
        if len(wrong):
            raise TicketError("bad-mask", f"tile {wrong[0]} claims another number of free weights", where)
        if ((code.free == 0) & (code.words != 0)).any():
            raise TicketError("bad-mask", "a tile without free weights has a payload", where)
    pruned, locked, free = core.counts()
    try:
        ones = core.ones()
    except ValueError as error:
        raise TicketError("bad-mask", str(error), where) from error
    if locked + ones != kept or kept == 0:
        raise TicketError("bad-mask", f"the header's count of {kept} kept weights is not the mask's", where)
    if code.mode == "const" and free == 0 and code.density:
        raise TicketError("bad-mask", "a layer without free weights has density 0", where)
    decode = partial(decoded_mask, source, shape, layer_id, freeze, code)
    return Layer(shape, layer_id, freeze, code, pruned, locked, free, kept, decode)


def decoded_mask(
    source: Source, shape: LayerShape, layer_id: int, freeze: Freeze, code: MaskCode
) -> np.ndarray:
    """Mask bits by free ordinal, uint32 words, of a code that has been verified."""
    return core_layer(source, shape, layer_id, freeze, code).mask()
