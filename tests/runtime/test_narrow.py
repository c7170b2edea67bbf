"""Affines at 8 or 16 bits a number, chosen so that no prediction changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slt_infer import Plan, TicketError, models
from slt_infer.format import affine, dumps
from slt_infer.runtime.narrow import narrowest, with_affine_bits
from slt_infer.ticket import Ticket

from .tickets import images, random_ticket

NETWORK = models.network("mlp-30-40-25-10")
COUNT = 700


def predict(ticket: Ticket, pixels: np.ndarray) -> np.ndarray:
    return Plan(ticket)(pixels).argmax(axis=1)


@pytest.fixture(params=range(3))
def ticket(request):
    return random_ticket(NETWORK, seed=request.param)


def test_predictions_stay_and_nothing_narrower_would_do(ticket):
    pixels = images(NETWORK, COUNT)
    wanted = predict(ticket, pixels)
    trials = []
    found = narrowest(ticket, lambda part: pixels[part], wanted, lambda what, done: trials.append(what))
    assert found.different == 0
    assert np.array_equal(predict(found.ticket, pixels), wanted)
    assert trials[0] == "32 bits"
    bits = [layer.affine_bits for layer in found.ticket.layers]
    # the layer with the most channels is narrowed while all others are as they were
    assert bits[2] == 0
    for narrower in [width for width in affine.WIDTHS if width < bits[0]]:
        assert not np.array_equal(predict(with_affine_bits(ticket, narrower, 0), pixels), wanted)
    assert len(dumps(found.ticket)) <= len(dumps(ticket))


def test_few_images_allow_the_narrowest_form(ticket):
    pixels = images(NETWORK, 3)
    found = narrowest(ticket, lambda part: pixels[part], predict(ticket, pixels), lambda what, done: None)
    assert [layer.affine_bits for layer in found.ticket.layers] == [8, 8, 0]


def test_predictions_that_are_not_the_wanted_ones_stay_too(ticket):
    """Rounding in another engine may decide near ties: what counts is that nothing changes."""
    pixels = images(NETWORK, COUNT)
    wanted = predict(ticket, pixels)
    other = wanted.copy()
    other[::2] = (other[::2] + 1) % 10
    found = narrowest(ticket, lambda part: pixels[part], other, lambda what, done: None)
    assert found.different == COUNT / 2
    assert np.array_equal(predict(found.ticket, pixels), wanted)


def test_a_form_that_overflows_is_not_taken(ticket):
    most = np.finfo(np.float32).max
    layer = ticket.layers[0]
    far = layer.affine.copy()
    far[1] = 0
    far[1, :2] = -most / np.float32(15), most  # neither 8 nor 16 bits can hold these
    wide = replace(ticket, layers=(replace(layer, affine=far), *ticket.layers[1:]))
    pixels = images(NETWORK, 3)
    found = narrowest(wide, lambda part: pixels[part], predict(wide, pixels), lambda what, done: None)
    assert found.ticket.layers[0].affine_bits == 32
    assert np.array_equal(found.ticket.layers[0].affine, far)


def test_several_tasks_are_refused(ticket):
    with pytest.raises(TicketError) as refusal:
        narrowest(replace(ticket, others=(ticket.layers,)), images, np.zeros(1), lambda what, done: None)
    assert refusal.value.code == "unsupported"


def test_a_ticket_without_affines_stays():
    network = models.network("conv2@0.1")
    ticket = random_ticket(network)
    assert with_affine_bits(ticket, 8).layers == ticket.layers
