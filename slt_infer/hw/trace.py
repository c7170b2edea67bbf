"""DRAM requests of the event model, for simulators of DRAM, and SCALE-Sim's table of layers.

Addresses are ours: a region each for what is stored of the weights and for activations, each region's bytes
one after the other as they are used; a value is read from where it was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from slt_infer.hw.description import Hardware
from slt_infer.hw.events import simulate
from slt_infer.hw.result import Result
from slt_infer.hw.workload import Workload

Form = Literal["ramulator", "dramsim3", "layers"]
WEIGHTS_AT, ACTIVATIONS_AT = 0, 2**31


@dataclass(frozen=True)
class Request:
    """A burst. cycle: of the core clock, when it is asked for."""

    cycle: int
    address: int
    write: bool


def requests(workload: Workload, machine: Hardware, scheme: str) -> tuple[Result, list[Request]]:
    """Every burst that moves, in the order in which DRAM serves them."""
    log: list[tuple[float, float, str, int]] = []
    result = simulate(workload, machine, scheme, log)
    return result, list(_bursts(workload, machine, result, log))


def _bursts(
    workload: Workload, machine: Hardware, result: Result, log: list[tuple[float, float, str, int]]
) -> Iterator[Request]:
    burst, rate = machine.dram.burst_bytes, machine.dram.bytes_per_cycle
    starts = _addresses(workload, machine, result)
    sent: dict[tuple[str, int], float] = {}
    for since, cycles, kind, layer in log:
        base, size = starts[kind, layer]
        begin = sent.get((kind, layer), 0.0)
        sent[kind, layer] = end = begin + cycles * rate
        first, last = round(begin / burst), round(end / burst)
        for number in range(first, last):
            cycle = round(since + (number - first) * burst / rate)
            yield Request(cycle, base + number * burst % max(size, burst), kind == "results")


def _addresses(
    workload: Workload, machine: Hardware, result: Result
) -> dict[tuple[str, int], tuple[int, int]]:
    """Where each layer's weights, pixels and results lie, and how many bytes they are."""
    burst = machine.dram.burst_bytes

    def up(size: int) -> int:
        return -(-size // burst) * burst

    values, at = [], ACTIVATIONS_AT
    for elements in workload.elements:
        size = up(-(-elements * machine.activation_bits // 8))
        values.append((at, size))
        at += size
    found, at = {}, WEIGHTS_AT
    for number, layer in enumerate(result.layers):
        size = up(layer.demand.storage.bytes + layer.demand.work.affine_bytes)
        found["weights", number] = (at, size)
        found["pixels", number] = values[layer.demand.work.value]
        found["results", number] = values[layer.demand.work.result]
        at += size
    return found


def ramulator(trace: list[Request]) -> Iterator[str]:
    """Ramulator 2's LoadStoreTrace: `LD 0x…` or `ST 0x…`, without times."""
    return (f"{'ST' if request.write else 'LD'} {request.address:#x}" for request in trace)


def dramsim3(trace: list[Request]) -> Iterator[str]:
    """DRAMsim3's trace: address, READ or WRITE, cycle."""
    return (
        f"{request.address:#x} {'WRITE' if request.write else 'READ'} {request.cycle}"
        for request in sorted(trace, key=lambda request: request.cycle)
    )


def layers(workload: Workload) -> Iterator[str]:
    """SCALE-Sim's topology. Inputs are padded in the file, as SCALE-Sim pads nothing; groups are channels of
    one.
    """
    yield "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"
    for work in workload.layers:
        height = (work.out_height - 1) * work.stride + work.kernel[0]
        width = (work.out_width - 1) * work.stride + work.kernel[1]
        numbers = (height, width, *work.kernel, work.inputs, work.out, work.stride)
        yield f"{work.name.replace(',', '_')}, {', '.join(map(str, numbers))},"
