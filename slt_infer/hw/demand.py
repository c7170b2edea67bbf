"""What a layer asks of each unit of a machine, before anything waits for anything: the closed form and the
event model share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from slt_infer.hw.compute import Steps, block_steps, lanes, positions, systolic_cycles
from slt_infer.hw.description import Hardware, HardwareError
from slt_infer.hw.energy import Counts, energy
from slt_infer.hw.residency import Residency, residency, value_bytes
from slt_infer.hw.schemes import SCHEMES, Storage, why_not
from slt_infer.hw.systolic import accesses
from slt_infer.hw.tiling import Tiling, tiling
from slt_infer.hw.workload import Work, Workload

KINDS = ("weights", "mask", "index", "affine", "activations_in", "activations_out", "burst")


@dataclass(frozen=True)
class Demand:
    """Of one layer for one image. compute, banks: cycles of the array, and those that reading its window
    adds. decode, generate: cycles of one making of all its weights; makings: how often they are made.
    dram_bytes: off chip, by kind; burst is what whole bursts move beyond what is asked for.
    """

    work: Work
    storage: Storage
    tiles: Tiling
    blocks: tuple[Steps, ...]  # empty for a systolic array
    compute: int
    banks: int
    decode: int
    generate: int
    makings: int
    dram_bytes: dict[str, int]
    result_off: bool
    counts: Counts

    @cached_property
    def loaded_bytes(self) -> int:
        """Off chip to on chip for the weights, all passes, in whole bursts."""
        return self.dram_bytes_in - self.dram_bytes["activations_in"]

    @cached_property
    def dram_bytes_in(self) -> int:
        return sum(self.dram_bytes.values()) - self.dram_bytes["activations_out"]


def demands(workload: Workload, machine: Hardware, scheme: str) -> list[Demand]:
    """Of every layer. Raises HardwareError: `no-scheme` for an unknown scheme, `unsupported` with the reason
    for one that this ticket or machine cannot have, `too-small` where a layer does not fit the machine.
    """
    if scheme not in SCHEMES:
        raise HardwareError("no-scheme", f"no scheme {scheme!r}; known: {', '.join(SCHEMES)}", "--scheme")
    reason = why_not(scheme, workload, machine)
    if reason is not None:
        raise HardwareError("unsupported", reason, f"scheme {scheme}")
    store = SCHEMES[scheme][1]
    stays = residency(workload, machine)
    return [
        demand(work, store(work, machine), machine, workload, stays, index)
        for index, work in enumerate(workload.layers)
    ]


def demand(
    work: Work, storage: Storage, machine: Hardware, workload: Workload, stays: Residency, index: int
) -> Demand:
    input_off = not stays.kept[work.value]
    residual_off = work.residual is not None and not stays.kept[work.residual]
    result_off = not stays.kept[work.result]
    tiles = tiling(work, storage, machine, stays.held[index], input_off, residual_off)
    makings = tiles.weight_passes
    if machine.schedule.decode_per == "pass":
        makings = sum(positions(patch, machine.array) for patch in tiles.patches)
    grid = machine.array.kind == "grid"
    blocks = tuple(block_steps(work, machine, tiles)) if grid else ()
    places = sum(positions(patch, machine.array) for patch in tiles.patches)
    compute = (
        places * sum(block.cycles for block in blocks) if grid else systolic_cycles(work, machine, tiles)
    )
    banks = places * sum(block.bank_stall for block in blocks)
    moved = {
        "weights": storage.weight_bytes * tiles.weight_passes,
        "mask": storage.mask_bytes * tiles.weight_passes,
        "index": storage.index_bytes * tiles.weight_passes,
        "affine": work.affine_bytes * tiles.weight_passes,
        "activations_in": tiles.input_bytes * tiles.input_passes + tiles.residual_bytes,
        "activations_out": value_bytes(workload, work.result, machine) if result_off else 0,
        "burst": 0,
    }
    burst = machine.dram.burst_bytes
    once = storage.bytes + work.affine_bytes
    moved["burst"] = (-once % burst) * tiles.weight_passes
    moved["burst"] += sum(-moved[kind] % burst for kind in ("activations_in", "activations_out"))
    decode, generate = _decode(storage, machine), _generate(storage, machine, workload)
    counts = _counts(work, storage, machine, tiles, blocks, places, compute, makings, moved, workload, stays)
    return Demand(
        work, storage, tiles, blocks, compute, banks, decode, generate, makings, moved, result_off, counts
    )


def _decode(storage: Storage, machine: Hardware) -> int:
    decoder = machine.decoder
    if storage.tokens:
        return _ceil(storage.tokens / decoder.tokens_per_cycle)
    coded = (storage.decoded - storage.raw) / decoder.bits_per_cycle
    return _ceil(coded + storage.raw / decoder.raw_bits_per_cycle) + storage.rans_tiles * decoder.tile_cycles


def _generate(storage: Storage, machine: Hardware, workload: Workload) -> int:
    generator = machine.generator
    if storage.bits:
        return _ceil(storage.bits / generator.bits_per_cycle)
    rounds = workload.generator[1] if workload.generator else 0
    return _ceil(storage.calls * rounds / generator.rounds_per_cycle)


def _counts(
    work: Work,
    storage: Storage,
    machine: Hardware,
    tiles: Tiling,
    blocks: tuple[Steps, ...],
    places: int,
    compute: int,
    makings: int,
    moved: dict[str, int],
    workload: Workload,
    stays: Residency,
) -> Counts:
    array, bits = machine.array, machine.activation_bits
    active = round(work.macs * storage.active)
    if blocks:
        channels, kernel_rows = lanes(array, work)
        depth = min(channels, work.inputs) * kernel_rows
        sums = work.macs / depth * (1 - (1 - storage.active) ** depth)
        read = places * sum(block.windows * block.window_elements for block in blocks) * bits
        shifted = (
            compute * depth * min(array.height, work.out_height) * min(array.width, work.out_width) * bits
        )
        weight_reads = work.macs if array.stationary == "weight" else work.weights * places
    else:
        inputs, filters, outputs = accesses(array, work)
        sums, read, weight_reads, shifted = float(outputs), inputs * bits, filters, 2 * work.macs * bits
    if work.residual is not None and stays.kept[work.residual]:
        read += value_bytes(workload, work.residual, machine) * 8
    written = 8 * moved["activations_in"]
    if stays.kept[work.result]:
        written += 8 * value_bytes(workload, work.result, machine)
    rans = 0 if storage.tokens or not storage.rans_tiles else storage.decoded - storage.raw
    return Counts(
        operation=storage.operation,
        active=active,
        gated=0 if array.zero_skipping else work.macs - active,
        idle=max(0, compute * array.elements - work.macs),
        accumulator_bits=sums * machine.accumulator_bits,
        register_bits=shifted,
        activation_read_bits=read,
        activation_write_bits=written,
        weight_read_bits=weight_reads * storage.chip_bits,
        weight_write_bits=work.weights * storage.chip_bits * makings,
        affines=work.out * work.pixels,
        own_bits=storage.bits * makings,
        rounds=storage.calls * makings * (workload.generator[1] if workload.generator else 0),
        generator=workload.generator[0] if workload.generator else "",
        run_bits=(storage.decoded - rans) * makings,
        rans_bits=rans * makings,
        dram_bytes=sum(moved.values()),
    )


def energy_of(layer: Demand, machine: Hardware, cycles: int) -> dict[str, float]:
    return energy(layer.counts, machine, cycles)


def _ceil(value: float) -> int:
    return -int(-value // 1)
