"""Signs, freeze patterns and initial scores have the same bits from every implementation: C++ for each ISA,
the NumPy reference, interpreted Triton."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slt_infer import _core, reference
from slt_infer.ticket import ROUNDS, Freeze, LayerShape, Source, pack_bits, unpack_bits

ISAS = _core.machine()["isas"]
VERSIONS = [(name, rounds) for name, allowed in ROUNDS.items() for rounds in allowed]
LAWS = ("bernoulli", "mixed")
U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
slow = settings(max_examples=20, deadline=None)
fast = settings(max_examples=60, deadline=None)


@st.composite
def sources(draw: st.DrawFn) -> Source:
    generator, rounds = draw(st.sampled_from(VERSIONS))
    return Source(generator, rounds, draw(U64), draw(st.sampled_from(LAWS)))


@st.composite
def shapes(draw: st.DrawFn) -> LayerShape:
    """Layers whose rows are seldom a multiple of 32, 64 or 128 long, with groups."""
    groups, kernel = draw(st.integers(1, 4)), draw(st.sampled_from([(1, 1), (3, 3), (5, 1), (2, 4)]))
    out, inputs = groups * draw(st.integers(1, 5)), draw(st.integers(1, 260 // (kernel[0] * kernel[1])))
    return LayerShape("layer", out, inputs, kernel, groups)


@st.composite
def freezes(draw: st.DrawFn, max_bits: int = 16) -> Freeze:
    bits = draw(st.integers(0, max_bits))
    prune = draw(st.integers(0, 2**bits))
    lock = draw(st.integers(0, 2**bits - prune))
    while bits > 0 and prune % 2 == 0 and lock % 2 == 0:  # bits must be minimal
        bits, prune, lock = bits - 1, prune // 2, lock // 2
    return Freeze(bits, prune, lock)


def position_words(bits: np.ndarray, shape: LayerShape) -> np.ndarray:
    """Booleans [out, K] as uint64 [out, P / 64], padding zero."""
    padded = np.pad(bits, ((0, 0), (0, shape.row_positions - shape.fan_in)))
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)


@fast
@given(sources(), U32, shapes())
def test_signs(source: Source, layer: int, shape: LayerShape) -> None:
    expected = position_words(reference.negative(source, layer, shape), shape)
    for isa in ISAS:
        got = _core.signs(
            source.generator, source.rounds, source.seed, layer, shape.fan_in, 0, shape.out, isa
        )
        np.testing.assert_array_equal(got, expected, err_msg=isa)


@fast
@given(sources(), U32, shapes(), freezes(), st.data())
def test_freeze_rows(
    source: Source, layer: int, shape: LayerShape, freeze: Freeze, data: st.DataObject
) -> None:
    pattern = reference.pattern(source, layer, shape, freeze)
    first = data.draw(st.integers(0, shape.out - 1))
    count = data.draw(st.integers(1, shape.out - first))
    rows = slice(first, first + count)
    for isa in ISAS:
        free, locked = _core.freeze_rows(
            source.generator, source.rounds, source.seed, source.freeze, layer, shape.fan_in,
            freeze.bits, freeze.prune, freeze.lock, first, count, isa,
        )  # fmt: skip
        np.testing.assert_array_equal(free, position_words(pattern == 0, shape)[rows], err_msg=isa)
        np.testing.assert_array_equal(locked, position_words(pattern == 1, shape)[rows], err_msg=isa)


@fast
@given(sources(), U32, st.integers(1, 5000))
def test_initial_score_planes(source: Source, layer: int, free: int) -> None:
    blocks = -(-free // 128)
    scale = 0.5
    for isa in ISAS:
        planes = [
            _core.plane(source.generator, source.rounds, source.seed, 2, layer, 0, plane, 0, blocks, isa)
            for plane in range(17)
        ]
        scores = scores_of([unpack_bits(plane, free) for plane in planes], scale)
        np.testing.assert_array_equal(
            scores, reference.initial_scores(source, layer, free, scale), err_msg=isa
        )


def scores_of(planes: list[np.ndarray], scale: float) -> np.ndarray:
    u = sum(plane.astype(np.int64) << (15 - i) for i, plane in enumerate(planes[:16]))
    return np.where(planes[16], -1.0, 1.0) * (u + 0.5) * 2.0**-16 * scale


@fast
@given(
    sources(), st.integers(0, 5), U32, st.integers(0, 2**24 - 1), st.integers(0, 255),
    st.integers(0, 2**32 - 300), st.integers(0, 300),
)  # fmt: skip
def test_planes_anywhere(
    source: Source, stream: int, layer: int, generation: int, plane: int, block0: int, blocks: int
) -> None:
    expected = reference.words(source, stream, layer, plane, blocks, block0, generation).ravel()
    for isa in ISAS:
        got = _core.plane(
            source.generator, source.rounds, source.seed, stream, layer, generation, plane,
            block0, blocks, isa,
        )  # fmt: skip
        np.testing.assert_array_equal(got, expected, err_msg=isa)


@slow
@given(source=sources(), layer=U32, shape=shapes(), freeze=freezes())
def test_interpreted_triton(
    triton_random: ModuleType, source: Source, layer: int, shape: LayerShape, freeze: Freeze
) -> None:
    address = (source.generator, source.rounds, source.seed, layer)
    signs = triton_random.signs(*address, shape.fan_in, 0, shape.out, "cpu").numpy().view(np.uint64)
    real = position_words(np.ones((shape.out, shape.fan_in), dtype=bool), shape)
    expected = position_words(reference.negative(source, layer, shape), shape)
    np.testing.assert_array_equal(signs & real, expected)

    pattern = reference.pattern(source, layer, shape, freeze)
    free, locked = triton_random.freeze_rows(
        *address[:3],
        source.freeze,
        layer,
        shape.fan_in,
        freeze.bits,
        freeze.prune,
        freeze.lock,
        0,
        shape.out,
        "cpu",
    )
    np.testing.assert_array_equal(free.numpy().view(np.uint64), position_words(pattern == 0, shape))
    np.testing.assert_array_equal(locked.numpy().view(np.uint64), position_words(pattern == 1, shape))

    count = int((pattern == 0).sum())
    planes = triton_random.score_planes(*address, count, "cpu").numpy().view(np.uint32)
    scores = scores_of([unpack_bits(plane, count) for plane in planes], 0.5)
    np.testing.assert_array_equal(scores, reference.initial_scores(source, layer, count, 0.5))


def test_a_row_alone_has_the_bits_it_has_among_others() -> None:
    together = _core.signs("philox4x32", 10, 7, 3, 201, 0, 40)
    for row in range(40):
        np.testing.assert_array_equal(_core.signs("philox4x32", 10, 7, 3, 201, row, 1)[0], together[row])


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 9},
        {"generator": "xorshift"},
        {"generation": 2**24},
        {"plane": 256},
        {"block0": 2**32},
        {"isa": "sse"},
    ],
)
def test_addresses_out_of_range_are_refused(change: dict[str, object]) -> None:
    good = {
        "generator": "philox4x32", "rounds": 10, "seed": 0, "stream": 0, "layer": 0, "generation": 0,
        "plane": 0, "block0": 0, "blocks": 1,
    }  # fmt: skip
    assert len(_core.plane(**good)) == 4
    with pytest.raises(ValueError):
        _core.plane(**(good | change))


@pytest.mark.parametrize(
    ("bits", "prune", "lock"), [(17, 1, 0), (8, 200, 57), (0, 1, 1), (0, 2, 0), (8, 2, 4)]
)
def test_freeze_thresholds_out_of_range_are_refused(bits: int, prune: int, lock: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        _core.freeze_rows("philox4x32", 10, 0, "bernoulli", 0, 10, bits, prune, lock, 0, 1)


def test_an_unknown_freeze_law_is_refused() -> None:
    with pytest.raises(ValueError, match="freeze law"):
        _core.freeze_rows("philox4x32", 10, 0, "feistel", 0, 10, 8, 1, 1, 0, 1)


def test_pack_bits_is_the_order_of_planes() -> None:
    words = _core.plane("philox4x32", 10, 1, 0, 0, 0, 0, 0, 3)
    np.testing.assert_array_equal(pack_bits(unpack_bits(words, 384)), words)
