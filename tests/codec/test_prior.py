"""Masks coded by the initial scores: tiles against the reference, intervals against brute force, and what
the writer makes of masks that do and do not remember their scores.
"""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slt_infer import _core, reference
from slt_infer.codec import coded_layer, decoded_layer, entropy_bits
from slt_infer.codec.prior import cell_counts, cut, find_prior
from slt_infer.codec.tickets import synthetic_mask
from slt_infer.ticket import ROUNDS, Freeze, LayerShape, Source, pack_bits, unpack_bits

ISAS = _core.machine()["isas"]
SOURCE = Source("threefry4x32", 13, 2**64 - 3)
SHAPE = LayerShape("a", 400, 700)
MAX_INTERVALS = 16
FREE = SHAPE.weights


@st.composite
def laws(draw):
    """planes, sign and intervals as a header may have them."""
    planes = draw(st.integers(0, 8))
    sign = draw(st.booleans()) or planes == 0
    cells = 2 ** (planes + sign)
    starts = sorted({0, *draw(st.lists(st.integers(1, cells - 1), max_size=MAX_INTERVALS - 1))})
    f = draw(st.lists(st.integers(1, 4095), min_size=len(starts), max_size=len(starts)))
    intervals = [(start, f[i]) for i, start in enumerate(starts) if i == 0 or f[i] != f[i - 1]]
    return planes, sign, intervals


@st.composite
def sources(draw):
    generator = draw(st.sampled_from(sorted(ROUNDS)))
    return Source(generator, draw(st.sampled_from(ROUNDS[generator])), draw(st.integers(0, 2**64 - 1)))


def drawn_mask(seed: int, first: int, last: int, share: float) -> np.ndarray:
    bits = np.random.Generator(np.random.PCG64(seed)).random(last) < share
    bits[:first] = False
    return bits


@settings(deadline=None)
@given(
    source=sources(),
    layer=st.integers(0, 2**32 - 1),
    law=laws(),
    first=st.integers(0, 9000),
    lanes=st.sampled_from([4, 32]),
    count=st.one_of(st.integers(1, 400), st.integers(4000, 4300)),
    seed=st.integers(0, 2**32),
    share=st.floats(0, 1),
)
def test_prior_tiles_equal_the_reference(source, layer, law, first, lanes, count, seed, share):
    last = first + count
    bits = drawn_mask(seed, first, last, share)
    scores = (source.generator, source.rounds, source.seed, layer)
    frequencies = reference.prior_frequencies(source, layer, last, *law)[first:]
    wanted = reference.encode_tile(bits[first:].astype(int).tolist(), first, lanes, frequencies)
    assert reference.decode_tile(wanted, first, lanes, frequencies) == bits[first:].tolist()
    for isa in ISAS:
        assert _core.encode_prior(pack_bits(bits), first, last, lanes, *scores, *law, isa) == wanted
        words = _core.decode_prior(wanted, first, last, lanes, *scores, *law, isa)
        assert np.array_equal(words, pack_bits(bits)[first // 32 :])


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damaged_prior_tiles_are_judged_alike_everywhere(data):
    """The reference and every instruction set accept the same payloads and give the same bits."""
    law, count, lanes = data.draw(laws()), data.draw(st.integers(1, 300)), data.draw(st.sampled_from([4, 32]))
    scores = (SOURCE.generator, SOURCE.rounds, SOURCE.seed, 0)
    bits = drawn_mask(data.draw(st.integers(0, 2**32)), 0, count, 0.3)
    payload = bytearray(_core.encode_prior(pack_bits(bits), 0, count, lanes, *scores, *law))
    for _ in range(data.draw(st.integers(0, 2))):
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    tile = bytes(payload[: len(payload) - 2 * data.draw(st.integers(0, 3))])

    def judged(decode):
        try:
            return [bool(bit) for bit in decode()]
        except ValueError:
            return "refused"

    frequencies = reference.prior_frequencies(SOURCE, 0, count, *law)
    wanted = judged(lambda: reference.decode_tile(tile, 0, lanes, frequencies))
    for isa in ISAS:
        got = judged(
            lambda isa=isa: unpack_bits(_core.decode_prior(tile, 0, count, lanes, *scores, *law, isa), count)
        )
        assert got == wanted, isa


@pytest.mark.parametrize(
    ("planes", "sign", "intervals", "text"),
    [
        (9, False, [(0, 5)], "at most 8"),
        (1, False, [], "1 to 16"),
        (8, False, [(i, i + 1) for i in range(17)], "1 to 16"),
        (1, False, [(1, 5)], "start at 0"),
        (2, True, [(0, 5), (8, 6)], "starts at"),
        (2, False, [(0, 5), (2, 6), (1, 5)], "ascend"),
        (2, False, [(0, 5), (1, 5)], "differ"),
        (2, False, [(0, 0)], "1 to 4095"),
        (2, False, [(0, 4096)], "1 to 4095"),
        (2, False, [(0, 5), (2**16, 6)], "out of range"),
    ],
)
def test_intervals_that_the_format_does_not_allow_are_refused(planes, sign, intervals, text):
    with pytest.raises(ValueError, match=text):
        _core.encode_prior(
            np.zeros(4, np.uint32), 0, 100, 32, "philox4x32", 10, 0, 0, planes, sign, intervals
        )
    with pytest.raises(ValueError, match=text):
        _core.decode_prior(bytes(200), 0, 100, 32, "philox4x32", 10, 0, 0, planes, sign, intervals)


def ideal_bits(counts: np.ndarray, starts: tuple[int, ...]) -> float:
    """Of a cut at `starts`, with densities in 4096ths, and of its intervals in the header."""
    total = 0.0
    for begin, end in itertools.pairwise((*starts, len(counts))):
        dropped, kept = counts[begin:end].sum(axis=0).tolist()
        f = min(max(round(4096 * kept / max(kept + dropped, 1)), 1), 4095)
        total += 8 * len(msgspec.msgpack.encode((begin, f)))
        total -= kept * math.log2(f / 4096) + dropped * math.log2(1 - f / 4096)
    return total


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=8, max_size=8).map(np.array),
)
def test_the_cut_is_the_cheapest(counts):
    """Against all 128 cuts of 8 cells."""
    cuts = [(0, *inner) for size in range(8) for inner in itertools.combinations(range(1, 8), size)]
    best = min(ideal_bits(counts, starts) for starts in cuts)
    found = cut(counts, 3, False)
    assert found.bits == pytest.approx(best)
    assert ideal_bits(counts, tuple(start for start, _ in found.intervals)) == pytest.approx(best)
    assert all(a[1] != b[1] for a, b in itertools.pairwise(found.intervals))


