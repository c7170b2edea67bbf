"""What a layer asks of each unit of a machine, before anything waits for anything: the closed form and the
event model share it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from msgspec import Struct

from slt_infer.hw.compute import Steps, block_steps, positions, systolic_cycles, tree
from slt_infer.hw.description import Hardware, HardwareError
from slt_infer.hw.energy import Counts, energy
from slt_infer.hw.making import Making, making_of
from slt_infer.hw.residency import Residency, residency, value_bytes
from slt_infer.hw.schemes import SCHEMES, Storage, why_not
from slt_infer.hw.systolic import accesses
from slt_infer.hw.tiling import Tiling, strips, tiling
from slt_infer.hw.workload import Work, Workload

KINDS = ("weights", "mask", "index", "affine", "activations_in", "activations_out", "burst")


class Demand(Struct, frozen=True, dict=True):
    """Of one layer for one image. compute, banks: cycles of the array, and those that reading its window
    adds. making: of all its weights, once; makings: how often they are made.
    place: where its values lie. dram_bytes: off chip, by kind; burst is what whole bursts move beyond what
    is asked for.
    """

    work: Work
    storage: Storage
    tiles: Tiling
    blocks: tuple[tuple[Steps, int], ...]  # in turn, so many alike; empty for a systolic array
    compute: int
    banks: int
    making: Making
    makings: int
    dram_bytes: dict[str, int]
    place: Place
    counts: Counts

    @property
    def decode(self) -> int:
        return self.making.decode

    @property
    def generate(self) -> int:
        return self.making.generate

    @property
    def loaded_bytes(self) -> int:
        """Off chip to on chip for the weights, all passes, in whole bursts."""
        return self.dram_bytes_in - self.dram_bytes["activations_in"]

    @cached_property
    def dram_bytes_total(self) -> int:
        return sum(self.dram_bytes.values())

    @property
    def dram_bytes_in(self) -> int:
        return self.dram_bytes_total - self.dram_bytes["activations_out"]


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
    storages = [store(work, machine) for work in workload.layers]
    stays = residency(workload, machine)
    places = [place_of(work, stays, i) for i, work in enumerate(workload.layers)]
    alone = [demand(i, storages[i], machine, workload, place) for i, place in enumerate(places)]
    return _fused(alone, places, machine, workload) if machine.schedule.fuse_chains else alone


@dataclass(frozen=True)
class Place:
    """Where a layer's values lie: off chip or not; held: bytes that values on chip take of the activation
    memory meanwhile. patch: given by a chain (rows and columns of output), None: to be found. fused: the
    layer takes its input from the one before, or gives its output to the next, patch by patch.
    """

    input_off: bool
    residual_off: bool
    result_off: bool
    held: int
    patch: tuple[int, int] | None = None
    fused: Literal["", "with next", "with previous"] = ""


def place_of(work: Work, stays: Residency, index: int) -> Place:
    residual_off = work.residual is not None and not stays.kept[work.residual]
    return Place(not stays.kept[work.value], residual_off, not stays.kept[work.result], stays.held[index])


def _fused(alone: list[Demand], places: list[Place], machine: Hardware, workload: Workload) -> list[Demand]:
    """With pairs of layers in a row that hand patches on, where that moves fewer bytes than spilling does."""
    result, index = [], 0
    while index < len(alone):
        pair = _pair(index, alone, places, machine, workload)
        apart = alone[index : index + 2]
        if pair and sum(d.dram_bytes_total for d in pair) < sum(d.dram_bytes_total for d in apart):
            result += pair
            index += 2
        else:
            result.append(alone[index])
            index += 1
    return result


def _pair(
    index: int, alone: list[Demand], places: list[Place], machine: Hardware, workload: Workload
) -> list[Demand]:
    """Two layers by strips of rows, if the second alone reads the first's spilled result and a strip fits."""
    if index + 1 == len(alone) or not places[index].result_off or machine.array.kind == "systolic":
        return []
    first, second = workload.layers[index : index + 2]
    value = first.result
    if second.value != value or workload.last_use[value] != index + 1 or second.residual == value:
        return []
    if first.stored != first.out * first.pixels or any(work.residual == value for work in workload.layers):
        return []
    room = machine.activations.bytes - max(places[index].held, places[index + 1].held)
    strip = strips(first, second, machine, room, places[index].input_off, places[index + 1].residual_off)
    if strip is None:
        return []
    before = replace(places[index], result_off=False, patch=strip[0], fused="with next")
    after = replace(places[index + 1], input_off=False, patch=strip[1], fused="with previous")
    return [
        demand(at, alone[at].storage, machine, workload, place)
        for at, place in ((index, before), (index + 1, after))
    ]


