"""What is written is read back, by the reader and by the reference that is written from docs/format.md
alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slt_infer import reference
from slt_infer.codec import with_affine
from slt_infer.errors import TicketError
from slt_infer.format import dumps, load, loads, parts, save
from slt_infer.format.affine import rounded
from slt_infer.ticket import unpack_bits

from ..independent import decoder


def same(a, b) -> bool:
    layers = all(
        (x.shape, x.id, x.freeze, x.pruned, x.locked, x.free, x.kept)
        == (y.shape, y.id, y.freeze, y.pruned, y.locked, y.free, y.kept)
        and np.array_equal(x.mask, y.mask)
        and (x.affine is None) == (y.affine is None)
        and (x.affine is None or np.array_equal(x.affine, y.affine))
        for x, y in zip(a.layers, b.layers, strict=True)
    )
    return layers and (a.network, a.source, a.preprocessing, a.provenance) == (
        b.network,
        b.source,
        b.preprocessing,
        b.provenance,
    )


def test_a_ticket_survives_the_file(ticket, tmp_path):
    path = tmp_path / "net.slt"
    size = save(ticket, path)
    assert path.stat().st_size == size
    assert same(load(path), ticket)
    assert dumps(load(path)) == path.read_bytes()


def test_the_file_has_every_mode(one_ticket):
    assert [layer.code.mode for layer in one_ticket.layers] == ["raw", "const", "static", "raw", "prior"]


def test_the_reference_reads_the_same(ticket):
    data = dumps(ticket)
    content = reference.read(data)
    for layer, streams, affines in zip(ticket.layers, content["streams"], content["affines"], strict=True):
        ((bits,),) = streams
        assert unpack_bits(layer.mask, layer.free).tolist() == [bool(bit) for bit in bits]
        frozen = reference.pattern(ticket.source, layer.id, layer.shape, layer.freeze)
        counts = [int((frozen == kind).sum()) for kind in (-1, 1, 0)]
        assert counts == [layer.pruned, layer.locked, layer.free]
        assert len(affines) == (layer.affine is not None)
        assert all(np.array_equal(affine, layer.affine) for affine in affines)
    assert content["layers"][0][:2] == ["conv", 0]
    assert content["provenance"] == [["made by", "a test"]]


@pytest.mark.parametrize("bits", [8, 16])
def test_narrow_affines_survive_the_file(ticket, bits):
    layers = [
        with_affine(layer, None if layer.affine is None else rounded(layer.affine, bits), bits)
        for layer in ticket.layers
    ]
    narrow = replace(ticket, layers=tuple(layers))
    data = dumps(narrow)
    assert same(loads(data), narrow)
    assert dumps(loads(data)) == data
    assert parts(narrow).affine == 2 * 16 + 2 * (6 + 120) * bits // 8 + 2 * 4
    independent = [[layer.affine] * (layer.affine is not None) for layer in decoder.decode(data).layers]
    for of in (reference.read(data)["affines"], independent):
        for layer, affines in zip(layers, of, strict=True):
            assert len(affines) == (layer.affine is not None)
            assert all(np.array_equal(affine, layer.affine) for affine in affines)
    unrounded = replace(ticket, layers=tuple(replace(la, affine_bits=bits) for la in ticket.layers))
    with pytest.raises(TicketError) as refusal:
        dumps(unrounded)
    assert refusal.value.code == "bad-affine"


def test_parts_add_up(ticket):
    by_part = parts(ticket)
    assert by_part.total == len(dumps(ticket))
    assert by_part.prefix == 32
    assert by_part.affine == 8 * (6 + 120) + 2 * 4


def test_nothing_is_half_written(ticket, tmp_path, monkeypatch):
    path = tmp_path / "net.slt"
    path.write_bytes(b"the old file")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(ticket, path)
    assert path.read_bytes() == b"the old file"
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.slt"]


def test_a_large_file_of_another_kind_is_not_read(tmp_path):
    path = tmp_path / "other"
    with open(path, "wb") as file:
        file.truncate(2**31)
    with pytest.raises(TicketError) as refusal:
        load(path)
    assert refusal.value.code == "bad-magic"


def test_loads_wants_the_whole_file(ticket):
    with pytest.raises(TicketError) as refusal:
        loads(b"")
    assert (refusal.value.code, refusal.value.offset) == ("truncated", 0)
