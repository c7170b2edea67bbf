"""Codes of scales, and which values have one, against exact fractions and graphs worked out by hand."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slt_infer import models, quantise
from slt_infer.errors import TicketError
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
    Quantisation,
    Relu,
)

CODES = range(-1024, 1024)


def exact(code: int) -> Fraction:
    return Fraction(16 + code % 16, 16) * Fraction(2) ** (code // 16)


def test_every_scale_is_exact_in_float32_and_larger_than_the_one_before():
    scales = [quantise.scale_of(code) for code in CODES]
    assert [Fraction(scale) for scale in scales] == [exact(code) for code in CODES]
    assert [float(np.float32(scale)) for scale in scales] == scales
    assert all(a < b for a, b in itertools.pairwise(scales))


@pytest.mark.parametrize("pow2", [False, True])
@given(scale=st.floats(2.0**-64, 2.0**63))
@example(scale=2.0**-64)
@example(scale=1.0)
@example(scale=math.nextafter(1.0, 2))
@example(scale=math.nextafter(1.0625, 0))
@example(scale=1.0625)
@example(scale=2.0**63)
def test_a_code_is_the_nearest_of_its_side(scale, pow2):
    step = 16 if pow2 else 1
    up, down = (quantise.code_of(scale, up, pow2) for up in (True, False))
    assert up % step == down % step == 0
    assert exact(up) >= scale > exact(up - step)
    assert exact(down) <= scale < exact(down + step)


def test_scales_beyond_the_codes_get_the_last():
    for scale, code, pow2 in [(1e-300, -1024, -1024), (1e300, 1023, 1008), (2.0**64, 1023, 1008)]:
        for up in (True, False):
            assert (quantise.code_of(scale, up), quantise.code_of(scale, up, True)) == (code, pow2)
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="number above 0"):
            quantise.code_of(wrong)


def network(*nodes: Node) -> Network:
    """Three 1x1 convolutions of 2 channels, of those nodes, averaged in the end."""
    layers = tuple(LayerShape(name, 2, 2) for name in "abc")
    made = Network("n", (2, 3, 3), layers, (*nodes, GlobalAvgPool2d(len(nodes))))
    made.shapes()
    return made


@pytest.mark.parametrize(
    ("nodes", "joins", "own"),
    [
        # a residual block: the later operand is a layer's
        ((Conv2d(0, 0), Conv2d(1, 1), Conv2d(2, 2), Add(1, 3)), {4: 3}, (0, 1, 2, 4, 5)),
        ((Conv2d(0, 0), Conv2d(1, 1), Conv2d(2, 2), Add(3, 1)), {4: 3}, (0, 1, 2, 4, 5)),
        # of two layers' the later, which is on the left here
        ((Conv2d(0, 0), Conv2d(0, 1), Conv2d(0, 2), Add(3, 2), Add(1, 4)), {4: 3}, (0, 1, 2, 4, 5, 6)),
        # the later operand is no layer's, though the earlier one is
        ((Conv2d(0, 0), Conv2d(1, 1), Conv2d(2, 2), Relu(1), Add(3, 4)), {}, (0, 1, 2, 3, 5, 6)),
        # another node reads it, or the same add twice
        ((Conv2d(0, 0), Conv2d(0, 1), Add(1, 2), Conv2d(2, 2), Add(3, 4)), {5: 4}, (0, 1, 2, 3, 5, 6)),
        ((Conv2d(0, 0), Conv2d(0, 1), Conv2d(0, 2), Add(3, 3)), {}, (0, 1, 2, 3, 4, 5)),
        # two adds, each with one of its own; a chain
        (
            (Conv2d(0, 0), Conv2d(0, 1), Add(1, 2), Conv2d(3, 2), Add(3, 4)),
            {3: 2, 5: 4},
            (0, 1, 3, 5, 6),
        ),
        # the image is on the left; what pools, relus and flatten give
        (
            (Conv2d(0, 0), Add(0, 1), Conv2d(2, 1), MaxPool2d(3, 3, 1, 1), AvgPool2d(4, 1, 1), Conv2d(5, 2)),
            {2: 1},
            (0, 2, 3, 5, 6, 7),
        ),
    ],
)
def test_joined_values_and_those_with_a_scale(nodes, joins, own):
    graph = network(*nodes)
    assert graph.joined == joins
    assert quantise.own_scale(graph) == own


def test_a_linear_layer_is_joined_too_and_dead_values_have_scales():
    layers = tuple(LayerShape(name, 4, 4) for name in "abc")
    nodes = (Flatten(0), Linear(1, 0), Relu(2), Linear(3, 1), Linear(1, 2), Add(4, 2))
    graph = Network("n", (4, 1, 1), layers, nodes)
    graph.shapes()
    assert graph.joined == {6: 4}
    assert quantise.own_scale(graph) == (0, 2, 5, 6)
    codes = (-16, 0, 16, 35)
    scales = [0.5, 0.5, 1.0, 1.0, None, 2.0, 4.75]
    assert quantise.scales(graph, Quantisation(codes)) == scales


def test_a_resnet_joins_the_second_convolution_or_the_shortcut_of_each_block():
    graph = models.network("resnet18-cifar")
    joins = graph.joined
    adds = [value for value, node in enumerate(graph.nodes, 1) if isinstance(node, Add)]
    assert sorted(joins) == adds
    assert len(adds) == 8
    assert len(quantise.own_scale(graph)) == 1 + 21 - 8 + 8 + 1  # image, layers, joined, adds, mean


@pytest.mark.parametrize(
    ("codes", "pow2", "text"),
    [
        ((0, 0, 0), False, "3 scales, where 4 values"),
        ((0, 0, 0, 0, 0), False, "5 scales, where 4 values"),
        ((0, 1024, 0, 0), False, "code 1024"),
        ((0, 0, 0, -1025), False, "code -1025"),
        ((0, 0, 8, 0), True, "code 8 of a scale.*divisible by 16"),
    ],
)
def test_wrong_codes_are_refused(codes, pow2, text):
    layers = (LayerShape("a", 4, 4), LayerShape("b", 4, 4))
    graph = Network("n", (4, 1, 1), layers, (Flatten(0), Linear(1, 0), Relu(2), Linear(3, 1), Add(4, 4)))
    with pytest.raises(TicketError, match=text) as refusal:
        quantise.check(graph, Quantisation(codes, pow2), [1, 1])
    assert refusal.value.code == "bad-value"
    quantise.check(graph, Quantisation((0, 16, -1024, 1008), True), [1, 1])
