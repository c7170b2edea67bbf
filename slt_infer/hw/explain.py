"""Why a layer takes the time it takes: what each unit is asked for, what waits for what, what would help."""

from __future__ import annotations

from typing import Any

from slt_infer.hw.description import Hardware, HardwareError
from slt_infer.hw.result import LayerResult, Result, bound


def explain(result: Result, name: str) -> dict[str, Any]:
    """Of the layer of this name: figures, and `text`, sentences for a person. Raises HardwareError
    (`no-layer`).
    """
    known = {layer.name: layer for layer in result.layers}
    if name not in known:
        raise HardwareError("no-layer", f"no layer {name!r}; there are: {', '.join(known)}", "LAYER")
    layer, machine = known[name], result.machine
    demand, tiles = layer.demand, layer.demand.tiles
    units = {
        "array": demand.compute + demand.banks,
        "decoder": demand.decode * demand.makings,
        "generator": demand.generate * demand.makings,
        "dram": round(sum(demand.dram_bytes.values()) / machine.dram.bytes_per_cycle),
    }
    return {
        "layer": name,
        "scheme": result.scheme,
        "model": result.model,
        "cycles": layer.cycles.total,
        "stall_cycles": layer.cycles.stalls,
        "bound": bound(layer.cycles),
        "busy_cycles": units,
        "tiles": {
            "order": tiles.order,
            "rows": tiles.rows,
            "blocks": tiles.blocks,
            "parts": tiles.parts,
            "patch": list(tiles.patch),
            "patches": len(tiles.patches),
            "weight_passes": tiles.weight_passes,
            "input_passes": tiles.input_passes,
        },
        "text": [
            *_shape(layer),
            *_tiles(layer, machine),
            *_time(layer, units),
            *_remedy(layer, machine, units),
        ],
    }


def _shape(layer: LayerResult) -> list[str]:
    work = layer.demand.work
    kernel = f"{work.kernel[0]}x{work.kernel[1]}"
    kept = "" if work.mask is None else f", of which {work.mask.kept / work.weights:.1%} are kept"
    return [
        f"{work.name}: {work.out} outputs from {work.inputs} inputs by {kernel}, stride {work.stride}, over "
        f"{work.out_height}x{work.out_width} pixels: {work.macs:,} multiply-accumulates of {work.weights:,} "
        f"weights{kept}."
    ]


def _tiles(layer: LayerResult, machine: Hardware) -> list[str]:
    tiles, demand = layer.demand.tiles, layer.demand
    lines = [
        f"It is cut into {tiles.blocks} blocks of {tiles.rows} rows, {tiles.parts} part(s) of K and "
        f"{len(tiles.patches)} patch(es) of {tiles.patch[0]}x{tiles.patch[1]} pixels, {tiles.order}."
    ]
    if tiles.weight_passes > 1:
        lines.append(
            f"Its weights do not fit on chip and come {tiles.weight_passes} times: once for each patch."
        )
    if tiles.input_passes > 1:
        lines.append(f"Its pixels are fetched {tiles.input_passes} times: once for each block of rows.")
    if demand.work.residual is not None and tiles.residual_bytes:
        lines.append(f"The residual that it adds was spilled: {tiles.residual_bytes:,} bytes come back.")
    if demand.place.result_off:
        lines.append(
            f"What it makes is spilled or the answer: {demand.dram_bytes['activations_out']:,} bytes."
        )
    if demand.place.fused:
        other = "the next layer's" if demand.place.fused == "with next" else "those of the layer before"
        lines.append(f"Its patches alternate with {other}: what lies between them is never spilled.")
    full = layer.demand.work.macs / (machine.array.elements * demand.compute)
    if full < 0.9:
        lines.append(
            f"Where it works the array is {full:.0%} full: its sides do not divide the layer's dimensions."
        )
    return lines


def _time(layer: LayerResult, units: dict[str, int]) -> list[str]:
    cycles = layer.cycles
    busy = ", ".join(f"{name} {count:,}" for name, count in units.items())
    stalls = ", ".join(f"{cause} {count:,}" for cause, count in cycles.stalls.items() if count)
    return [
        f"Cycles that each unit is busy: {busy}.",
        f"It takes {cycles.total:,}: {cycles.compute:,} of work"
        + (f"; it waits: {stalls}." if stalls else "."),
    ]


_HELP = {
    "dram": "raise dram.bytes_per_cycle, or activations.bytes so that less is spilled",
    "decoder": "raise decoder.bits_per_cycle, raw_bits_per_cycle or tokens_per_cycle",
    "generator": "raise generator.rounds_per_cycle or bits_per_cycle; a ticket with fewer rounds or freeze "
    "planes asks for less",
    "banks": "raise activations.banks or port_bits",
    "fill": "its first loads come when the layer before has ended: raise dram.bytes_per_cycle, or "
    "activations.bytes so that its input is on chip",
}

_IN_STEP = (
    "pattern and mask are made block by block, each waiting for the slower: raise "
    "generator.rounds_per_cycle, or decoder.bits_per_cycle where blocks have more free weights than the "
    "pattern takes cycles"
)


def _remedy(layer: LayerResult, machine: Hardware, units: dict[str, int]) -> list[str]:
    cause = bound(layer.cycles)
    if cause == "compute":
        return ["The array bounds it: more elements, or sides that fit the layer, would help; nothing else."]
    in_step = cause == "decoder" and machine.decoder.in_step
    lines = [f"It is bound by {cause}. What helps: {_IN_STEP if in_step else _HELP[cause]}."]
    if cause in units and units[cause] <= units["array"]:
        lines.append(
            f"Over the whole layer the {cause} is busy less than the array: tiles are uneven, or too few, "
            "for two buffers to hide."
        )
    return lines
