"""The units of rtl/ fed from the words of an image (docs/target.md), not from a .slt file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from slt_infer.codec import core_layer
from slt_infer.format import loads
from slt_infer.format.target import rtl_image, save_image
from slt_infer.reference_int8 import values_int8
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Layer, Source, unpack_bits

from ..hostile import sound
from ..independent import int8, target
from ..runtime.quantised import quantised, small_resnets
from .benches import build, simulate
from .layers import Array, by_groups, memory

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


def test_a_whole_network_on_the_layer_unit() -> None:
    """Every layer by rtl/layer.sv from the words of its step and the values before it; what stands between
    layers as docs/target.md has it.
    """
    network = small_resnets()[0]
    source = Source.named("threefry4x32-13", 6, "mixed")
    x = np.random.default_rng(4).standard_normal((1, *network.input), dtype=np.float32)
    ticket = quantised(synthetic_ticket(network, source, 0.6, 0.3, 0.1, "uniform", 4), x)
    image = target.parse(rtl_image(ticket).words.tobytes())
    want, values = values_int8(ticket, x), {0: target.quantised(image, x.ravel().tolist())}
    for step in image.steps:
        give = by_layer if step.has_weights else target.given_by
        given = values[step.fields["value"]] = give(image, step, values)
        assert [n for _, n in sorted(given.items())] == want[step.fields["value"]].ravel().tolist()


def by_layer(image: target.Image, step: target.Step, values: dict[int, int8.Array]) -> int8.Array:
    """What a layer's step gives on rtl/layer.sv; its numbers in the order of the bench."""
    array, fields = Array(), step.fields

    def of(*names: str) -> list[int]:
        return [fields[name] for name in names]

    x = memory(as_array(values[fields["operand"]], of("channels", "height", "width")), array.columns)
    pitch = x.shape[1] // array.columns
    row_pitch, stride, padding = fields["width"] * pitch, fields["stride"], fields["padding"]
    pixels = fields["out_height"] * fields["out_width"]
    kernel = of("kernel_rows", "kernel_columns")
    whole = fields["channels"] % array.columns == 0 or kernel == [1, 1]
    has_residual = fields["residual"] != target.NO_VALUE
    given = [0, 1, array.columns, seed(image), image.header["rounds"], image.header["mixed"]]
    given += [*of("bits", "prune", "lock", "out", "columns"), whole, fields["channels"], *kernel]
    given += [stride, padding, *of("height", "width", "out_height", "out_width"), pixels]
    given += [-padding * (row_pitch + pitch) % 2**24, pitch, row_pitch, stride * pitch, stride * row_pitch]
    given += [fields["mode"] == target.CONST, *of("ones", "s", "m_r"), has_residual, *of("relu", "wide")]
    given += stream_numbers(step)
    given += [m % 2**16 for m, _ in step.roundings] + [b % 2**48 for _, b in step.roundings]
    given += [*tile_numbers(step), x.size // array.columns, *x.ravel()]
    shape = of("out", "out_height", "out_width")
    if has_residual:
        r = as_array(values[fields["residual"]], shape).reshape(-1, pixels)
        given += by_groups(r % 256, array.rows).tolist()
    refused, *y, _ = simulate(array.program(), map(int, given))
    assert refused == 0
    order = by_groups(np.arange(len(y)).reshape(-1, pixels), array.rows)
    places = list(np.ndindex(*shape))
    return {places[i]: number for i, number in zip(order, y, strict=True)}


def as_array(values: int8.Array, shape: list[int]) -> np.ndarray:
    return np.array([values[place] for place in np.ndindex(*shape)]).reshape(shape)
