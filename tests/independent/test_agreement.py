"""The decoder that was written from docs/format.md alone reads what the package writes."""

from __future__ import annotations

import ast
import random
import re
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from slt_infer import Ticket, models, reference
from slt_infer.codec import core_layer, masks, pattern_counts, ticket_from_masks, with_affine
from slt_infer.format import dumps, loads
from slt_infer.format import header as h
from slt_infer.format.affine import rounded
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import (
    Flatten,
    Freeze,
    FreezeLaw,
    Layer,
    LayerShape,
    Linear,
    Network,
    Source,
    pack_bits,
    unpack_bits,
)

from ..format import make_vectors
from ..format.conftest import make_ticket
from ..hostile import sound
from ..hostile.pieces import write
from . import decoder, messagepack, random_bits

LAWS: tuple[FreezeLaw, ...] = ("bernoulli", "mixed")
SOURCES = [f"{name}-{rounds}" for name, allowed in random_bits.ROUNDS.items() for rounds in allowed]
NETWORKS = [
    "mlp-784-300-100-10@0.1",
    *(f"{name}@0.1" for name in ("conv2", "conv4", "conv6")),
    *(f"{name}@0.05" for name in ("resnet18-cifar", "resnet34-cifar", "resnet18", "resnet34", "resnet50")),
    *(f"{name}@0.05" for name in ("resnet101", "wide_resnet50_2")),
]


def integer(words: np.ndarray) -> int:
    return int.from_bytes(np.ascontiguousarray(words).tobytes(), "little")


def plain(value: Any) -> Any:
    """Structures of either decoder as lists of lists; a list of dictionaries, or tuples, likewise."""
    if isinstance(value, dict):
        return [plain(item) for item in value.values()]
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def check_agreement(ticket: Ticket) -> decoder.File:
    """Decodes a ticket's file by itself and compares every part with what the package makes of it."""
    data = dumps(ticket)
    file, ticket = decoder.decode(data), loads(data)
    assert plain(file.header) == plain(msgspec.msgpack.decode(h.encode(h.header_of(ticket))))
    assert len(file.tasks) == len(ticket.tasks)
    for task, layers in zip(file.tasks, ticket.tasks, strict=True):
        for one, other in zip(task, layers, strict=True):
            check_layer(one, ticket.source, other)
    return file


def check_layer(one: decoder.Layer, source: Source, other: Layer) -> None:
    assert sum(map(int.bit_count, one.free)) == other.free
    assert sum(map(int.bit_count, one.locked)) == other.locked
    assert one.mask == integer(other.mask)
    core = core_layer(source, other.shape, other.id, other.freeze, other.code)
    kept, sign = core.rows(0, other.shape.out)
    assert one.kept == [integer(row) for row in kept]
    if other.coats or other.flips is not None:
        number, minus = reference.coats(source, other), reference.signs(source, other)
        for i, coat in enumerate(one.coats):
            assert coat == [integer(pack_bits(row)) for row in number > i]
        assert not (number > len(one.coats)).any()
        assert one.negative == [integer(pack_bits(row)) for row in minus & (number > 0)]
    else:
        assert one.negative == [integer(row) for row in sign]
    assert np.float32(one.constant) == other.constant
    if other.affine is None:
        assert one.affine is None
    else:
        assert one.affine == tuple(row.tolist() for row in other.affine)


@pytest.mark.parametrize("generator", SOURCES)
def test_every_generator(generator):
    """What the writer makes of four layers, of which it codes one."""
    check_agreement(make_ticket(11, generator))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("generator", SOURCES)
