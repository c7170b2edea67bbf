"""Coded masks against the reference coder of docs/format.md, and the writer's choices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from slt_infer import _core, reference
from slt_infer.codec import (
    coded_layer,
    core_layer,
    decoded_layer,
    entropy_bits,
    pattern_counts,
    synthetic_masks,
)
from slt_infer.codec.masks import pattern
from slt_infer.codec.tickets import synthetic_mask
from slt_infer.errors import RatioError, TicketError
from slt_infer.ticket import Freeze, LayerShape, Linear, Network, Source, pack_bits, unpack_bits

ISAS = _core.machine()["isas"]
LANES = st.sampled_from([4, 32])


@settings(deadline=None)
@given(
    first=st.integers(0, 200),
    bits=st.lists(st.booleans(), min_size=1, max_size=400),
    lanes=LANES,
    density=st.integers(1, 4095),
)
def test_static_tiles_equal_the_reference(first, bits, lanes, density):
    last = first + len(bits)
    mask = pack_bits(np.array([False] * first + bits))
    payload = _core.encode_static(mask, first, last, lanes, density)
    frequencies = [density] * len(bits)
    assert payload == reference.encode_tile(bits, first, lanes, frequencies)
    assert reference.decode_tile(payload, first, lanes, frequencies) == bits
    for isa in ISAS:
        words = _core.decode_static(payload, first, last, lanes, density, isa)
        assert unpack_bits(words, len(bits) + first % 32)[first % 32 :].tolist() == bits
        assert not unpack_bits(words, 32 * len(words))[: first % 32].any()


@settings(deadline=None)
@given(first=st.integers(0, 100), bits=st.lists(st.booleans(), min_size=1, max_size=200))
def test_raw_tiles_equal_the_reference(first, bits):
    mask = pack_bits(np.array([True] * first + bits + [True] * 7))
    payload = _core.encode_raw(mask, first, first + len(bits))
    assert reference.decode_raw(payload, first, first + len(bits)) == bits
    assert len(payload) == 4 * ((first + len(bits) - 1) // 32 - first // 32 + 1)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damaged_static_tiles_are_judged_alike_everywhere(data):
    """The reference and every instruction set accept the same payloads and give the same bits."""
    count, lanes = data.draw(st.integers(1, 150)), data.draw(LANES)
    rng = np.random.Generator(np.random.PCG64(data.draw(st.integers(0, 2**32))))
    payload = bytearray(_core.encode_static(pack_bits(rng.random(count) < 0.3), 0, count, lanes, 1232))
    for _ in range(data.draw(st.integers(0, 2))):
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    payload = payload[: len(payload) - 2 * data.draw(st.integers(0, 3))]

    def judged(decode):
        try:
            return decode()
        except ValueError:
            return "refused"

    tile, f = bytes(payload), [1232] * count
    wanted = judged(lambda: [bool(bit) for bit in reference.decode_tile(tile, 0, lanes, f)])
    for isa in ISAS:
        got = judged(
            lambda isa=isa: unpack_bits(_core.decode_static(tile, 0, count, lanes, 1232, isa), count).tolist()
        )
        assert got == wanted, isa


def test_lanes_follow_from_the_bits_of_the_whole_stream():
    for bits in (0, 1, 2**15 - 1, 2**15, 2**15 + 1, 2**32):
        assert _core.lanes_of(bits) == reference.lanes_of(bits) == (4 if bits < 2**15 else 32)
    for lanes in (0, 1, 8, 31, 33):
        with pytest.raises(ValueError, match="lanes must be 4 or 32"):
            _core.encode_static(np.zeros(1, np.uint32), 0, 32, lanes, 100)
        with pytest.raises(ValueError, match="lanes must be 4 or 32"):
            _core.decode_static(bytes(128), 0, 32, lanes, 100)


SOURCE = Source("philox4x32", 10, 99)


@pytest.mark.parametrize(("out", "lanes"), [(127, 4), (128, 32)])
def test_small_layers_are_coded_in_few_lanes(out, lanes):
    """Every tile alike, by the layer's count and not by its own."""
    shape = LayerShape("a", out, 256)
    bits = np.random.Generator(np.random.PCG64(7)).random(shape.weights) < 0.02
    layer = coded_layer(SOURCE, shape, 0, Freeze(), pack_bits(bits))
    code = layer.code
    assert code.mode == "static"
    few = replace(code, tile_rows=1, free=np.full(out, 256, np.uint32))
    for made in (code, few):
        first, tiles = 0, []
        for count in made.free.tolist():
            of_tile = [int(bit) for bit in bits[first : first + count]]
            tiles.append(reference.encode_tile(of_tile, first, lanes, [made.density] * count))
            first += count
        words = np.array([len(tile) // 2 for tile in tiles], np.uint32)
        made = replace(made, words=words, payload=b"".join(tile + bytes(-len(tile) % 4) for tile in tiles))
        again = decoded_layer(SOURCE, shape, 0, Freeze(), made, layer.kept)
        assert np.array_equal(again.mask, layer.mask)
        for isa in ISAS:
            work = _core.Workspace(_core.WeightMemory(), 1, isa)
            assert np.array_equal(core_layer(SOURCE, shape, 0, Freeze(), made).mask(work), layer.mask)
        if made.tile_rows == code.tile_rows:
            assert made.payload == code.payload


@pytest.mark.parametrize(
    ("share", "mode"),
    [(0.0, "const"), (1.0, "const"), (0.5, "raw"), (0.1, "static"), (0.9, "static"), (0.001, "static")],
)
def test_the_cheapest_mode_is_chosen(share, mode):
    shape, freeze = LayerShape("a", 64, 1000), Freeze(2, 1, 1)
    free = pattern_counts(Network("n", (1000, 1, 1), (shape,), ()), SOURCE, [freeze])[0][2]
    bits = np.random.Generator(np.random.PCG64(5)).random(free) < share
    layer = coded_layer(SOURCE, shape, 0, freeze, pack_bits(bits))
    assert layer.code.mode == mode
    ones = int(bits.sum())
    assert layer.kept == layer.locked + ones
    # the model's entropy, 24 bits a lane of each tile, a half of the 8-bit density's step, and what 32 bits
    # round to
    bound = entropy_bits(free, ones) + len(layer.code.free) * (32 * 24 + 64) + 0.01 * free
    assert 8 * len(layer.code.payload) <= min(bound, free + 64 * len(layer.code.free))
    again = decoded_layer(SOURCE, shape, 0, freeze, layer.code, layer.kept)
    assert np.array_equal(again.mask, layer.mask)


@settings(deadline=None)
@given(
    shape=st.sampled_from([(3, 50), (40, 700), (500, 700)]),
    shares=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=3),
    freeze=st.sampled_from([Freeze(), Freeze(2, 1, 0), Freeze(2, 3, 0)]),
    seed=st.integers(0, 2**32),
)
def test_the_smallest_is_found_though_static_is_not_always_coded(shape, shares, freeze, seed):
    """Against static tiles coded here: masks of one density, or of other ones in other places."""
    source, shape = Source(seed=seed), LayerShape("a", *shape)
    free = pattern(source, shape, 0, freeze).counts()[2]
    share = np.repeat(shares, -(-free // len(shares)))[:free]
    mask = pack_bits(np.random.Generator(np.random.PCG64(seed)).random(free) < share)
    ones = int(np.bitwise_count(mask).sum())
    if ones in (0, free):
        return
    code = coded_layer(source, shape, 0, freeze, mask).code
    ends = np.cumsum(code.free, dtype=np.int64)
    density = min(max(round(4096 * ones / free), 1), 4095)
    size = len(msgpack.encode(["static", density, 0, False, []])) - 1
    for count, end in zip(code.free.tolist(), ends.tolist(), strict=True):
        coded = _core.encode_static(mask, end - count, end, _core.lanes_of(free), density)
        raw = _core.encode_raw(mask, end - count, end)
        size += 12 + -(-min(len(coded), len(raw)) // 4) * 4
    assert code.candidates["static"] <= size
    smallest = min(code.candidates["raw"], size, code.candidates.get("prior", size))
    assert code.candidates[code.mode] == smallest


def test_a_tile_decodes_alone():
    """Rows of a tile are the same whatever stands in the other tiles."""
    shape = LayerShape("a", 4000, 300)
    bits = np.random.Generator(np.random.PCG64(6)).random(shape.weights) < 0.2
    layer = coded_layer(SOURCE, shape, 3, Freeze(), pack_bits(bits))
    assert len(layer.code.free) > 3
    kept, _ = core_layer(SOURCE, shape, 3, Freeze(), layer.code).rows(0, shape.out)
    broken = bytearray(layer.code.payload)
    broken[:200] = bytes(200)
    code = replace(layer.code, payload=bytes(broken))
    core = core_layer(SOURCE, shape, 3, Freeze(), code)
    second = layer.code.tile_rows
    assert np.array_equal(core.rows(second, 50)[0], kept[second : second + 50])
    with pytest.raises(ValueError, match="tile 0"):
        core.rows(0, 1)


def test_a_layer_that_keeps_nothing_is_refused_by_name():
    with pytest.raises(TicketError, match="layer a: keeps no weight"):
        coded_layer(SOURCE, LayerShape("a", 4, 4), 0, Freeze(), pack_bits(np.zeros(16, dtype=bool)))


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(TicketError, match="free weights"):
        coded_layer(SOURCE, LayerShape("a", 4, 4), 0, Freeze(), pack_bits(np.ones(40, dtype=bool)))


@settings(deadline=None)
@given(
    free=st.integers(1, 2000), share=st.floats(0, 1), seed=st.integers(0, 2**64 - 1), layer=st.integers(0, 50)
)
def test_synthetic_masks_equal_the_reference(free, share, seed, layer):
    source, keep = Source("threefry4x32", 12, seed), int(free * share)
    mask = synthetic_mask(source, layer, free, keep)
    assert unpack_bits(mask, free).tolist() == reference.synthetic_mask(source, layer, free, keep).tolist()


def test_synthetic_ties_go_to_the_lowest_ordinal():
    """With more weights than 16-bit numbers there are equals: the reference's stable sort is the judge."""
    source, free = Source(seed=4), 200_000
    for keep in (1000, 77_777, 199_999):
        mask = synthetic_mask(source, 0, free, keep)
        assert np.array_equal(unpack_bits(mask, free), reference.synthetic_mask(source, 0, free, keep))


def test_synthetic_masks_keep_the_exact_number():
    shapes = (LayerShape("a", 50, 70), LayerShape("b", 30, 50), LayerShape("c", 10, 30))
    network = Network("n", (70, 1, 1), shapes, (Linear(0, 0), Linear(1, 1), Linear(2, 2)))
    freezes = [Freeze(2, 1, 1)] * 3
    masks = synthetic_masks(network, SOURCE, freezes, 0.6)
    locked = sum(counts[1] for counts in pattern_counts(network, SOURCE, freezes))
    kept = locked + sum(int(np.bitwise_count(mask).sum()) for mask in masks)
    assert kept == network.weights - int(0.6 * network.weights)
    with pytest.raises(RatioError, match="are locked"):
        synthetic_masks(network, SOURCE, freezes, 0.9)