def demand(index: int, storage: Storage, machine: Hardware, workload: Workload, place: Place) -> Demand:
    work = workload.layers[index]
    tiles = tiling(work, storage, machine, place.held, place.input_off, place.residual_off, place.patch)
    places = sum(positions(patch, machine.array) for patch in tiles.patches)
    makings = places if machine.schedule.decode_per == "pass" else tiles.weight_passes
    blocks: tuple[tuple[Steps, int], ...] = ()
    if machine.array.kind == "grid":
        blocks = tuple(block_steps(work, machine, tiles))
        compute = places * sum(block.cycles * count for block, count in blocks)
    else:
        compute = systolic_cycles(work, machine, tiles)
    banks = places * sum(block.bank_stall * count for block, count in blocks)
    moved = {
        "weights": storage.weight_bytes * tiles.weight_passes,
        "mask": storage.mask_bytes * tiles.weight_passes,
        "index": storage.index_bytes * tiles.weight_passes,
        "affine": work.affine_bytes * tiles.weight_passes,
        "activations_in": tiles.input_bytes * tiles.input_passes + tiles.residual_bytes,
        "activations_out": value_bytes(workload, work.result, machine) if place.result_off else 0,
        "burst": 0,
    }
    burst, written = machine.dram.burst_bytes, moved["activations_out"]
    once = storage.bytes + work.affine_bytes
    moved["burst"] = -once % burst * tiles.weight_passes + -moved["activations_in"] % burst + -written % burst
    making = making_of(work, storage, machine, workload.generator)
    counts = _counts(work, storage, machine, tiles, blocks, places, compute, makings, moved, workload, place)
    return Demand(work, storage, tiles, blocks, compute, banks, making, makings, moved, place, counts)


def _counts(
    work: Work,
    storage: Storage,
    machine: Hardware,
    tiles: Tiling,
    blocks: tuple[tuple[Steps, int], ...],
    places: int,
    compute: int,
    makings: int,
    moved: dict[str, int],
    workload: Workload,
    place: Place,
) -> Counts:
    array, bits = machine.array, machine.activation_bits
    active = round(work.macs * storage.active)
    if blocks:
        depth = tree(array, work)
        together = depth if array.adder_tree else 1
        sums = work.macs / together * (1 - (1 - storage.active) ** together)
        windows = sum(block.windows * block.window_elements * count for block, count in blocks)
        read = places * windows * bits
        shifted = (
            compute * depth * min(array.height, work.out_height) * min(array.width, work.out_width) * bits
        )
        weight_reads = work.macs if array.stationary == "weight" else work.weights * places
    else:
        inputs, filters, outputs = accesses(array, work)
        sums, read, weight_reads, shifted = float(outputs), inputs * bits, filters, 2 * work.macs * bits
    if work.residual is not None and not place.residual_off:
        read += value_bytes(workload, work.residual, machine) * 8
    written = 8 * moved["activations_in"]
    if not place.result_off:
        written += 8 * value_bytes(workload, work.result, machine)
    out = moved["activations_out"] + -moved["activations_out"] % machine.dram.burst_bytes
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
        dram_read_bytes=sum(moved.values()) - out,
        dram_write_bytes=out,
    )


def energy_of(layer: Demand, machine: Hardware, cycles: int) -> dict[str, float]:
    return energy(layer.counts, machine, cycles)
