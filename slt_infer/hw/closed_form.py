"""The closed form: a layer takes as long as its slowest unit, after the loads that nothing hides.

What it leaves out, the event model has: tiles of uneven size, and what is late from the layer before.
"""

from __future__ import annotations

from slt_infer.hw.compute import pipeline
from slt_infer.hw.demand import Demand, demands
from slt_infer.hw.description import Hardware
from slt_infer.hw.result import Cycles, Result, layer_result
from slt_infer.hw.workload import Workload


def closed_form(workload: Workload, machine: Hardware, scheme: str) -> Result:
    """Cycles, bytes and energy per layer. Raises HardwareError as slt_infer.hw.demand.demands does."""
    layers = demands(workload, machine, scheme)
    slack = 0.0  # cycles of the layer before in which this one's first weights can be loaded and made
    results = []
    for layer in layers:
        cycles = _cycles(layer, machine, slack)
        busy = layer.compute + layer.banks
        slack = busy / layer.tiles.tiles if machine.schedule.prefetch_layers else 0.0
        results.append(layer_result(layer, machine, cycles))
    return Result(workload, machine, scheme, "closed form", tuple(results))


def _cycles(layer: Demand, machine: Hardware, slack: float) -> Cycles:
    dram, tiles = machine.dram, layer.tiles
    busy = layer.compute + layer.banks
    decode, generate = layer.decode * layer.makings, layer.generate * layer.makings
    moved = layer.dram_bytes_total / dram.bytes_per_cycle
    again = tiles.weight_passes > 1 or machine.schedule.decode_per == "pass"
    made = tiles.blocks * tiles.parts * (len(tiles.patches) if again else 1)  # tiles whose weights are made
    fetched = tiles.blocks * tiles.parts * tiles.weight_passes
    load = layer.loaded_bytes / dram.bytes_per_cycle / fetched
    first_input = _first_input(layer) / dram.bytes_per_cycle
    unhidden = pipeline(layer.work, machine, tiles) + layer.making.lead
    if not machine.schedule.double_buffer:
        waits = moved + dram.latency_cycles * fetched * (load > 0)
        stalls = {"decoder": decode, "generator": max(0.0, generate - decode), "dram": waits}
        return Cycles.rounded(layer.compute, layer.banks, stalls, unhidden)
    # The first tile waits for its weights, begun in the layer before, and for pixels, which were not there.
    weights = dram.latency_cycles * (load > 0) + load + max(decode, generate) / made
    pixels = first_input + dram.latency_cycles * (first_input > 0)
    fill = max(weights - slack, pixels, 0.0) + unhidden
    # One of two buffers is filled while the next unit empties the other: a load, with its latency, and what
    # comes after it share them.
    each, in_turn = busy / tiles.tiles, 0.0
    if load:
        in_turn = max(0, fetched - 2) * (load + dram.latency_cycles + (decode / made or each)) / 2
    if tiles.order == "weights-first" and layer.dram_bytes["activations_in"] and len(tiles.patches) > 1:
        every = layer.dram_bytes_in / dram.bytes_per_cycle / tiles.tiles  # pixels come with each tile
        in_turn = max(in_turn, (tiles.tiles - 2) * (every + dram.latency_cycles + each) / 2)
    rest = {
        "decoder": decode - decode / made,
        "generator": generate - generate / made,
        "dram": max(moved - load - first_input, in_turn),
    }
    slowest = max(rest, key=lambda unit: rest[unit])
    return Cycles.rounded(layer.compute, layer.banks, {slowest: max(0.0, rest[slowest] - busy)}, fill)


def _first_input(layer: Demand) -> float:
    """Bytes of the first patch's pixels that lie off chip."""
    tiles = layer.tiles
    return (tiles.input_bytes + tiles.residual_bytes) / len(tiles.patches)
