"""The event model: tile after tile through DRAM, decoder, generator and array, each busy with one tile at a
time.

Tiles run in the order of the loops. Coded weights wait in one of two buffers for the decoder, decoded ones in
one of two halves of the weight memory for the array, so a unit is at most two tiles ahead of the next. DRAM
serves in order, results that are there before the next loads. Pixels of a patch are fetched while the patch
before is computed, a part with each of its tiles; those of a layer's first patch when the layer before has
stored its last result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from slt_infer.hw.compute import block_sizes, pipeline, positions
from slt_infer.hw.demand import Demand, demands
from slt_infer.hw.description import Hardware, HardwareError
from slt_infer.hw.result import Cycles, LayerResult, Result, layer_result
from slt_infer.hw.workload import Workload

Log = list[tuple[float, float, str, int]]  # start, cycles, what (weights, pixels, results), layer
MAX_TILES = 2**20  # of a layer: seconds
WRITE_BUFFER = 3  # tiles whose results may wait for DRAM


@dataclass(slots=True)
class Tile:
    """Cycles that a tile takes of each unit. pixels: of DRAM for this tile's own; ahead: for a share of the
    next patch's. first: of its layer; begins: a patch whose pixels came ahead.
    """

    weights: float
    pixels: float
    ahead: float
    decode: float
    generate: float
    compute: int
    banks: int
    results: float
    first: bool
    begins: bool


@dataclass
class Units:
    """When each unit is free, and the last two tiles' times, the older one first."""

    dram: float = 0.0
    decoder: float = 0.0
    generator: float = 0.0
    array: float = 0.0
    decoded: tuple[float, float] = (0.0, 0.0)
    computed: tuple[float, float] = (0.0, 0.0)
    came_ahead: float = 0.0  # when the last pixels that were fetched ahead were there
    # results: since when, DRAM cycles, layer
    unwritten: list[tuple[float, float, int]] = field(default_factory=list)
    log: Log | None = None

    def write(self, now: float, most: int) -> float:
        """Results that are there by now go out, the oldest first, and all but `most` in any case; when the
        last of these was out.
        """
        forced = 0.0
        while self.unwritten and (self.unwritten[0][0] <= max(now, self.dram) or len(self.unwritten) > most):
            since, cycles, layer = self.unwritten.pop(0)
            self.load(since, cycles, "results", layer)
            if len(self.unwritten) >= most:
                forced = self.dram
        return forced

    def load(self, since: float, cycles: float, kind: str, layer: int) -> float:
        """DRAM moves something for so many cycles; when it is done."""
        start = max(self.dram, since)
        if self.log is not None:
            self.log.append((start, cycles, kind, layer))
        self.dram = start + cycles
        return self.dram


def simulate(workload: Workload, machine: Hardware, scheme: str, log: Log | None = None) -> Result:
    """As slt_infer.hw.closed_form.closed_form, tile by tile. log: takes every use of DRAM. Raises
    HardwareError as that does, and `limit` for a layer of more than MAX_TILES tiles.
    """
    units = Units(log=log)
    results: list[LayerResult] = []
    layers = demands(workload, machine, scheme)
    for layer in layers:
        if layer.tiles.tiles > MAX_TILES:
            message = f"{layer.tiles.tiles} tiles, over {MAX_TILES}: take the closed form (--model closed)"
            raise HardwareError("limit", message, f"layer {layer.work.name}")
    for index, layer in enumerate(layers):
        last = index + 1 == len(layers)
        cycles = _run(index, layer, machine, units, last or not machine.schedule.prefetch_layers)
        results.append(layer_result(layer, machine, cycles))
    return Result(workload, machine, scheme, "events", tuple(results))


def _run(index: int, layer: Demand, machine: Hardware, units: Units, drain: bool) -> Cycles:
    """One layer; its cycles are those by which the array's time goes on. drain: nothing may run beyond it."""
    begin = units.array
    latency = machine.dram.latency_cycles
    double = machine.schedule.double_buffer
    stall = {"decoder": 0.0, "generator": 0.0, "dram": 0.0}
    fill = float(pipeline(layer.work, machine, layer.tiles))
    for tile in tiles_of(layer, machine):
        if not double:
            units.dram = units.decoder = units.generator = max(units.array, units.dram)
        free = units.decoded[0] if tile.decode else units.computed[0]  # when a buffer is, for this tile
        ready = units.write(free, WRITE_BUFFER)
        loaded = units.came_ahead if tile.begins else 0.0
        if tile.weights:
            loaded = max(loaded, units.load(free, tile.weights, "weights", index) + latency)
        if tile.pixels:
            if tile.first:  # they were not there before the layer before was done
                units.write(begin, 0)
            since = begin if tile.first else units.computed[0]
            loaded = max(loaded, units.load(since, tile.pixels, "pixels", index) + latency)
        if tile.ahead:
            units.came_ahead = units.load(units.computed[0], tile.ahead, "pixels", index) + latency
        decoded, made = loaded, 0.0
        if tile.decode:
            lead = layer.making.lead  # what is made goes into its buffer so much later
            units.decoder = max(units.decoder, loaded, units.computed[0] - lead) + tile.decode
            decoded = units.decoder + lead
        if tile.generate:
            made = units.generator = max(units.generator, units.computed[0]) + tile.generate
        wait = max(0.0, max(ready, loaded, decoded, made) - units.array)
        if tile.first:
            fill += wait
        elif wait:
            _blame(stall, wait, tile, max(ready, loaded), decoded, made)
        units.array += wait + tile.compute + tile.banks
        units.decoded = (units.decoded[1], decoded)
        units.computed = (units.computed[1], units.array)
        if tile.results:
            units.unwritten.append((units.array, tile.results, index))
    units.array += pipeline(layer.work, machine, layer.tiles)
    if drain:
        waiting = bool(units.unwritten)
        units.write(units.array, 0)
        end = max(units.array, units.dram) if waiting else units.array
        stall["dram"] += end - units.array
        units.array = units.dram = units.decoder = units.generator = end
    return Cycles.rounded(layer.compute, layer.banks, stall, fill)


