"""Bounds of docs/format.md that types cannot state, and tickets that must not be written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slt_infer import reference
from slt_infer.codec import pattern_counts, ticket_from_masks
from slt_infer.errors import TicketError
from slt_infer.format import dumps, load, loads
from slt_infer.ticket import (
    Flatten,
    Freeze,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    Network,
    Preprocessing,
    Source,
    unpack_bits,
)


def one_layer(freeze: Freeze = Freeze(), image: tuple[int, int, int] = (6, 1, 1), **changes: object):
    """A ticket of one linear layer that keeps every free weight."""
    network = Network("n", image, (LayerShape("fc", 3, image[0]),), (GlobalAvgPool2d(0), Linear(1, 0)))
    free = pattern_counts(network, Source(), [freeze])[0][2]
    ticket = ticket_from_masks(network, Source(), [freeze], [np.ones(free, dtype=bool)], [None])
    return replace(ticket, **changes)


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"preprocessing": Preprocessing((0.0,) * 6, (1e-60,) * 6)}, "bad-value", "float32"),
        ({"preprocessing": Preprocessing((1e300,) * 6, (1.0,) * 6)}, "bad-value", "float32"),
        ({"preprocessing": Preprocessing(classes=("€" * 86,))}, "limit", "256 are allowed"),
        ({"preprocessing": Preprocessing(classes=("\udcff",))}, "bad-value", "not valid text"),
        ({"provenance": tuple((f"{i:03}", "") for i in range(65))}, "bad-header", "length"),
        ({"source": Source(seed=2**64)}, "bad-value", "seed"),
    ],
)
def test_what_a_reader_refuses_is_not_written(changes, code, text):
    with pytest.raises(TicketError, match=text) as refusal:
        dumps(one_layer(**changes))
    assert refusal.value.code == code


def test_the_longest_names_are_written():
    classes = ("€" * 85 + "x",)  # 256 bytes
    assert (
        loads(dumps(one_layer(preprocessing=Preprocessing(classes=classes)))).preprocessing.classes == classes
    )


def test_layers_that_lie_are_not_written():
    ticket = one_layer()
    layer = ticket.layers[0]
    for changed, code in (
        (replace(layer, kept=5), "bad-mask"),
        (replace(layer, affine=np.ones((2, 3), np.float32)), "bad-affine"),
        (replace(layer, shape=LayerShape("fc", 3, 6, affine=True)), "bad-value"),
        (replace(layer, shape=LayerShape("other", 3, 6)), "bad-value"),  # not the graph's
        (replace(layer, id=2**64), "bad-value"),
    ):
        with pytest.raises(TicketError) as refusal:
            dumps(replace(ticket, layers=(changed,)))
        assert refusal.value.code == code


def test_the_image_is_bounded_as_every_value_is():
    with pytest.raises(TicketError, match="over 2\\^28") as refusal:
        one_layer(image=(2**16, 2**14, 2**14))
    assert refusal.value.code == "limit"


def test_a_wholly_locked_layer_is_written_and_read():
    """B = 0: u is 0 everywhere, and l = 1 locks all."""
    ticket = loads(dumps(one_layer(Freeze(0, 0, 1))))
    layer = ticket.layers[0]
    assert (layer.pruned, layer.locked, layer.free, layer.kept) == (0, 18, 0, 18)
    assert reference.kept(ticket.source, layer).all()
    assert layer.code.mode == "const"


def test_a_wholly_pruned_layer_keeps_nothing_and_is_refused():
    with pytest.raises(TicketError) as refusal:
        one_layer(Freeze(0, 1, 0))
    assert refusal.value.code == "empty-layer"


@pytest.mark.parametrize("freeze", [Freeze(0, 1, 0), Freeze(0, 0, 1), Freeze(3, 3, 5), Freeze(1, 1, 1)])
def test_patterns_without_free_weights(freeze):
    network = Network("n", (200, 1, 1), (LayerShape("fc", 30, 200),), (Flatten(0), Linear(1, 0)))
    pruned, locked, free = pattern_counts(network, Source(seed=8), [freeze])[0]
    wanted = reference.pattern(Source(seed=8), 0, network.layers[0], freeze)
    assert (pruned, locked, free) == tuple(int((wanted == kind).sum()) for kind in (-1, 1, 0))
    assert free == 0


def test_masks_are_decoded_as_they_were_given():
    network = Network("n", (300, 1, 1), (LayerShape("fc", 40, 300),), (Flatten(0), Linear(1, 0)))
    mask = np.random.Generator(np.random.PCG64(1)).random(12_000) < 0.1
    ticket = ticket_from_masks(network, Source(), [Freeze()], [mask], [None])
    assert np.array_equal(unpack_bits(ticket.layers[0].mask, 12_000), mask)


def test_a_user_may_limit_the_memory_of_reading(ticket, tmp_path):
    data, path = dumps(ticket), tmp_path / "net.slt"
    path.write_bytes(data)
    enough = 2**23 + 16 * len(data)
    assert load(path, enough).kept == loads(data, enough).kept == ticket.kept
    for read in (lambda limit: load(path, limit), lambda limit: loads(data, limit)):
        with pytest.raises(TicketError) as error:
            read(enough - 1)
        assert error.value.code == "limit"
        assert f"{enough} bytes of memory, max_memory allows {enough - 1}" in str(error.value)
