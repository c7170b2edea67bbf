"""rtl/layer.sv: whole layers of .slt files, from the mask's bytes to int8 values, against the reference."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from slt_infer import reference
from slt_infer.codec import ticket_from_masks
from slt_infer.errors import SltError, TicketError
from slt_infer.format import dumps, loads
from slt_infer.reference_int8 import values_int8
from slt_infer.ticket import (
    Add,
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

from .layers import MODES, Array, check, expected, place, simulated

# Channels that fill no words, a stride, a kernel that is no square, a join, rows that fill no group, rows of
# two blocks.
NETWORK = Network(
    "small",
    (3, 9, 7),
    (
        LayerShape("stem", 16, 3, (3, 3), 1, True),
        LayerShape("strided", 20, 16, (3, 2), 1, True),
        LayerShape("one", 20, 20, (1, 1)),
        LayerShape("fc", 5, 20),
    ),
    (
        *(Conv2d(0, 0, 1, 1), Relu(1), Conv2d(2, 1, 2, 1), Relu(3), Conv2d(4, 2), Add(5, 4), Relu(6)),
        *(GlobalAvgPool2d(7), Linear(8, 3)),
    ),
)
CODES = (-80, -80, -80, -80, -80, -96)  # of the image, three convolutions or adds, the pool and the logits
FREEZES = {"bernoulli": Freeze(8, 77, 50), "mixed": Freeze(6, 20, 11)}


@functools.cache
def made(mode: str, law: str, rounds: int, pow2: bool = False) -> tuple[Ticket, list[np.ndarray]]:
    """A ticket of which every mask that is long enough is in this mode, and the values of an image."""
    source = Source("threefry4x32", rounds, 0x0123456789ABCDEF, law)  # type: ignore[arg-type]
    random, masks = np.random.default_rng(rounds), []
    for number, shape in enumerate(NETWORK.layers):
        free = int((reference.pattern(source, number, shape, FREEZES[law]) == 0).sum())
        likely = np.full(free, {"const": 1, "raw": 0.5, "static": 0.08, "prior": 0.02}[mode])
        if mode == "prior":
            likely[reference.initial_scores(source, number, free, 1.0) > 0.3] = 0.98
        masks.append(random.random(free) < likely)
    affines = [
        np.stack([random.uniform(-0.1, 0.1, 16), random.uniform(-1, 1, 16)]).astype(np.float32),
        np.stack([random.uniform(-0.1, 0.1, 20), random.uniform(-1, 1, 20)]).astype(np.float32),
    ]
    ticket = ticket_from_masks(NETWORK, source, [FREEZES[law]] * 4, masks, [*affines, None, None])
    ticket = loads(dumps(replace(ticket, quantisation=Quantisation(CODES, pow2))))
    images = random.standard_normal((1, *NETWORK.input)).astype(np.float32)
    return ticket, values_int8(ticket, images)


@pytest.mark.parametrize(
    ("law", "rounds", "array", "stalls"),
    [
        ("bernoulli", 12, Array(), 0),
        ("mixed", 13, Array(), 40),
        ("mixed", 20, Array(16, 16, per_cycle=4, width=4), 30),
    ],
    ids=["8x8", "8x8 stalled", "16x16 stalled"],
)
def test_whole_layers(law: str, rounds: int, array: Array, stalls: int) -> None:
    for mode in MODES:  # in one test, as each process that runs tests compiles the array for itself
        ticket, values = made(mode, law, rounds)
        assert ticket.layers[1].code.mode == mode
        for index in range(4):
            assert np.abs(expected(ticket, place(ticket, index), values)).max() > 3
            check(ticket, index, values, array, stalls=stalls, times=2)


def test_the_values_are_those_of_the_reference() -> None:
    ticket, values = made("raw", "bernoulli", 12)
    for index, gives in enumerate((2, 4, 7, 9)):
        assert (expected(ticket, place(ticket, index), values).ravel() == values[gives].ravel()).all()


def test_without_multipliers() -> None:
    ticket, values = made("static", "mixed", 20, pow2=True)
    for index in range(4):
        check(ticket, index, values, Array(pow2=True), stalls=20)


def test_a_damaged_mask_is_refused() -> None:
    ticket, values = made("static", "bernoulli", 12)
    data, payload = dumps(ticket), ticket.layers[1].code.payload
    at = data.index(payload)
    for damaged in (at + 2, at + len(payload) - 4):
        other = bytearray(data)
        other[damaged] ^= 1
        with pytest.raises(TicketError, match="a tile is refused"):
            simulated(ticket, bytes(other), 1, values, Array())


def test_other_generators_are_refused() -> None:
    ticket, values = made("raw", "bernoulli", 12)
    other = replace(ticket, source=Source("philox4x32", 10, 1))
    with pytest.raises(SltError, match="threefry"):
        simulated(other, dumps(ticket), 0, values, Array())