def _blame(
    stall: dict[str, float], wait: float, tile: Tile, loaded: float, decoded: float, made: float
) -> None:
    """A wait is its last unit's, but for what that unit waited itself: the decoder for DRAM."""
    if made >= max(loaded, decoded):
        stall["generator"] += wait
    elif decoded > loaded:
        own = min(wait, tile.decode)
        stall["decoder"] += own
        stall["dram"] += wait - own
    else:
        stall["dram"] += wait


def tiles_of(layer: Demand, machine: Hardware) -> Iterator[Tile]:
    """In the order of the loops. Their cycles sum to the layer's demand."""
    tiles, rate = layer.tiles, machine.dram.bytes_per_cycle
    sizes, parts, patches = block_sizes(layer.work, tiles), tiles.parts, tiles.patches
    blocks = [(b, p) for b in range(len(sizes)) for p in range(parts)]
    of_block = [share / parts for share in _shares(layer, sizes)]
    of_making = [share / parts for share in _making_shares(layer, sizes)]
    of_patch = [rows * columns / layer.work.pixels for rows, columns in patches]
    by_pass = machine.schedule.decode_per == "pass"
    times = [positions(patch, machine.array) if by_pass else 1 for patch in patches]
    computes = _computes(layer, machine)
    weights = layer.loaded_bytes / tiles.weight_passes / rate
    pixels = layer.dram_bytes["activations_in"] / rate
    results = layer.dram_bytes["activations_out"] / rate
    outside = tiles.order == "activations-first"
    # A patch's pixels come while the one before is computed.
    ahead = outside and len(patches) > 1 and machine.schedule.double_buffer
    pairs = [(s, block) for s in range(len(patches)) for block in blocks]
    if not outside:
        pairs = [(s, block) for block in blocks for s in range(len(patches))]
    for number, (s, (b, p)) in enumerate(pairs):
        fresh = s == 0 or tiles.weight_passes > 1
        if ahead:
            own = of_patch[0] if number == 0 else 0.0
        elif len(patches) > 1 and outside:
            own = of_patch[s] if number % len(blocks) == 0 else 0.0
        elif len(patches) > 1:
            own = of_patch[s] / len(blocks)  # each tile brings its patch, or its part of K of it
        else:
            own = 1 / parts if number < parts else 0.0
        coming = of_patch[s + 1] / len(blocks) if ahead and s + 1 < len(patches) else 0.0
        made = of_making[b] * (times[s] if by_pass else fresh)
        compute, banks = computes[s][b][p]
        yield Tile(
            weights=weights * of_block[b] if fresh else 0.0,
            pixels=pixels * own,
            ahead=pixels * coming,
            decode=layer.decode * made,
            generate=layer.generate * made,
            compute=compute,
            banks=banks,
            results=results * sizes[b] / layer.work.out * of_patch[s] if p == parts - 1 else 0.0,
            first=number == 0,
            begins=ahead and number > 0 and number % len(blocks) == 0,
        )


def _shares(layer: Demand, sizes: list[int]) -> list[float]:
    """Of the layer's coded weights, each block's part: by free weights where these alone are coded."""
    mask, work = layer.work.mask, layer.work
    if mask is None or not mask.frozen or layer.storage.decoded != mask.free or not mask.free:
        return [size / work.out for size in sizes]
    return _by_rows(mask.row_free, sizes)


def _making_shares(layer: Demand, sizes: list[int]) -> list[float]:
    shares = layer.making.shares
    return _shares(layer, sizes) if shares is None else _by_rows(shares, sizes)


def _by_rows(amount: np.ndarray, sizes: list[int]) -> list[float]:
    starts = np.cumsum([0, *sizes[:-1]])
    return (np.add.reduceat(amount, starts) / amount.sum()).tolist()


def _computes(layer: Demand, machine: Hardware) -> list[list[list[tuple[int, int]]]]:
    """(compute, bank) cycles by patch, block and part; whole numbers that sum to the layer's."""
    tiles = layer.tiles
    blocks, parts = tiles.blocks, tiles.parts
    if layer.blocks:
        result = []
        for patch in tiles.patches:
            places = positions(patch, machine.array)
            result.append(
                [
                    list(
                        zip(
                            _split(b.cycles * places, parts),
                            _split(b.bank_stall * places, parts),
                            strict=True,
                        )
                    )
                    for b, count in layer.blocks
                    for _ in range(count)
                ]
            )
        return result
    flat = iter(_split(layer.compute, blocks * parts * len(tiles.patches)))
    return [[[(next(flat), 0) for _ in range(parts)] for _ in range(blocks)] for _ in tiles.patches]


def _split(total: int, parts: int) -> list[int]:
    return [total * (i + 1) // parts - total * i // parts for i in range(parts)]
