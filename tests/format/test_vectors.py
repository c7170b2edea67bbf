"""The files of version 1 in tests/vectors are read, by the package, the reference and the independent
decoder, as they were when the version was fixed.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from slt_infer import Plan, reference
from slt_infer.codec import core_layer
from slt_infer.format import dumps, load, loads
from slt_infer.reference_int8 import run_int8
from slt_infer.ticket import Layer, Source, unpack_bits

from ..independent import decoder, int8, random_bits
from .make_vectors import FOLDER, affine_digest, digest, expected, files, image, numbers, weights

EXPECTED = json.loads((FOLDER / "expected.json").read_text("utf-8"))
NAMES = sorted(EXPECTED)
QUANTISED = [name for name in NAMES if name.startswith("int8-")]
STREAMS = [name for name in NAMES if name.startswith("streams-")]


def data_of(name: str) -> bytes:
    return (FOLDER / f"{name}.slt").read_bytes()


def test_the_files_are_those_that_were_committed():
    assert sorted(path.stem for path in FOLDER.glob("*.slt")) == NAMES
    assert {name: digest(data_of(name)) for name in NAMES} == {n: EXPECTED[n]["sha256"] for n in NAMES}
    assert sum(len(data_of(name)) for name in NAMES) < 60_000


def test_between_them_they_have_everything():
    tickets = [load(FOLDER / f"{name}.slt") for name in NAMES]
    layers = [layer for ticket in tickets for task in ticket.tasks for layer in task]
    assert {ticket.source.generator for ticket in tickets} == {"philox4x32", "threefry4x32"}
    assert {ticket.source.freeze for ticket in tickets} == {"bernoulli", "mixed"}
    assert {code.mode for layer in layers for code in layer.streams} == {"const", "raw", "static", "prior"}
    assert {layer.affine_bits for layer in layers} == {0, 8, 16, 32}
    assert {len(layer.coats) for layer in layers} == {0, 1, 2}
    sixteen = {t.source.freeze for t in tickets for layer in t.layers if layer.freeze.bits == 16}
    assert sixteen == {"bernoulli", "mixed"}
    assert {layer.flips is None for layer in layers} == {True, False}
    assert {len(ticket.tasks) for ticket in tickets} == {1, 2}
    assert {len(ticket.distinct) < len(ticket.layers) for ticket in tickets} == {True, False}
    assert {t.quantisation and t.quantisation.pow2 for t in tickets} == {None, True, False}
    assert {bool(t.network.joined) for t in tickets if t.quantisation} == {True}
    coded = [la.free for la in layers if la.code.mode in ("static", "prior")]
    assert min(coded) < 2**15 <= max(coded)
    files = [decoder.decode(data_of(name)) for name in NAMES]
    rounds = {(f.header["source"]["generator"], f.header["source"]["rounds"]) for f in files}
    assert {name: {r for n, r in rounds if n == name} for name, _ in rounds} == {
        "philox4x32": {7, 10},
        "threefry4x32": {12, 13, 20},
    }


@pytest.mark.parametrize("name", STREAMS)
def test_streams_of_other_lanes_than_their_mask_and_raw_tiles_in_32(name):
    _, fewer, more, _ = load(FOLDER / f"{name}.slt").layers

    def bits(layer: Layer) -> list[int]:
        return [sum(map(int, code.free)) for code in layer.streams]

    assert [count >= 2**15 for count in bits(fewer)] == [True, False, False]
    assert [count >= 2**15 for count in bits(more)] == [True, True, True, True]
    for layer in (fewer, more):
        for code in layer.streams:
            assert [int(words) >> 31 for words in code.words] == [0] * (len(code.free) - 1) + [1]
            assert min(map(int, code.free)) > 0
    assert bits(fewer)[0] - int(fewer.code.free[-1]) < 2**15
    assert fewer.code.mode == "static"
    assert more.code.mode == "prior"


@pytest.mark.parametrize("name", STREAMS)
def test_every_one_of_16_freeze_planes_decides_some_weights(name):
    """So that a plane that is made otherwise gives another pattern."""
    file = decoder.decode(data_of(name))
    source = random_bits.Source(*list(file.header["source"].values())[:4])
    decided = np.zeros(16, int)
    for layer in (one.fields for one in file.layers if one.fields["bits"] == 16):
        for row in range(layer["out"]):
            columns, first = decoder.columns_of(layer), row * decoder.row_positions(layer)
            u = np.zeros(columns, int)
            for plane in source.freeze_planes(16, layer["id"], first, columns):
                words = plane.to_bytes(-(-columns // 8), "little")
                u = 2 * u + np.unpackbits(np.frombuffer(words, "u1"), count=columns, bitorder="little")

            def kind(u: np.ndarray, layer: dict[str, Any] = layer) -> np.ndarray:
                return (u >= layer["prune"]).astype(int) + (u >= 2**16 - layer["lock"])

            decided += [int((kind(u) != kind(u ^ 1 << 15 - j)).sum()) for j in range(16)]
    assert decided.min() >= 8, decided


def plain(source: Source, layer: Layer) -> np.ndarray:
    """int64 [out, K] as weights() gives it, from the compiled code; only of one coat without flips."""
    kept, sign = core_layer(source, layer.shape, layer.id, layer.freeze, layer.code).rows(0, layer.shape.out)
    shape = layer.shape.out, layer.shape.row_positions
    kept, sign = (unpack_bits(bits.view(np.uint32).ravel(), shape[0] * shape[1]) for bits in (kept, sign))
    return np.where(sign, -1, kept.astype(np.int64)).reshape(shape)[:, : layer.shape.fan_in]


@pytest.mark.parametrize("name", NAMES)
def test_the_package_reads_them(name):
    data = data_of(name)
    ticket = loads(data)
    assert dumps(ticket) == data
    assert len(ticket.tasks) == len(EXPECTED[name]["tasks"])
    for number, wanted in enumerate(EXPECTED[name]["tasks"]):
        task = ticket.task(number)
        for layer, of in zip(task.layers, wanted["layers"], strict=True):
            counts = layer.shape.name, layer.free, layer.locked, layer.kept
            assert counts == (of["name"], of["free"], of["locked"], of["kept"])
            assert float(layer.constant) == of["constant"]
            assert affine_digest(layer.affine) == of["affine"]
            signs = 1 - 2 * reference.signs(task.source, layer).astype(np.int64)
            assert numbers(reference.coats(task.source, layer) * signs) == of["weights"]
            if not layer.coats and layer.flips is None:
                assert numbers(plain(task.source, layer)) == of["weights"]
        x = image(task.network.input)
        assert Plan(task, backend="reference")(x)[0].tolist() == wanted["logits"]
        if not any(layer.coats or layer.flips is not None for layer in task.layers):
            assert Plan(task)(x)[0].tolist() == wanted["logits"]


@pytest.mark.parametrize("name", NAMES)
def test_the_independent_decoder_reads_them(name):
    tasks = decoder.decode(data_of(name)).tasks
    for layers, wanted in zip(tasks, EXPECTED[name]["tasks"], strict=True):
        for layer, of in zip(layers, wanted["layers"], strict=True):
            assert numbers(weights(layer)) == of["weights"]
            assert (layer.constant, affine_digest(layer.affine)) == (of["constant"], of["affine"])


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_reads_them(name):
    content, ticket = reference.read(data_of(name)), load(FOLDER / f"{name}.slt")
    first: dict[int, int] = {}
    for i, by_task in enumerate(zip(*ticket.tasks, strict=True)):
        if first.setdefault(by_task[0].id, i) != i:
            assert content["streams"][i] == []
            continue
        for layer, streams in zip(by_task, content["streams"][i], strict=True):
            for code, bits in zip(layer.streams, streams, strict=True):
                found = unpack_bits(layer.decode(code, len(bits)), len(bits))
                assert found.tolist() == [bool(bit) for bit in bits]
    for by_task, affines in zip(zip(*ticket.tasks, strict=True), content["affines"], strict=True):
        wanted = [layer.affine for layer in by_task if layer.affine is not None]
        assert len(wanted) == len(affines)
        assert all(np.array_equal(one, other) for one, other in zip(wanted, affines, strict=True))


@pytest.mark.parametrize("name", QUANTISED)
def test_int8_is_what_it_was(name):
    data = data_of(name)
    ticket, file = loads(data), decoder.decode(data)
    x, wanted = image(ticket.network.input), EXPECTED[name]["tasks"][0]["int8_logits"]
    assert run_int8(ticket, x)[0].tolist() == wanted
    assert int8.run(file.header, file.layers, x.ravel().tolist()) == wanted


def test_they_are_what_the_page_alone_gives():
    made = files()
    assert {name: digest(data) for name, data in made.items()} == {n: EXPECTED[n]["sha256"] for n in NAMES}
    name = "tasks-philox-10"
    assert expected(made[name]) == EXPECTED[name]
