"""The slot `quantisation`: what is written is read back, what breaks a rule is not written, and what is done
to a ticket leaves its scales alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import msgpack

from slt_infer import quantise, reference
from slt_infer.errors import TicketError
from slt_infer.format import dumps, loads, parts
from slt_infer.runtime.narrow import narrowest, with_affine_bits
from slt_infer.ticket import Quantisation, Ticket

from ..independent import decoder
from .conftest import make_ticket

ONE = make_ticket()
SCALES = len(quantise.own_scale(ONE.network))
CODES = tuple(range(-30, 7 * SCALES - 30, 7))


def quantised(pow2: bool = False) -> Ticket:
    codes = tuple(code // 16 * 16 for code in CODES) if pow2 else CODES
    return replace(ONE, quantisation=Quantisation(codes, pow2))


@pytest.mark.parametrize("pow2", [False, True])
def test_scales_survive_the_file(pow2):
    ticket = quantised(pow2)
    data = dumps(ticket)
    read = loads(data)
    assert read.quantisation == ticket.quantisation
    assert dumps(read) == data
    assert len(data) == parts(ticket).total
    slot = ["int8", pow2, list(ticket.quantisation.codes)]
    assert reference.read(data)["quantisation"] == slot
    assert decoder.decode(data).header["quantisation"] == slot
    assert reference.read(dumps(ONE))["quantisation"] == []


def test_a_file_is_longer_by_the_slot_alone():
    """Nothing else of a file depends on its scales."""
    with_scales, without = dumps(quantised()), dumps(ONE)
    headers = [data[32 : 32 + int.from_bytes(data[12:16], "little")] for data in (with_scales, without)]
    slot = msgpack.encode(["int8", False, list(CODES)])
    assert headers[0].count(slot) == 1
    assert headers[0].replace(slot, b"\x90") == headers[1]
    rest = [
        data[-(-(32 + len(h)) // 8) * 8 :] for data, h in zip((with_scales, without), headers, strict=True)
    ]
    assert rest[0] == rest[1]


def test_codes_of_numpy_are_written_as_numbers():
    codes = tuple(np.array(CODES, np.int16))
    assert dumps(replace(ONE, quantisation=Quantisation(codes))) == dumps(quantised())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quantisation", "text"),
    [
        (Quantisation(()), "0 scales"),
        (Quantisation(CODES[1:]), f"{SCALES - 1} scales, where {SCALES} values"),
        (Quantisation((*CODES[1:], 1024)), "code 1024"),
        (Quantisation((*CODES[1:], 2**70)), "cannot be written"),
        (Quantisation((*CODES[1:], "a")), "cannot be written"),  # type: ignore[arg-type]
        (Quantisation(CODES, True), "divisible by 16"),
        (Quantisation((*CODES[:-1], -1024)), r"layer head: a multiplier of .* in int8 is over 32767"),
    ],
)
def test_what_breaks_a_rule_is_not_written(quantisation, text):
    with pytest.raises(TicketError, match=text) as refusal:
        dumps(replace(ONE, quantisation=quantisation))
    assert refusal.value.code == "bad-value"
    assert refusal.value.where


def test_a_ticket_of_several_tasks_has_no_scales():
    ticket = quantised()
    assert ticket.task(0) == ticket
    two = replace(ticket, others=(ticket.layers,))
    with pytest.raises(TicketError, match="several tasks") as refusal:
        dumps(two)
    assert refusal.value.code == "bad-value"
    with pytest.raises(TicketError, match="several tasks"):
        quantise.rounding(two)
    assert two.task(0).quantisation is None
    assert two.task(1).quantisation is None


def test_narrow_affines_keep_the_scales():
    ticket = quantised()
    assert with_affine_bits(ticket, 8).quantisation == ticket.quantisation
    images = np.random.default_rng(0).standard_normal((8, *ticket.network.input), dtype=np.float32)
    wanted = reference.run(ticket, images).argmax(axis=1)
    narrowed = narrowest(ticket, lambda numbers: images[numbers], wanted, lambda *_: None)
    assert {layer.affine_bits for layer in narrowed.ticket.layers} != {0, 32}
    assert narrowed.ticket.quantisation == ticket.quantisation
    assert loads(dumps(narrowed.ticket)).quantisation == ticket.quantisation
