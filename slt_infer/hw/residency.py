"""Which values stay on chip between layers, and which are spilled to DRAM.

A value is kept whole or spilled whole: written once, read by each of its readers. Room is the activation
memory less its reserve. Values that live shortly are admitted first, small ones first among equals: a spilled
value costs its size for each use, a kept one its size for each layer that it lives through. The image comes
from DRAM and the answer goes there.
"""

from __future__ import annotations

from dataclasses import dataclass

from slt_infer.hw.description import Hardware
from slt_infer.hw.workload import Workload


@dataclass(frozen=True)
class Residency:
    """kept: per value, whether it stays on chip. held: bytes of kept values that lie in the memory during
    each layer, those that it reads and makes among them.
    """

    kept: tuple[bool, ...]
    held: tuple[int, ...]


def value_bytes(workload: Workload, value: int, machine: Hardware) -> int:
    return -(-workload.elements[value] * machine.activation_bits // 8)


def residency(workload: Workload, machine: Hardware) -> Residency:
    room = machine.activations.bytes - machine.activations.reserve
    layers = len(workload.layers)
    held = [0] * layers
    kept = [False] * len(workload.elements)
    used = {value for work in workload.layers for value in (work.value, work.residual)}
    lives = [
        (workload.last_use[value] - (value - 1), value_bytes(workload, value, machine), value)
        for value in range(1, layers)  # value i + 1 is born in layer i; the last is the answer
        if value in used
    ]
    for _, size, value in sorted(lives):
        span = range(value - 1, workload.last_use[value] + 1)
        if all(held[layer] + size <= room for layer in span):
            kept[value] = True
            for layer in span:
                held[layer] += size
    return Residency(tuple(kept), tuple(held))


def largest_value_bytes(workload: Workload, machine: Hardware) -> int:
    """The most that one value between layers takes: what a machine that runs layer by layer must hold."""
    return max(value_bytes(workload, value, machine) for value in range(len(workload.elements)))
