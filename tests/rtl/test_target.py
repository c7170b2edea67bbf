"""The units of rtl/ fed from the words of an image (docs/target.md), not from a .slt file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from slt_infer.codec import core_layer
from slt_infer.format import loads
from slt_infer.format.target import rtl_image, save_image
from slt_infer.ticket import Layer, unpack_bits

from ..hostile import sound
from ..independent import target
from .benches import build, simulate

TICKETS = {law: loads(sound.base("threefry4x32", 13, law).build()) for law in ("bernoulli", "mixed")}


def steps(law: str) -> list[tuple[target.Image, target.Step, Layer]]:
    """The steps of layers, with the ticket's."""
    ticket = TICKETS[law]
    image = target.parse(rtl_image(ticket).words.tobytes())
    found = [step for step in image.steps if step.has_weights]
    return [(image, step, layer) for step, layer in zip(found, ticket.layers, strict=True)]


def seed(image: target.Image) -> int:
    return image.header["seed_low"] | image.header["seed_high"] << 32


def stream_numbers(step: target.Step) -> list[int]:
    """What the benches read of a mask: layer, wide, planes, with_sign, starts and densities."""
    fields = step.fields
    numbers = [fields["layer"], fields["lanes"] == 32, fields["planes"], fields["sign"]]
    return numbers + [start for start, _ in step.intervals] + [f for _, f in step.intervals]


def tile_numbers(step: target.Step) -> list[int]:
    """The number of tiles; of each raw, first, count, size and words."""
    numbers = [step.fields["tiles"]]
    for tile in step.tiles:
        words = np.frombuffer(tile.payload, "<u2").tolist()
        numbers += [tile.raw, tile.first, tile.count, len(words), *words]
    return numbers


def test_the_mask_decoder() -> None:
    modes = set()
    for image, step, layer in steps("bernoulli"):
        fields = step.fields
        if not step.tiles:
            continue
        given = [0, seed(image), image.header["rounds"], *stream_numbers(step), *tile_numbers(step)]
        out, bits = simulate(build("mask_decoder_top"), map(int, given)), []
        for tile in step.tiles:
            end = 1 + tile.count
            assert out[0] == tile.count
            assert out[end] == 0  # not refused
            bits, out = bits + out[1:end], out[end + 2 :]
        assert bits == unpack_bits(layer.mask, layer.free).astype(int).tolist()
        modes.add(fields["mode"])
    assert modes == {target.RAW, target.STATIC, target.PRIOR}


@pytest.mark.parametrize("law", ["bernoulli", "mixed"])
def test_the_pattern(law: str) -> None:
    """Free, locked and negative of every position; with the mask's bits these are the weights."""
    for image, step, layer in steps(law):
        fields = step.fields
        given = [0, seed(image), image.header["rounds"], fields["layer"], image.header["mixed"]]
        given += [fields[name] for name in ("bits", "prune", "lock", "out", "columns")]
        *words, _ = simulate(build("pattern_top"), given)
        planes = np.array(words, dtype="<u4").reshape(fields["out"], -1, 3, 4).transpose(2, 0, 1, 3)
        free, locked, negative = (unpack_bits(plane, plane.size * 32) for plane in planes)
        kept = locked.copy()
        kept[free] = unpack_bits(layer.mask, layer.free)
        want = core_layer(TICKETS[law].source, layer.shape, layer.id, layer.freeze, layer.code)
        for mine, theirs in zip((kept, kept & negative), want.rows(0, fields["out"]), strict=True):
            assert np.packbits(mine, bitorder="little").tobytes() == theirs.tobytes()


def test_readmemh_reads_the_words(tmp_path: Path) -> None:
    program, path = build("image_words"), tmp_path / "net.hex"
    image = rtl_image(TICKETS["mixed"])
    save_image(image, path, "hex")
    command = [program, f"+image={path}"]
    done = subprocess.run(command, input=str(len(image.words)), capture_output=True, text=True, check=True)
    assert [int(line) for line in done.stdout.split()] == image.words.tolist()
