"""Energy by part, in pJ: how often each action happens times what the machine's description says it takes."""

from __future__ import annotations

from dataclasses import dataclass

from slt_infer.hw.description import Hardware
from slt_infer.hw.schemes import Operation

PARTS = (
    "array", "accumulators", "registers", "activations", "weights", "generator", "decoder", "affine", "clock",
    "leakage", "dram",
)  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """Actions of a layer. active, gated, idle: operations done, of removed weights, and of elements without
    work, each for a cycle. rounds: of the ticket's generator, on 128 bits. Bits are single bits moved.
    """

    operation: Operation
    active: int
    gated: int
    idle: int
    accumulator_bits: float
    register_bits: float
    activation_read_bits: float
    activation_write_bits: float
    weight_read_bits: float
    weight_write_bits: float
    affines: int
    own_bits: int
    rounds: int
    generator: str
    run_bits: int
    rans_bits: int
    dram_bytes: int


def energy(counts: Counts, machine: Hardware, cycles: int) -> dict[str, float]:
    """pJ by part; all parts but `dram` are the chip's."""
    table, pj = machine.energy, machine.pj
    operations = counts.active + table.gated_share * counts.gated + table.idle_share * counts.idle
    round_of = table.philox_round if counts.generator.startswith("philox") else table.threefry_round
    return {
        "array": operations * pj(getattr(table, counts.operation)),
        "accumulators": counts.accumulator_bits * pj(table.accumulator_bit),
        "registers": counts.register_bits * pj(table.register_bit),
        "activations": counts.activation_read_bits * pj(table.activation_read_bit)
        + counts.activation_write_bits * pj(table.activation_write_bit),
        "weights": counts.weight_read_bits * pj(table.weight_read_bit)
        + counts.weight_write_bits * pj(table.weight_write_bit),
        "generator": counts.own_bits * pj(table.generator_bit) + counts.rounds * pj(round_of),
        "decoder": counts.run_bits * pj(table.run_bit) + counts.rans_bits * pj(table.rans_bit),
        "affine": counts.affines * pj(table.affine),
        "clock": cycles * pj(table.clock),
        "leakage": table.leakage_mw * 1e9 * cycles / machine.hz,
        "dram": 8 * counts.dram_bytes * pj(table.dram_bit),
    }
