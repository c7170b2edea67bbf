"""The closed form: a layer takes as long as its slowest unit, after the loads that nothing hides.

What it leaves out, the event model has: tiles of uneven size within a layer, and buffers that hold two tiles.
"""

from __future__ import annotations

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
        slack = _slack(layer, cycles) if machine.schedule.prefetch_layers else 0.0
        results.append(layer_result(layer, machine, cycles))
    return Result(workload, machine, scheme, "closed form", tuple(results))


def _cycles(layer: Demand, machine: Hardware, slack: float) -> Cycles:
    dram, tiles = machine.dram, layer.tiles
    busy = layer.compute + layer.banks
    decode, generate = layer.decode * layer.makings, layer.generate * layer.makings
    moved = sum(layer.dram_bytes.values()) / dram.bytes_per_cycle
    share = 1 / (tiles.blocks * tiles.parts * tiles.weight_passes)  # of the first tile of the weights' passes
    load = layer.loaded_bytes * share / dram.bytes_per_cycle
    made = share * tiles.weight_passes
    first_input = _first_input(layer) / dram.bytes_per_cycle
    latency = dram.latency_cycles if layer.dram_bytes_in else 0
    # The first tile waits for its weights (begun in the layer before) and its pixels (which are not there
    # before).
    weights = latency * (load > 0) + load + max(layer.decode * made, layer.generate * made)
    fill = (
        max(weights - slack, first_input + latency * (first_input > 0), 0.0) + machine.array.pipeline_cycles
    )
    if not machine.schedule.double_buffer:
        stalls = {"decoder": decode, "generator": max(0.0, generate - decode), "dram": moved}
        return Cycles.rounded(layer.compute, layer.banks, stalls, machine.array.pipeline_cycles)
    rest = {
        "decoder": decode - layer.decode * made,
        "generator": generate - layer.generate * made,
        "dram": moved - load - first_input,
    }
    slowest = max(rest, key=lambda unit: rest[unit])
    stall = max(0.0, rest[slowest] - busy)
    return Cycles.rounded(layer.compute, layer.banks, {slowest: stall}, fill)


def _first_input(layer: Demand) -> float:
    """Bytes of the first patch's pixels that lie off chip."""
    tiles = layer.tiles
    return (tiles.input_bytes + tiles.residual_bytes) / len(tiles.patches)


def _slack(layer: Demand, cycles: Cycles) -> float:
    return (layer.compute + layer.banks) / layer.tiles.tiles
