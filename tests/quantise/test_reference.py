"""What int8 computes: the reference against an independent program in loops, and at the ends of its range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slt_infer import quantise, reference
from slt_infer.codec import ticket_from_masks, with_affine
from slt_infer.format import dumps, loads
from slt_infer.reference_int8 import rounded, run_int8
from slt_infer.ticket import Flatten, Freeze, LayerShape, Linear, Network, Quantisation, Source, Ticket

from ..hostile import sound
from ..independent import decoder, int8
from .nets import SCALES, ticket

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def independent(made: Ticket, images: np.ndarray) -> list[list[int]]:
    file = decoder.decode(dumps(made))
    return [int8.run(file.header, file.layers, image.ravel().tolist()) for image in images]


@pytest.mark.parametrize("coats", [False, True])
@pytest.mark.parametrize("end", [17, 18, 19])
@pytest.mark.parametrize("pow2", [False, True])
def test_every_operator_in_files_that_the_package_did_not_write(pow2, end, coats):
    """A joined add, a relu or a linear layer as output; images in and far out of the scale's range."""
    made = loads(sound.quantised(pow2, end, coats).build())
    images = np.random.default_rng(end).standard_normal((4, *made.network.input), dtype=np.float32)
    images *= np.array([1e-3, 1, 1, 1e37], np.float32).reshape(-1, 1, 1, 1)
    logits = run_int8(made, images)
    assert logits.dtype == np.int32
    assert logits.tolist() == independent(made, images)
    assert len({tuple(row) for row in logits.tolist()}) == 4


@settings(max_examples=40, deadline=None)
@given(
    codes=st.lists(st.integers(-60, 20), min_size=SCALES, max_size=SCALES),
    pow2=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    spread=st.integers(-3, 3),
)
def test_any_scales(codes, pow2, seed, spread):
    codes = [code // 16 * 16 for code in codes] if pow2 else codes
    random = np.random.default_rng(seed)
    made = ticket(codes, pow2, random.normal(size=14).tolist())
    images = random.standard_normal((2, *made.network.input), dtype=np.float32) * np.float32(10.0**spread)
    assert run_int8(made, images).tolist() == independent(made, images)


def quantised_image(images: np.ndarray, code: int) -> list[int]:
    """The image's int8 numbers, by a network that gives them as its output: its layer is not read."""
    network = Network(
        "image",
        (images.size, 1, 1),
        (LayerShape("f", 1, images.size),),
        (Flatten(0), Linear(1, 0), Flatten(0)),
    )
    masks = [np.ones(images.size, bool)]
    made = ticket_from_masks(network, Source(), [Freeze()], masks, [None])
    made = replace(made, quantisation=Quantisation((code, code)))
    return run_int8(made, images.reshape(1, -1, 1, 1))[0].tolist()


def test_images_are_rounded_to_even_and_clamped():
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -127.5, -126.5, 1e38, -3e38, 0.0, -0.0])
    wanted = [0, 2, 2, 0, -2, 126, 127, -127, -126, 127, -127, 0, 0]
    for code in (0, -64, 160, -1024, 640):
        scale = quantise.scale_of(code)
        images = np.clip(halves * scale, -3.4e38, 3.4e38).astype(np.float32)
        assert quantised_image(images, code) == wanted
    half = np.float32(0.53125)  # of the scale 1.0625
    around = [half, np.nextafter(half, np.float32(1)), np.nextafter(half, np.float32(0))]
    assert quantised_image(np.array(around), 1) == [0, 1, 0]


def all_kept(features: int, scale: float, shift: float, codes: tuple[int, int]) -> tuple[Ticket, np.ndarray]:
    """A linear layer that keeps every weight, and the image that makes row 0's sum 127 · K."""
    network = Network(
        "all", (features, 1, 1), (LayerShape("f", 2, features, affine=True),), (Flatten(0), Linear(1, 0))
    )
    bare = ticket_from_masks(
        network, Source(seed=8), [Freeze()], [np.ones(2 * features, bool)], [np.ones((2, 2), np.float32)]
    )
    layer = bare.layers[0]
    affine = np.array([[scale, scale], [shift, shift]], np.float32)
    made = replace(bare, layers=(with_affine(layer, affine),), quantisation=Quantisation(codes))
    minus = reference.signs(made.source, layer)
    return made, np.where(minus[0], -1e9, 1e9).astype(np.float32).reshape(1, -1, 1, 1)


@pytest.mark.parametrize("features", [1, 127, 4096, 2**20])
@pytest.mark.parametrize(
    ("scale", "shift", "codes"),
    [
        (1.0, 0.0, (0, 0)),
        (32767.0, 3e38, (0, 0)),  # s = 0 and the largest m and b
        (-32767.0, -3e38, (0, 0)),
        (2.0**-22, 1.0, (0, 0)),  # the largest s
        (0.75, -0.4, (-100, -37)),
    ],
)
def test_the_largest_sums_there_are(features, scale, shift, codes):
    """All weights kept and every q at ±127: exact Python integers, clamped at the ends of int32."""
    made, image = all_kept(features, scale, shift, codes)
    of = quantise.rounding(made)[2]
    signs = 1 - 2 * reference.signs(made.source, made.layers[0]).astype(np.int64)
    acc = [127 * features, 127 * int((signs[0] * signs[1]).sum())]
    for sign in (1, -1):
        wanted = []
        for row in range(2):
            exact = sign * acc[row] * int(of.m[row]) + int(of.b[row]) + (1 << of.s >> 1)
            wanted.append(min(max(exact >> of.s, -(2**31)), 2**31 - 1))
        assert run_int8(made, sign * image)[0].tolist() == wanted


def test_the_formula_holds_at_its_bounds():
    """Every factor at its largest, against Python's integers; int64 holds all of it."""
    for acc in (2**31 - 1, 1 - 2**31, 0, 1):
        for r in (127, -127):
            for factor, residual, shift in (
                (32767.0, 32767.0, 2.0**50),
                (-32767.0, 1.0, -(2.0**50)),
                (1.0, 0.0, 0.3),
            ):
                sums, other = np.array([[acc]]), np.array([[r]])
                got = int(rounded(sums, [factor], [shift], other, residual, False)[0, 0])
                s = 0 if abs(factor) > 2 else 14
                b = min(max(round(shift * 2**s), -(2**46)), 2**46)
                exact = acc * round(factor * 2**s) + r * round(residual * 2**s) + b + (1 << s >> 1)
                assert got == exact >> s
                assert abs(exact) < 2**48


def test_int8_is_near_f32_where_the_scales_fit():
    """With scales from what the values are, the logits differ by the rounding of a few int8 values alone."""
    made = loads(sound.quantised().build())
    images = np.random.default_rng(0).standard_normal((7, *made.network.input), dtype=np.float32)
    real = reference.run(made, images)
    scale = quantise.scales(made.network, made.quantisation)[-1]
    assert np.abs(run_int8(made, images) * scale - real).max() < 0.05 * np.abs(real).max()