@pytest.mark.parametrize("cells", [1, 2, 3, 5, 16, 17, 128, 256, 512])
def test_a_cut_costs_what_its_tiles_and_its_messagepack_take(cells):
    counts = np.random.Generator(np.random.PCG64(cells)).integers(0, 300, (cells, 2))
    counts[cells // 2 :, 0] //= 9
    found = cut(counts, 8, True)
    starts = tuple(start for start, _ in found.intervals)
    assert starts[0] == 0
    assert found.bits == pytest.approx(ideal_bits(counts, starts))
    for one in range(1, cells, max(1, cells // 20)):  # no cut into two is cheaper
        assert found.bits <= ideal_bits(counts, (0, one)) + 1e-6


@pytest.mark.parametrize("shape", [(0, 2), (513, 2), (4,), (4, 3)])
def test_only_counts_of_cells_are_cut(shape):
    with pytest.raises(ValueError, match="counts must be"):
        _core.cut_cells(np.zeros(shape, np.uint64))


def test_no_more_intervals_are_cut_than_a_header_holds():
    counts = np.array([[10_000, 30_000], [30_000, 10_000]] * 128)
    assert len(cut(counts, 8, False).intervals) == MAX_INTERVALS


@pytest.mark.parametrize("planes", range(9))
@pytest.mark.parametrize("free", [1, 31, 8191, 8193, 20_000])
def test_cells_are_counted_as_the_reference_numbers_them(planes, free):
    mask = drawn_mask(1, 0, free, 0.4)
    v = 2 * reference.plane_numbers(SOURCE, 2, 7, planes, free) + reference.plane_bits(SOURCE, 2, 7, 16, free)
    counts = cell_counts(SOURCE, 7, free, pack_bits(mask), planes)
    assert counts.shape == (2 ** (planes + 1), 2)
    for kept in (0, 1):
        wanted = np.bincount(v[mask == kept], minlength=len(counts))
        assert counts[:, kept].tolist() == wanted.tolist()


def scores(layer: int = 0) -> np.ndarray:
    """Signed initial scores in (-1, 1)."""
    return reference.initial_scores(SOURCE, layer, FREE, 1.0)


def noisy(keep: np.ndarray, noise: float) -> np.ndarray:
    return keep ^ (np.random.Generator(np.random.PCG64(2)).random(FREE) < noise)


@pytest.mark.parametrize(
    ("ranges", "noise"),
    [([(0.5, 1.0)], 0.02), ([(0.5, 1.0)], 0.2), ([(0.25, 0.75)], 0.05), ([(0.1, 0.2), (0.6, 0.9)], 0.1)],
)
def test_a_mask_that_remembers_its_scores_is_coded_near_its_entropy(ranges, noise):
    magnitude = np.abs(scores())
    keep = np.logical_or.reduce([(magnitude >= low) & (magnitude < high) for low, high in ranges])
    mask = noisy(keep, noise)
    layer = coded_layer(SOURCE, SHAPE, 0, Freeze(), pack_bits(mask))
    code = layer.code
    assert code.mode == "prior"
    # the entropy of the law that made the mask, and of cells of a 256th that a range's edge cuts
    edges = {round(256 * edge) for pair in ranges for edge in pair if 256 * edge % 1 and edge < 1}
    model = entropy_bits(10**9, round(noise * 10**9)) / 10**9 * FREE + len(edges) * FREE / 256
    assert 8 * len(code.payload) <= 1.001 * model + 1500 * len(code.free)
    assert 8 * len(code.payload) < 0.9 * entropy_bits(FREE, int(mask.sum()))
    again = decoded_layer(SOURCE, SHAPE, 0, Freeze(), code, layer.kept)
    assert np.array_equal(again.mask, layer.mask)


def test_the_sign_is_read_only_where_it_pays():
    by_sign = coded_layer(SOURCE, SHAPE, 0, Freeze(), pack_bits(noisy(scores() > 0, 0.1))).code
    assert (by_sign.mode, by_sign.planes, by_sign.sign, len(by_sign.intervals)) == ("prior", 0, True, 2)
    by_size = coded_layer(SOURCE, SHAPE, 0, Freeze(), pack_bits(noisy(np.abs(scores()) > 0.5, 0.1))).code
    assert (by_size.mode, by_size.planes, by_size.sign, len(by_size.intervals)) == ("prior", 1, False, 2)


def test_fewer_planes_cost_bytes_only():
    mask = pack_bits(noisy(np.abs(scores()) > 0.3, 0.05))
    sizes = {}
    for planes in (0, 2, 8):
        code = coded_layer(SOURCE, SHAPE, 0, Freeze(), mask, planes=planes).code
        assert code.planes <= planes
        sizes[planes] = len(code.payload)
    assert sizes[0] > sizes[2] > sizes[8]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
def test_a_mask_without_memory_is_not_coded_by_its_scores(share):
    for layer in range(10):
        code = coded_layer(
            SOURCE, SHAPE, layer, Freeze(), synthetic_mask(SOURCE, layer, FREE, int(share * FREE))
        ).code
        assert code.mode == ("raw" if share == 0.5 else "static")
        small = LayerShape("s", 20, 30)
        code = coded_layer(
            SOURCE, small, layer, Freeze(), synthetic_mask(SOURCE, layer, 600, int(share * 600))
        ).code
        assert code.mode == ("raw" if share in (0.3, 0.5) else "static")


def test_the_candidates_are_what_the_modes_take():
    mask = pack_bits(noisy(np.abs(scores()) > 0.3, 0.05))
    code = coded_layer(SOURCE, SHAPE, 0, Freeze(), mask).code
    assert list(code.candidates) == ["raw", "static", "prior"]
    assert min(code.candidates, key=code.candidates.__getitem__) == code.mode == "prior"
    tiles = len(code.free)
    assert 0 < code.candidates["prior"] - len(code.payload) - 12 * tiles < 8 + 7 * MAX_INTERVALS
    plain = coded_layer(SOURCE, SHAPE, 0, Freeze(), mask, planes=0).code
    assert plain.candidates.keys() == {"raw", "static"}
    assert plain.candidates["raw"] == code.candidates["raw"]
    # as prior wins, that static need not be coded shows by what it takes at least
    assert code.candidates["static"] <= plain.candidates["static"] < 1.01 * code.candidates["static"]
    assert coded_layer(SOURCE, SHAPE, 0, Freeze(), pack_bits(np.ones(FREE, bool))).code.candidates.keys() == {
        "const"
    }


def test_no_prior_without_planes_or_weights():
    assert find_prior(SOURCE, 0, FREE, pack_bits(scores() > 0), planes=0) is None
    assert find_prior(SOURCE, 0, 0, np.zeros(0, np.uint32)) is None
