"""What a layer's mask costs in each code: real counts of a ticket, never a nominal ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from slt_infer.codec import core_layer, entropy_bits
from slt_infer.codec.masks import INDEX_ENTRY, pattern, tile_rows
from slt_infer.ticket import Layer, LayerShape, MaskCode, Source


@dataclass(frozen=True)
class Mask:
    """A layer's mask, counted.

    row_kept: int64 per row of the weight matrix. block_free: free weights of each block of 128 positions,
    uint8 [rows, blocks of a row]. tile_rows, lanes: of a tile of the file. runs: zeros before each kept
    weight of the whole matrix in row order, then those after the last, as (lengths, how many). bytes: of all
    streams in the file, with 12 index bytes per tile in index_bytes. mode: the mask's in the file.
    score_planes: of the initial score that its decoder reads. freeze_calls: generator calls per 128 positions
    for the freeze pattern. coats, flips: whether weights are more than +-c by their sign bit.
    """

    row_kept: np.ndarray
    block_free: np.ndarray
    tile_rows: int
    lanes: int
    runs: tuple[np.ndarray, np.ndarray]
    weights: int
    pruned: int
    locked: int
    free: int
    kept: int
    mode: str
    bytes: int
    index_bytes: int
    tiles: int
    raw_tiles: int
    score_planes: int
    freeze_calls: int
    freeze_bits: int
    coats: int
    flips: bool

    @cached_property
    def row_free(self) -> np.ndarray:
        """int64 per row of the weight matrix."""
        return self.block_free.sum(axis=1, dtype=np.int64)

    @property
    def block_sizes(self) -> np.ndarray:
        """Positions of each block that are columns of the matrix, as block_free."""
        rows, blocks = self.block_free.shape
        return np.minimum(128, self.weights // rows - 128 * np.arange(blocks)) * np.ones(
            (rows, 1), dtype=np.int64
        )

    @property
    def frozen(self) -> int:
        return self.pruned + self.locked

    @cached_property
    def static_bytes(self) -> tuple[int, int]:
        """Bytes and index bytes of the mask of the free weights by one density, as docs/format.md codes it:
        the entropy and 3 bytes for each of a tile's states, or a bit each; the coder's is within 1 %.
        """
        return _static(self.free, self.kept - self.locked, self.tiles)

    @cached_property
    def whole_static_bytes(self) -> tuple[int, int]:
        """The same of the kept bit of every weight, as a ticket without freezing would store it."""
        return _static(self.weights, self.kept, self.tiles)

    def zero_run_bytes(self, bits: int) -> int:
        """The kept bit of every weight in tokens of `bits`: a run of 0 to 2^bits - 2 zeros and a one, or, the
        token of all ones, 2^bits - 1 zeros and no one.
        """
        lengths, counts = self.runs
        tokens = int((counts * (1 + lengths // (2**bits - 1))).sum())
        return -(-tokens * bits // 8)

    def zero_run_tokens(self, bits: int) -> int:
        return 8 * self.zero_run_bytes(bits) // bits

    def rice_bytes(self, bits: int) -> int:
        """The same by Golomb-Rice: a run's length div 2^bits in unary, then `bits` bits."""
        lengths, counts = self.runs
        return -(-int((counts * (1 + bits + (lengths >> bits))).sum()) // 8)


def _static(bits: int, ones: int, tiles: int) -> tuple[int, int]:
    if ones in (0, bits):
        return 0, 0
    # docs/format.md, section 5. A state of 4 bytes holds about 1 of the mask.
    raw, coded = bits / 8, entropy_bits(bits, ones) / 8 + 3 * lanes_of(bits) * tiles
    return math.ceil(min(raw, coded)), INDEX_ENTRY * tiles


def lanes_of(bits: int) -> int:
    """States side by side in each tile of a coded stream of so many bits (docs/format.md, section 5)."""
    return 32 if bits >= 2**15 else 4


def mask_of(source: Source, layer: Layer) -> Mask:
    """Counts a ticket's layer; the mask is decoded once."""
    shape, code = layer.shape, layer.code
    core = core_layer(source, shape, layer.id, layer.freeze, code)
    bits = _kept_bits(core.rows(0, shape.out)[0], shape)
    lengths, counts = _runs(np.flatnonzero(bits.reshape(-1)), shape.weights)
    streams = [stream for stream in layer.streams if stream.mode != "const"]
    tiles = -(-shape.out // tile_rows(shape))
    freeze = layer.freeze.bits
    return Mask(
        row_kept=bits.sum(axis=1, dtype=np.int64),
        block_free=_block_free(source, layer),
        tile_rows=code.tile_rows,
        lanes=lanes_of(layer.free),
        runs=(lengths, counts),
        weights=shape.weights,
        pruned=layer.pruned,
        locked=layer.locked,
        free=layer.free,
        kept=layer.kept,
        mode=code.mode,
        bytes=sum(len(stream.payload) for stream in streams),
        index_bytes=INDEX_ENTRY * sum(len(stream.free) for stream in streams),
        tiles=max(tiles, len(code.free)),
        raw_tiles=int((code.words >> 31).sum()) if code.mode in ("static", "prior") else 0,
        score_planes=code.planes + code.sign,
        freeze_calls=min(freeze, 2) if source.freeze == "mixed" else freeze,
        freeze_bits=freeze,
        coats=1 + len(layer.coats),
        flips=layer.flips is not None,
    )


def _kept_bits(words: np.ndarray, shape: LayerShape) -> np.ndarray:
    octets = np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little", count=shape.fan_in)


def _block_free(source: Source, layer: Layer) -> np.ndarray:
    """Free weights of each block of 128 positions. Without a freeze pattern all are; else its rows are
    counted.
    """
    shape = layer.shape
    blocks = -(-shape.fan_in // 128)
    if not layer.freeze.bits:
        whole = np.full((shape.out, blocks), 128, dtype=np.uint8)
        whole[:, -1] = shape.fan_in - 128 * (blocks - 1)
        return whole
    # With all free weights kept, a row keeps what is not pruned; with none, what is locked.
    locked = pattern(source, shape, layer.id, layer.freeze).rows(0, shape.out)[0]
    unpruned = core_layer(source, shape, layer.id, layer.freeze, _all(none_of=layer)).rows(0, shape.out)[0]
    free = np.bitwise_count(unpruned).astype(np.uint8) - np.bitwise_count(locked)
    return np.add.reduceat(
        free, np.arange(0, free.shape[1], 128 // (8 * locked.itemsize)), axis=1, dtype=np.uint8
    )


def _all(none_of: Layer) -> MaskCode:
    none = np.zeros(0, dtype=np.uint32)
    return MaskCode("const", 4096, none_of.shape.out, none, none, b"")


def _runs(ones: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the runs of zeros that end in a one, and the last, and how often each comes."""
    edges = np.concatenate([[-1], ones, [size]])
    counts = np.bincount(np.diff(edges) - 1)
    lengths = np.flatnonzero(counts)
    return lengths, counts[lengths]
