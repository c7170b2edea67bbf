"""Layers of a packed ticket on rtl/layer.sv, every value against the reference, and that against the engine.

python -m tests.rtl.tickets FILE [--layers NAME ...] [--modes MODE ...] [--stalls PERCENT] [--width W ...]

A line a layer and mode: values compared, cycles. From the root of the repository; needs verilator.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from slt_infer.format import load
from slt_infer.reference_int8 import values_int8
from slt_infer.runtime import Plan

from .layers import MODES, Array, check, place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--layers", nargs="*", metavar="NAME", help="of the file; all if none is named")
    parser.add_argument(
        "--modes", nargs="*", choices=MODES, default=[""], help="the file's own if none is named"
    )
    parser.add_argument("--stalls", type=int, default=0, metavar="PERCENT")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--per-cycle", type=int, default=1, help="rounds of a generator")
    parser.add_argument("--width", type=int, default=1, help="mask bits a cycle")
    given = parser.parse_args()

    ticket = load(given.file)
    random = np.random.default_rng(0)
    image = random.standard_normal((1, *ticket.network.input)).astype(np.float32)
    values = values_int8(ticket, image)
    assert (Plan(ticket, dtype="int8")(image) == values[-1]).all(), (
        "the engine's logits are not the reference's"
    )
    print("| layer | K | rows × pixels | mode | cycles | seconds |\n|---|---|---|---|---|---|")
    for index, layer in enumerate(ticket.layers):
        shape = layer.shape
        if given.layers and shape.name not in given.layers:
            continue
        blocks = 32 if shape.fan_in <= 128 * 32 else 128
        quantisation = ticket.quantisation
        pow2 = quantisation is not None and quantisation.pow2
        array = Array(given.rows, given.columns, given.per_cycle, given.width, blocks, pow2)
        pixels = values[place(ticket, index).rounded].size // shape.out
        for mode in given.modes:
            begin = time.monotonic()
            cycles = check(ticket, index, values, array, mode, given.stalls)
            seconds = time.monotonic() - begin
            what = f"{shape.name} | {shape.fan_in} | {shape.out} × {pixels} | {mode or layer.code.mode}"
            print(f"| {what} | {cycles:,} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