def test_every_kind_of_tile(generator, law, monkeypatch):
    """Tiles of few rows, coded and raw in one layer, a last one of fewer rows; const 0 and 1."""
    monkeypatch.setattr(masks, "TILE_POSITIONS", 2 * 3072)
    layers = (
        LayerShape("mixed", 19, 3000),
        LayerShape("sparse", 40, 19),
        LayerShape("none", 5, 40),
        LayerShape("all", 2, 5),
    )
    nodes = (Flatten(0), *(Linear(i + 1, i) for i in range(len(layers))))
    network = Network("tiles", (3000, 1, 1), layers, nodes)
    source = Source.named(generator, 77, law)
    freezes = [Freeze(3, 2, 1), Freeze(4, 13, 1), Freeze(2, 1, 1), Freeze(2, 1, 0)]
    counts = [free for _, _, free in pattern_counts(network, source, freezes)]
    numbers = np.random.default_rng(4)
    dense = counts[0] // 8
    mixed = np.concatenate([numbers.random(counts[0] - dense) < 0.01, numbers.random(dense) < 0.5])
    chosen = [mixed, numbers.random(counts[1]) < 0.5, np.zeros(counts[2], bool), np.ones(counts[3], bool)]
    ticket = ticket_from_masks(network, source, freezes, chosen, [None] * 4)
    assert [layer.code.mode for layer in ticket.layers[2:]] == ["const", "const"]
    code = ticket.layers[0].code
    assert len(set((code.words >> 31).tolist())) == 2
    assert len(code.free) == 10
    check_agreement(ticket)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("generator", SOURCES)
def test_files_that_the_package_did_not_write(generator, law):
    """Every mode; coded and raw tiles under a density and under a prior."""
    name, _, rounds = generator.partition("-")
    data = sound.base(name, int(rounds), law).build()
    file = check_agreement(loads(data))
    assert {layer.fields["tasks"][0]["coats"][0]["mode"] for layer in file.layers} == {
        "raw",
        "const",
        "static",
        "prior",
    }
    assert dumps(loads(data)) == data


@pytest.mark.parametrize("bits", [8, 16])
def test_narrow_affines(bits):
    """In a file that the package did not write, and rounded from any numbers."""
    data = sound.narrowed(sound.base(), bits).build()
    check_agreement(loads(data))
    assert dumps(loads(data)) == data
    ticket = make_ticket()
    layers = [
        layer if layer.affine is None else with_affine(layer, rounded(layer.affine, bits), bits)
        for layer in ticket.layers
    ]
    check_agreement(replace(ticket, layers=tuple(layers)))


@pytest.mark.parametrize("generator", SOURCES)
def test_tasks_coats_flips_and_shared_layers(generator):
    name, _, rounds = generator.partition("-")
    data = sound.rich(name, int(rounds)).build()
    file = check_agreement(loads(data))
    assert [len(layer.coats) for task in file.tasks for layer in task] == [3, 3, 1, 1, 3, 3, 1, 2]
    assert dumps(loads(data)) == data


@pytest.mark.parametrize("pow2", [False, True])
def test_scales_of_int8(pow2):
    data = sound.quantised(pow2, coats=pow2).build()
    file = check_agreement(loads(data))
    assert file.header["quantisation"][:2] == ["int8", pow2]
    assert dumps(loads(data)) == data


