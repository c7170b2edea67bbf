"""A quantised ticket whose graph has every way to round a value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slt_infer.codec import ticket_from_masks, with_affine
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Freeze,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    Network,
    Quantisation,
    Relu,
    Source,
    Ticket,
)

NETWORK = Network(
    "block",
    (2, 3, 4),
    (LayerShape("a", 4, 1, (3, 3), 2, True), LayerShape("b", 4, 2), LayerShape("c", 3, 4, affine=True)),
    (
        Conv2d(0, 0, 1, 1),
        Conv2d(0, 1),  # joined to the add
        Add(2, 1),
        Relu(3),
        AvgPool2d(4, 3, 1, 1),
        Add(4, 5),
        GlobalAvgPool2d(6),
        Linear(7, 2),
    ),
)
SCALES = 7  # of the values 0, 1, 3, 5, 6, 7 and 8
AFFINES = 2 * (4 + 3)  # numbers


def _bare() -> Ticket:
    source = Source(seed=3)
    random = np.random.default_rng(2)
    masks = [random.random(layer.weights) < 0.6 for layer in NETWORK.layers]
    zeros = [np.zeros((2, layer.out), np.float32) if layer.affine else None for layer in NETWORK.layers]
    return ticket_from_masks(NETWORK, source, [Freeze()] * 3, masks, zeros)


BARE = _bare()


def ticket(codes: list[int], pow2: bool = False, numbers: list[float] | None = None) -> Ticket:
    """numbers: the scales and shifts of `a`, then of `c`."""
    values = np.array(numbers or AFFINES * [0.5], np.float32)
    a, b, c = BARE.layers
    layers = with_affine(a, values[:8].reshape(2, 4)), b, with_affine(c, values[8:].reshape(2, 3))
    return replace(BARE, layers=layers, quantisation=Quantisation(tuple(codes), pow2))
