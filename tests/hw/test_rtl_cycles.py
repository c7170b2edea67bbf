"""The event model of the preset `rtl` against rtl/layer.sv: its formula in docs/rtl.md and its simulation."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from slt_infer import reference
from slt_infer.codec import ticket_from_masks
from slt_infer.format import dumps
from slt_infer.hw import Hardware, Result, load_hardware, simulate, workload_of
from slt_infer.reference_int8 import values_int8
from slt_infer.ticket import (
    Conv2d,
    Freeze,
    GlobalAvgPool2d,
    Layer,
    LayerShape,
    Linear,
    Network,
    Quantisation,
    Source,
    Ticket,
)

from ..rtl.layers import Array, simulated

FREEZES = {"bernoulli": Freeze(8, 77, 50), "mixed": Freeze(6, 20, 11)}
MODES = ("const", "raw", "static", "prior")


@dataclass(frozen=True)
class Shape:
    """A convolution of so many channels over size x size pixels, and a linear layer of what it makes."""

    out: int = 32
    inputs: int = 16
    kernel: int = 3
    stride: int = 1
    size: int = 6
    rounds: int = 12

    @property
    def pixels(self) -> int:
        return ((self.size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1) ** 2


@functools.cache
def ticket(shape: Shape, mode: str, law: str) -> Ticket:
    """The convolution's mask is coded in this mode."""
    layers = (
        LayerShape("conv", shape.out, shape.inputs, (shape.kernel, shape.kernel)),
        LayerShape("fc", 10, shape.out),
    )
    nodes = (Conv2d(0, 0, shape.stride, shape.kernel // 2), GlobalAvgPool2d(1), Linear(2, 1))
    network = Network("small", (shape.inputs, shape.size, shape.size), layers, nodes)
    source = Source("threefry4x32", shape.rounds, 0x0123456789ABCDEF, law)  # type: ignore[arg-type]
    random, masks = np.random.default_rng(shape.out), []
    for number, layer in enumerate(layers):
        free = int((reference.pattern(source, number, layer, FREEZES[law]) == 0).sum())
        likely = np.full(free, {"const": 1.0, "raw": 0.5, "static": 0.08, "prior": 0.02}[mode])
        if mode == "prior":
            likely[reference.initial_scores(source, number, free, 1.0) > 0.3] = 0.98
        masks.append(random.random(free) < likely)
    made = ticket_from_masks(network, source, [FREEZES[law]] * 2, masks, [None] * 2)
    assert made.layers[0].code.mode == mode
    return replace(made, quantisation=Quantisation((-80, -80, -80, -96)))


def machine_of(array: Array) -> Hardware:
    """The preset `rtl` with other parameters of layer.sv."""
    changes = {
        "array.output_channels": array.rows,
        "array.input_channels": array.columns,
        "activations.port_bits": 8 * array.columns,
        "weights.bytes": 64 * array.rows * array.blocks,
        "generator.rounds_per_cycle": array.per_cycle,
        "decoder.bits_per_cycle": array.width,
        "decoder.raw_bits_per_cycle": 16 / (16 // array.width + 1),
        "decoder.lane_cycles": 2 + 1 / array.width,
    }
    return load_hardware("rtl", changes)


def modelled(of: Ticket, array: Array) -> Result:
    scheme = "frozen-prior" if of.layers[0].code.mode == "prior" else "frozen"
    return simulate(workload_of(of), machine_of(array), scheme)


def formula(source: Source, layer: Layer, pixels: int, array: Array) -> int:
    """Cycles of a layer at one mask bit a cycle, straight from docs/rtl.md, "Cycles of a layer"."""
    shape, bits, code = layer.shape, layer.freeze.bits, layer.code
    across, groups = -(-shape.fan_in // 128), -(-shape.out // array.rows)
    call = -(-source.rounds // array.per_cycle)
    pattern = (1 + bits) * call + 3
    if source.freeze == "mixed" and bits > 2:
        pattern = 3 * call + bits - 2 + 3
    free = np.zeros((shape.out, 128 * across), dtype=bool)
    weights = reference.pattern(source, layer.id, shape, layer.freeze)
    free[:, : shape.fan_in] = weights.reshape(shape.out, -1) == 0
    counts = free.reshape(-1, 128).sum(axis=1) * (code.mode != "const")
    lanes = 32 if counts.sum() >= 2**15 else 4
    planes = (code.planes + code.sign) * call
    raw, first, between, bit = code.mode == "raw", 3, 3, 1.0
    if not raw:
        first = max(2 * lanes + 5, planes + 7 if planes else 0)
        between, bit = lanes + 2 + first, max(1.0, (planes + 3) / 128 if planes else 0.0)
    ends = [0] * (groups + 2)  # of group i at i + 2
    given, filled, next_bit, ordinal = 0, 0, float(first), 0
    for n, count in enumerate(counts.tolist()):
        row, group = n // across, n // across // array.rows
        if count and n and n % (across * code.tile_rows) == 0:
            next_bit += between - 1
        given = max(given + pattern, filled)
        last = given
        if count:
            next_bit = max(given + 1, next_bit) + count * bit
            if raw:
                next_bit += (ordinal + count - 1) // 16 - ordinal // 16
            last = math.ceil(next_bit) - 1
            ordinal += count
            next_bit += raw and ordinal % 16 == 0
        filled = max(last + 1, ends[group] + 1)
        if n % across == across - 1 and (row % array.rows == array.rows - 1 or row == shape.out - 1):
            rows = row % array.rows + 1
            whole = shape.inputs % array.columns == 0 or shape.kernel == (1, 1)
            steps = -(-shape.fan_in // array.columns) if whole else shape.fan_in
            ends[group + 2] = max(filled, ends[group + 1]) + pixels * max(steps, rows)
    return ends[-1] + rows + 5


SHAPES = [
    (Shape(), Array()),
    (Shape(out=20, inputs=5, size=9), Array()),
    (Shape(stride=2, size=13), Array(per_cycle=12)),
    (Shape(inputs=48, size=3, rounds=20), Array(per_cycle=20)),
    (Shape(out=64, inputs=64, size=3, rounds=13), Array(16, 32, per_cycle=4)),
    (Shape(out=64, inputs=256, kernel=1, size=4, rounds=20), Array(per_cycle=5)),
    (Shape(out=40, inputs=64, size=5), Array(per_cycle=20)),
    (Shape(out=128, inputs=128, size=4, rounds=20), Array(per_cycle=1)),
    (Shape(out=256, inputs=256, size=2), Array(per_cycle=20)),
]


@pytest.mark.parametrize("law", FREEZES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "array"), SHAPES, ids=str)
def test_the_event_model_is_the_formula(shape: Shape, array: Array, mode: str, law: str) -> None:
    of = ticket(shape, mode, law)
    conv, linear = (found.cycles.total for found in modelled(of, array).layers)
    assert conv == pytest.approx(formula(of.source, of.layers[0], shape.pixels, array), rel=0.01)
    assert linear == pytest.approx(formula(of.source, of.layers[1], 1, array), rel=0.01, abs=8)


LOGIC = [
    (Shape(), "mixed", Array()),
    (Shape(out=20, inputs=5, size=9), "bernoulli", Array()),
    (Shape(out=64, inputs=128, size=2, rounds=20), "mixed", Array()),
    (Shape(out=40, inputs=96, kernel=1), "bernoulli", Array(per_cycle=20)),
    (Shape(out=64, inputs=64, size=3), "mixed", Array(per_cycle=20)),
    (Shape(out=64, inputs=64, size=5), "mixed", Array(16, 32, per_cycle=4, width=4)),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "law", "array"), LOGIC, ids=str)
def test_the_event_model_is_the_logic(shape: Shape, law: str, array: Array, mode: str) -> None:
    """Simulated by Verilator; skipped where it is not installed."""
    of = ticket(shape, mode, law)
    image = np.random.default_rng(1).standard_normal((1, shape.inputs, shape.size, shape.size))
    _, cycles = simulated(of, dumps(of), 0, values_int8(of, image.astype(np.float32)), array)
    assert modelled(of, array).layers[0].cycles.total == pytest.approx(cycles, rel=0.01)