def test_integers_of_any_sign_in_their_shortest_form():
    numbers = [sign * (2**i + j) for i in range(63) for j in (-1, 0, 1) for sign in (1, -1)]
    for number in [*numbers, -(2**63), 2**64 - 1]:
        data = msgspec.msgpack.encode(number)
        assert messagepack.read(data) == number
        assert write(number) == data
    for longer in ("d001", "d0e0", "d1ff80", "d10080", "d2ffff8000", "d3ffffffff80000000", "d0"):
        with pytest.raises(messagepack.NotCanonical):
            messagepack.read(bytes.fromhex(longer))


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("planes", range(9))
def test_every_number_of_score_planes(planes, sign):
    if planes + sign == 0:
        return
    source = random.Random(planes).choice(SOURCES).split("-")
    for starts in sorted({1, 2, min(7, 2 ** (planes + sign)), min(16, 2 ** (planes + sign))}):
        pieces = sound.prior(planes, sign, starts, [source[0], int(source[1]), 2**64 - 1 - planes])
        check_agreement(loads(pieces.build()))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network(name):
    """One by one a generator, a freeze law, a sparsity and freeze ratios for each network."""
    number = NETWORKS.index(name)
    source = Source.named(SOURCES[number % len(SOURCES)], 2**63 + number, LAWS[number // 2 % 2])
    sparsity, prune, lock = [(0.5, 0, 0), (0.5, 0.25, 0.25), (0.75, 0.5, 0.125)][number % 3]
    network = models.network(name)
    check_agreement(synthetic_ticket(network, source, sparsity, prune, lock, "uniform", 8))


@pytest.mark.parametrize("planes", [0, 3])
def test_layers_of_many_lanes(planes):
    """The files of the other tests are small: their coded layers have few lanes."""
    data = sound.wide(planes).build()
    (layer,) = check_agreement(loads(data)).layers
    assert sum(map(int.bit_count, layer.free)) == 2**15
    assert dumps(loads(data)) == data


@pytest.mark.parametrize(("generator", "law"), [("philox4x32-10", "mixed"), ("threefry4x32-20", "bernoulli")])
def test_streams_of_other_lanes_than_their_mask(generator, law):
    """Further coats and flips of fewer and of as many lanes, with raw tiles, under 16 freeze planes."""
    name, _, rounds = generator.partition("-")
    data = make_vectors.streams(name, int(rounds), law).build()
    _, fewer, more, _ = check_agreement(loads(data)).layers
    assert sum(map(int.bit_count, fewer.free)) >= 2**15 > fewer.mask.bit_count()
    assert more.mask.bit_count() >= 2**15
    assert dumps(loads(data)) == data


def test_no_network_is_left_out():
    assert {name.partition("@")[0] for name in NETWORKS} == set(models.NAMES)


def test_the_worked_example_of_the_page():
    """Section 7: the file from its printed bytes gives the weights that the page prints."""
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8").partition("## 7.")[2]
    data = bytes.fromhex("".join(re.findall(r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?){1,16})$", page, re.MULTILINE)))
    (layer,) = decoder.decode(data).layers
    printed = re.findall(r"^row \d:  pattern ([Lp. ]+?)   weights ([-+0 ]+)$", page, re.MULTILINE)
    assert len(printed) == 3
    for row, (pattern, weights) in enumerate(printed):
        for k, (kind, weight) in enumerate(zip(pattern.split(), weights.split(), strict=True)):
            bits = [bits[row] >> k & 1 for bits in (layer.free, layer.locked, layer.kept, layer.negative)]
            assert bits == [kind == ".", kind == "L", weight != "0", weight == "-"]
    assert f"c = {layer.constant}" in page


def test_known_answers():
    """Random123's own file, that both generators are held to."""
    lines = (Path(__file__).parents[1] / "vectors" / "random123_kat.txt").read_text("ascii").splitlines()
    seen = 0
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name, rounds, *numbers = words
        counter, (k0, k1, *rest) = [int(n, 16) for n in numbers[:4]], [int(n, 16) for n in numbers[4:-4]]
        if any(rest):
            continue  # keys that no seed gives
        make = {"philox4x32": random_bits.philox, "threefry4x32": random_bits.threefry}[name]
        assert make(int(rounds), tuple(counter), k0 | k1 << 32) == tuple(int(n, 16) for n in numbers[-4:])
        seen += 1
    assert seen >= 4


def test_the_decoder_shares_no_code():
    """It imports the standard library alone."""
    for path in Path(__file__).parent.glob("*.py"):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            assert all(name.partition(".")[0] in sys.stdlib_module_names for name in names), path.name


def test_synthetic_masks_follow_section_3():
    """Stream 5, which no file stores, by the same page."""
    ticket = synthetic_ticket(models.network("mlp-20-30-4"), Source(seed=5), 0.6, 0.25, 0.125, "uniform", 8)
    for layer in ticket.layers:
        bits = unpack_bits(layer.mask, layer.free)
        source = random_bits.Source("philox4x32", 10, 5)
        planes = [source.run(random_bits.SYNTHETIC, layer.id, i, 0, layer.free) for i in range(16)]
        u = [sum((plane >> o & 1) << 15 - i for i, plane in enumerate(planes)) for o in range(layer.free)]
        best = sorted(range(layer.free), key=lambda o: (-u[o], o))[: int(bits.sum())]
        assert sorted(best) == np.flatnonzero(bits).tolist()


def test_damage_is_refused():
    data = dumps(make_ticket())
    for at in range(0, len(data), 97):
        with pytest.raises(decoder.Refused):
            decoder.decode(data[:at] + struct.pack("B", data[at] ^ 1) + data[at + 1 :])
