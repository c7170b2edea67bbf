"""What a model answers with: per layer and in sum, cycles by cause, bytes by kind, energy by part, and the
roofline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from msgspec import Struct

from slt_infer.hw.demand import KINDS, Demand, energy_of
from slt_infer.hw.description import Hardware
from slt_infer.hw.energy import PARTS
from slt_infer.hw.workload import Workload

CAUSES = ("banks", "decoder", "generator", "dram", "fill")


class Cycles(Struct, frozen=True):
    """Whole clock cycles: those of the array at work, and those it waits, by cause. fill: the first tile of a
    layer, whose loads nothing hides, and the array's pipeline.
    """

    compute: int
    banks: int = 0
    decoder: int = 0
    generator: int = 0
    dram: int = 0
    fill: int = 0

    @property
    def total(self) -> int:
        return self.compute + self.banks + self.decoder + self.generator + self.dram + self.fill

    @property
    def stalls(self) -> dict[str, int]:
        return {cause: getattr(self, cause) for cause in CAUSES}

    @classmethod
    def rounded(cls, compute: int, banks: int, stalls: dict[str, float], fill: float) -> Cycles:
        return cls(
            compute, banks, fill=round(fill), **{cause: round(value) for cause, value in stalls.items()}
        )

    @classmethod
    def sum(cls, parts: Sequence[Cycles]) -> Cycles:
        return cls(*(sum(getattr(part, cause) for part in parts) for cause in ("compute", *CAUSES)))


class LayerResult(Struct, frozen=True):
    """demand: what it was asked; energy_pj: by part."""

    demand: Demand
    machine: Hardware
    cycles: Cycles
    energy_pj: dict[str, float]

    @property
    def name(self) -> str:
        return self.demand.work.name


@dataclass(frozen=True)
class Result:
    workload: Workload
    machine: Hardware
    scheme: str
    model: str  # closed form, or events
    layers: tuple[LayerResult, ...]

    @cached_property
    def cycles(self) -> Cycles:
        return Cycles.sum([layer.cycles for layer in self.layers])

    @cached_property
    def dram_bytes(self) -> dict[str, int]:
        return {kind: sum(layer.demand.dram_bytes[kind] for layer in self.layers) for kind in KINDS}

    @cached_property
    def energy_pj(self) -> dict[str, float]:
        return {part: sum(layer.energy_pj[part] for layer in self.layers) for part in PARTS}

    @property
    def seconds(self) -> float:
        return self.cycles.total / self.machine.hz


def layer_result(layer: Demand, machine: Hardware, cycles: Cycles) -> LayerResult:
    return LayerResult(layer, machine, cycles, energy_of(layer, machine, cycles.total))


def figures(
    machine: Hardware,
    layers: Iterable[LayerResult],
    cycles: Cycles,
    moved: dict[str, int],
    pj: dict[str, float],
) -> dict[str, Any]:
    """What scripts may rely on, of a layer or of the whole; docs/accelerator.md has the units."""
    works = [layer.demand.work for layer in layers]
    macs, kept = sum(work.macs for work in works), sum(layer.demand.counts.active for layer in layers)
    total, elements = cycles.total, machine.array.elements
    bytes_moved = sum(moved.values())
    seconds = total / machine.hz
    chip = sum(value for part, value in pj.items() if part != "dram")
    whole = chip + pj["dram"]
    at_peak, at_bandwidth = macs / elements, bytes_moved / machine.dram.bytes_per_cycle
    return {
        "cycles": total,
        "compute_cycles": cycles.compute,
        "stall_cycles": cycles.stalls,
        "seconds": seconds,
        "macs": macs,
        "active_macs": kept,
        "utilisation": macs / (elements * total) if total else 0.0,
        "mapping_utilisation": macs / (elements * cycles.compute) if cycles.compute else 0.0,
        "dram_bytes": moved,
        "dram_bytes_total": bytes_moved,
        "energy_pj": pj,
        "energy_pj_total": whole,
        # 2 operations a multiply-accumulate; per pJ is tera per joule, so TOPS per watt
        "tops_per_watt": {
            "chip_dense": 2 * macs / chip if chip else None,
            "chip_kept": 2 * kept / chip if chip else None,
            "system_dense": 2 * macs / whole if whole else None,
            "system_kept": 2 * kept / whole if whole else None,
        },
        "roofline": {
            "operations_per_byte": 2 * macs / bytes_moved if bytes_moved else None,
            "peak_operations_per_s": 2 * elements * machine.hz,
            "dram_bytes_per_s": machine.dram.bytes_per_cycle * machine.hz,
            "bound": "compute" if at_peak >= at_bandwidth else "dram",
            "bound_cycles": max(at_peak, at_bandwidth),
        },
    }


def answer(result: Result) -> dict[str, Any]:
    """The whole and every layer, as one object for JSON."""
    whole = figures(result.machine, result.layers, result.cycles, result.dram_bytes, result.energy_pj)
    layers = [
        {
            "name": layer.name,
            **figures(result.machine, (layer,), layer.cycles, layer.demand.dram_bytes, layer.energy_pj),
            "bound": bound(layer.cycles),
        }
        for layer in result.layers
    ]
    return {"scheme": result.scheme, "model": result.model, **whole, "layers": layers}


def bound(cycles: Cycles) -> str:
    """What a layer waits for most, `compute` if it waits less than a twentieth of its time."""
    stalls = cycles.stalls
    worst = max(stalls, key=lambda cause: stalls[cause])
    return worst if 20 * sum(stalls.values()) > cycles.total else "compute"
