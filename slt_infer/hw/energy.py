"""Energy by part, in pJ: how often each action happens times what the machine's description says it takes."""

from __future__ import annotations

from msgspec import Struct

from slt_infer.hw.description import Hardware
from slt_infer.hw.schemes import Operation

PARTS = (
    "array", "accumulators", "registers", "activations", "weights", "generator", "decoder", "affine", "clock",
    "leakage", "dram",
)  # fmt: skip


class Counts(Struct, frozen=True):
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
    dram_read_bytes: int
    dram_write_bytes: int


def energy(counts: Counts, machine: Hardware, cycles: int) -> dict[str, float]:
    """pJ by part; all parts but `dram` are the chip's."""
    table, pj = machine.energy, machine.prices
    operations = counts.active + table.gated_share * counts.gated + table.idle_share * counts.idle
    round_of = "philox_round" if counts.generator.startswith("philox") else "threefry_round"
    dram_write_bit = "dram_write_bit" if table.dram_write_bit else "dram_bit"
    return {
        "array": operations * pj[counts.operation],
        "accumulators": counts.accumulator_bits * pj["accumulator_bit"],
        "registers": counts.register_bits * pj["register_bit"],
        "activations": counts.activation_read_bits * pj["activation_read_bit"]
        + counts.activation_write_bits * pj["activation_write_bit"],
        "weights": counts.weight_read_bits * pj["weight_read_bit"]
        + counts.weight_write_bits * pj["weight_write_bit"],
        "generator": counts.own_bits * pj["generator_bit"] + counts.rounds * pj[round_of],
        "decoder": counts.run_bits * pj["run_bit"] + counts.rans_bits * pj["rans_bit"],
        "affine": counts.affines * pj["affine"],
        "clock": cycles * pj["clock"],
        "leakage": table.leakage_mw * 1e9 * cycles / machine.hz,
        "dram": 8 * (counts.dram_read_bytes * pj["dram_bit"] + counts.dram_write_bytes * pj[dram_write_bit]),
    }
