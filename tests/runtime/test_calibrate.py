"""Scales from float activations: their ranges, what passes a scale on, logits that keep their order."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from slt_infer import SltError, models, reference
from slt_infer.quantise import MAX_SUM, code_of, own_scale, rounding, scale_of
from slt_infer.reference_int8 import run_int8
from slt_infer.runtime import calibrate
from slt_infer.runtime.calibrate import calibrated
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    MaxPool2d,
    Network,
    Node,
    Relu,
    Ticket,
)

from .tickets import images, one_linear, random_ticket


def conv(name: str, out: int, inputs: int) -> LayerShape:
    return LayerShape(name, out, inputs, (3, 3), affine=True)


EVERY_OPERATOR = Network(
    "every",
    (3, 9, 8),
    (conv("a", 6, 3), conv("b", 6, 6), conv("c", 6, 6), LayerShape("d", 5, 6, affine=False)),
    (
        Conv2d(0, 0, 1, 1),  # 1
        Relu(1),
        MaxPool2d(2, 2, 2),  # 3: read by the next and by the add
        Conv2d(3, 1, 1, 1),  # 4: joined
        Add(4, 3),  # 5
        Relu(5),  # 6: what is seen of 5
        Conv2d(6, 2, 1, 1),  # 7: read twice
        Relu(7),
        Add(7, 8),  # 9: nothing is joined
        AvgPool2d(9, 3, 1, 1),  # 10
        GlobalAvgPool2d(10),  # 11
        Linear(11, 3),  # 12
    ),
)
SEEN_AS = {0: 0, 1: 3, 5: 6, 7: 7, 9: 9, 10: 10, 11: 11}  # and the logits, 12


def float_values(ticket: Ticket, x: np.ndarray) -> list[np.ndarray]:
    """Every value of the graph in f32, by the reference: that of the network cut off behind it."""
    nodes = ticket.network.nodes
    flat = [Flatten(n) for n in range(1, len(nodes) + 1)]
    cut = [replace(ticket.network, nodes=(*nodes[: i + 1], flat[i])) for i in range(len(nodes))]
    shapes = ticket.network.shapes()
    parts = [
        reference.run(replace(ticket, network=n), x).reshape(len(x), *s)
        for n, s in zip(cut, shapes[1:], strict=True)
    ]
    return [x, *parts]


@pytest.fixture(scope="module")
def every() -> tuple[Ticket, np.ndarray, list[np.ndarray]]:
    ticket = random_ticket(EVERY_OPERATOR)
    x = images(EVERY_OPERATOR, 30)
    return ticket, x, float_values(ticket, x)


def codes_of(ticket: Ticket) -> dict[int, int]:
    assert ticket.quantisation is not None
    return dict(zip(own_scale(ticket.network), ticket.quantisation.codes, strict=True))


def test_the_largest_magnitude_is_127_scales(every):
    ticket, x, values = every
    codes = codes_of(calibrated(ticket, x, "max"))
    assert codes.keys() == {*SEEN_AS, 12}
    for value, seen in SEEN_AS.items():
        assert codes[value] == code_of(float(np.abs(values[seen]).max()) / 127)


@pytest.mark.parametrize("percentile", [50, 90, 99.9])
def test_percentiles_are_those_of_all_numbers(every, percentile):
    """To the width of a bin, 1/128."""
    ticket, x, values = every
    codes = codes_of(calibrated(ticket, x, percentile=percentile))
    for value, seen in SEEN_AS.items():
        exact = np.quantile(np.abs(values[seen]), percentile / 100, method="inverted_cdf").astype(float)
        assert code_of(exact / 127) <= codes[value] <= code_of(exact * (1 + 1 / 128) / 127)


def power(number: np.ndarray) -> np.ndarray:
    """The nearest power of two of positive numbers."""
    return np.exp2(np.rint(np.log2(number.astype(np.float64)))).astype(np.float32)


def test_powers_of_two_are_scales_of_what_rounded_affines_give(every):
    ticket, x, _ = every
    layers = []
    for layer in ticket.layers:
        affine = layer.affine
        if affine is not None:
            affine = affine * (power(affine[0]) / affine[0])
        layers.append(replace(layer, affine=affine))
    plain = codes_of(calibrated(replace(ticket, layers=tuple(layers)), x, "max"))
    found = codes_of(calibrated(ticket, x, "max", pow2=True))
    assert any(code % 16 for code in plain.values())
    for value in SEEN_AS:
        assert found[value] == -(-plain[value] // 16) * 16


def test_gains_of_layers_without_affine_add_up():
    """Each constant rounded to a power of two scales all that follows."""
    layers = tuple(LayerShape(f"l{i}", 7, n, affine=False) for i, n in enumerate((9, 7, 7, 7)))
    nodes = (Flatten(0), Linear(1, 0), Relu(2), Linear(3, 1), Relu(4), Linear(5, 2), Relu(6), Linear(7, 3))
    network = Network("bare", (9, 1, 1), layers, nodes)
    octaves = set()
    for seed in range(6):
        ticket, x, gain = random_ticket(network, seed), images(network, 40), 1.0
        values = float_values(ticket, x)
        codes = codes_of(calibrated(ticket, x, "max", pow2=True))
        for value, layer in ((2, 0), (4, 1), (6, 2)):
            constant = ticket.layers[layer].constant
            gain *= float(power(constant) / constant)
            reach = float(values[value + 1].max()) / 127
            assert codes[value] == code_of(gain * reach, pow2=True)
            octaves.add(codes[value] - code_of(reach, pow2=True))
    assert octaves != {0}


@pytest.mark.parametrize("method", ["max", "percentile"])
@pytest.mark.parametrize("pow2", [False, True])
def test_logits_are_close_to_those_in_f32(every, method, pow2):
    ticket, x, values = every
    found = calibrated(ticket, x, method, pow2=pow2)
    real = run_int8(found, x) * scale_of(codes_of(found)[12])
    assert np.abs(real - values[12]).max() < (0.6 if pow2 else 0.06) * np.abs(values[12]).max()


def test_passes_do_not_matter(every, monkeypatch):
    ticket, x, _ = every
    whole = calibrated(ticket, x, percentile=99.5).quantisation
    monkeypatch.setattr(calibrate, "ELEMENTS", 7 * 6 * 9 * 8)  # seven images
    assert calibrated(ticket, x, percentile=99.5).quantisation == whole
    assert calibrated(ticket, x[::-1], percentile=99.5).quantisation == whole


def test_memory_does_not_grow_with_the_images(every, monkeypatch):
    ticket, x, _ = every
    monkeypatch.setattr(calibrate, "ELEMENTS", 10 * 6 * 9 * 8)
    peaks = []
    for many in (x, np.tile(x, (20, 1, 1, 1))):
        tracemalloc.start()
        calibrated(ticket, many)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + x.nbytes


def test_values_that_are_zero_get_a_scale(every):
    """A layer that gives nothing, and black images."""
    ticket, x, _ = every
    dead = replace(ticket.layers[0], affine=np.zeros((2, 6), np.float32))
    dark = replace(ticket, layers=(dead, *ticket.layers[1:]))
    for given in (x, np.zeros_like(x)):
        for pow2 in (False, True):
            found = calibrated(dark, given, pow2=pow2)
            scale = scale_of(codes_of(found)[1])
            assert 1 / 127 <= scale <= 2 / 127
            assert np.isfinite(run_int8(found, given)).all()
            assert rounding(found)


def test_few_numbers_that_are_not_zero_count(every):
    """Where the percentile is 0 the largest magnitude stands for it."""
    ticket, x, _ = every
    sparse = np.zeros_like(x)
    sparse[3, 1, 2, 2] = -5
    assert codes_of(calibrated(ticket, sparse, percentile=99))[0] == code_of(5 / 127)


def tail(*nodes: Node, affine: bool = False) -> Network:
    layers = (LayerShape("a", 8, 4, affine=True), LayerShape("b", 8, 8, affine=affine))
    return Network("tail", (4, 1, 1), layers, (Flatten(0), Linear(1, 0), *nodes))


ENDS = {
    "layer": tail(Relu(2), Linear(3, 1)),
    "layer with an affine": tail(Relu(2), Linear(3, 1), affine=True),
    "joined": tail(Linear(2, 1), Add(3, 2), affine=True),
    "add": tail(Linear(2, 1), Relu(3), Add(3, 4)),
    "pool": Network(
        "pool", (3, 5, 4), (LayerShape("a", 8, 3, affine=True),), (Conv2d(0, 0), GlobalAvgPool2d(1))
    ),
}


@pytest.mark.parametrize("pow2", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_logits_keep_the_order_of_the_sums_and_fit(end, pow2):
    """A unit of the sum that counts most is one of the logits at least, and no sum leaves int32."""
    network = ENDS[end]
    for size in (1e-3, 1.0, 1e3):
        ticket = random_ticket(network)
        ticket = calibrated(ticket, np.float32(size) * images(network, 20), pow2=pow2)
        rule = rounding(ticket)[len(network.nodes)]
        largest = max(int(np.abs(rule.m).max()), abs(rule.m_r))
        assert largest >= 2**rule.s
        terms = {"pool": 20, "add": 1}.get(end, 8)
        extreme = 127 * (terms * np.abs(rule.m).max() + abs(rule.m_r)) + np.abs(rule.b).max()
        assert (extreme >> rule.s) + 1 <= MAX_SUM


def test_logits_have_room_for_the_residual():
    """However little the layer that is joined to it gives."""
    ticket = random_ticket(ENDS["joined"])
    quiet = replace(ticket.layers[1], affine=np.float32(1e-9) * ticket.layers[1].affine)
    ticket = calibrated(replace(ticket, layers=(ticket.layers[0], quiet)), images(ticket.network, 20))
    rule = rounding(ticket)[4]
    assert 2**rule.s <= rule.m_r


def test_logits_of_the_longest_rows_fit():
    ticket = random_ticket(one_linear(2**20, 1, affine=False), density=1e-4)
    ticket = calibrated(ticket, images(ticket.network, 1))
    rule = rounding(ticket)[2]
    assert 2**rule.s <= rule.m[0]
    assert (127 * 2**20 * int(rule.m[0]) >> rule.s) + 1 <= MAX_SUM


def test_a_network_that_ends_in_a_relu_has_no_logits_of_its_own():
    network = tail(Linear(2, 1), Relu(3), affine=True)
    ticket, x = random_ticket(network), images(network, 20)
    codes = codes_of(calibrated(ticket, x, "max"))
    assert codes[3] == code_of(float(reference.run(ticket, x).max()) / 127)


def test_a_multiplier_is_never_too_large():
    """One unit of what is read may be worth more than all that the calibration images gave."""
    network = one_linear(4, 3)
    ticket = random_ticket(replace(network, nodes=(*network.nodes, Relu(2))))
    layer = replace(ticket.layers[0], affine=np.float32([[1e9] * 3, [-1e-3] * 3]))
    ticket = replace(ticket, layers=(layer,))
    for pow2 in (False, True):
        assert rounding(calibrated(ticket, np.zeros((1, 4, 1, 1), np.float32), pow2=pow2))


REFUSED = [
    ({"method": "mean"}, "bad-method"),
    ({"percentile": 0}, "bad-method"),
    ({"percentile": 100.1}, "bad-method"),
    ({"percentile": float("nan")}, "bad-method"),
    ({"images": np.zeros((0, 3, 9, 8), np.float32)}, "bad-input"),
    ({"images": np.zeros((2, 3, 8, 9), np.float32)}, "bad-input"),
    ({"images": np.zeros((2, 3, 9, 8))}, "bad-input"),
    ({"images": np.full((2, 3, 9, 8), np.nan, np.float32)}, "bad-calibration"),
    ({"images": np.full((2, 3, 9, 8), 3e38, np.float32)}, "bad-calibration"),
]


@pytest.mark.parametrize(("arguments", "code"), REFUSED)
def test_refusals(every, arguments, code):
    ticket, x, _ = every
    with pytest.raises(SltError) as caught:
        calibrated(ticket, **{"images": x, **arguments})
    assert caught.value.code == code


def test_torch_images_are_as_numpy(every):
    torch = pytest.importorskip("torch", reason="images may be torch's")
    ticket, x, _ = every
    assert calibrated(ticket, torch.from_numpy(x)).quantisation == calibrated(ticket, x).quantisation
    with pytest.raises(SltError, match=r"torch.float64.*slt_infer.data.preprocess"):
        calibrated(ticket, torch.from_numpy(x).double())


def test_values_of_which_the_images_tell_nothing_are_named():
    network = one_linear(4, 3)
    network = replace(network, nodes=(*network.nodes, Relu(2)))
    ticket = random_ticket(network)
    with pytest.warns(UserWarning, match="0 on all calibration images.*: the image"):
        calibrated(ticket, np.zeros((1, *network.input), np.float32))


def test_several_tasks_are_refused(every):
    ticket, x, _ = every
    with pytest.raises(SltError) as caught:
        calibrated(replace(ticket, others=(ticket.layers,)), x)
    assert caught.value.code == "unsupported"


def test_a_residual_network_as_it_is_known():
    network = models.network("resnet18-cifar@0.1", (3, 16, 16), 10)
    ticket, x = random_ticket(network), images(network, 4)
    found = calibrated(ticket, x)
    real = run_int8(found, x) * scale_of(codes_of(found)[len(network.nodes)])
    exact = reference.run(ticket, x)
    assert np.corrcoef(real.ravel(), exact.ravel())[0, 1] > 0.9
