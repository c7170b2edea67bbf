"""Images for chips: the reader that was written from docs/target.md alone finds the ticket in its words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from slt_infer import Ticket, models
from slt_infer.codec import core_layer
from slt_infer.errors import SltError
from slt_infer.format import loads
from slt_infer.format.target import rtl_image, save_image
from slt_infer.reference_int8 import values_int8
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Network, Source

from ..hostile import sound
from ..runtime.quantised import ends, every_operator, quantised
from . import target
from .refused import Refused

VECTORS = Path(__file__).parents[1] / "vectors" / "version-1"
THREEFRY = ("int8-pow2-threefry-20", "modes-mixed-threefry-13", "modes-threefry-20")
ENDS = ends()


def parsed(ticket: Ticket) -> target.Image:
    return target.parse(rtl_image(ticket).words.tobytes())


def check_weights(ticket: Ticket) -> target.Image:
    """Every weight of every layer, from the words alone."""
    image = parsed(ticket)
    source = ticket.source
    assert image.source._seed == source.seed
    found = {step.fields["value"]: step for step in image.steps if step.has_weights}
    assert len(found) == len(ticket.layers)
    for step, layer in zip(found.values(), ticket.layers, strict=True):
        its = target.layer_of(image, step)
        kept, minus = core_layer(source, layer.shape, layer.id, layer.freeze, layer.code).rows(
            0, layer.shape.out
        )
        for mine, theirs in ((its.kept, kept), (its.negative, minus)):
            assert mine == [int.from_bytes(row.tobytes(), "little") for row in theirs]
        assert its.mask == int.from_bytes(layer.mask.tobytes(), "little")
    return image


def check_numbers(ticket: Ticket) -> None:
    """Every value of an image of noise, in int8 from the words alone."""
    image, shape = parsed(ticket), ticket.network.input
    x = np.random.default_rng(1).standard_normal((1, *shape), dtype=np.float32)
    values = values_int8(ticket, x)
    given = target.run(image, target.quantised(image, x.ravel().tolist()))
    last = len(ticket.network.nodes)
    assert list(given)[-1] == last
    for value, numbers in given.items():
        array = np.asarray(values[value])[0]
        want = array.reshape(array.shape + (1,) * (3 - array.ndim))
        assert {place: int(want[place]) for place in numbers} == numbers
        assert len(numbers) == want.size
    assert image.header["values"] == last + 1
    rounded = [step.fields["value"] == last and step.roundings != [] for step in image.steps]
    assert all(rounds or not step.fields["wide"] for step, rounds in zip(image.steps, rounded, strict=True))


@pytest.mark.parametrize("name", THREEFRY)
def test_files_of_every_mode(name: str) -> None:
    check_weights(loads((VECTORS / f"{name}.slt").read_bytes()))


@pytest.mark.parametrize("law", ["bernoulli", "mixed"])
@pytest.mark.parametrize("rounds", [12, 13, 20])
def test_coded_and_raw_tiles_under_densities_and_priors(rounds: int, law: str) -> None:
    image = check_weights(loads(sound.base("threefry4x32", rounds, law).build()))
    assert {step.fields["mode"] for step in image.steps if step.has_weights} == {0, 1, 2, 3}
    assert {tile.raw for step in image.steps for tile in step.tiles} == {False, True}
    assert not image.header["int8"]


@pytest.mark.parametrize("pow2", [False, True])
@pytest.mark.parametrize("end", [17, 18, 19])
def test_int8_with_shared_layers(end: int, pow2: bool) -> None:
    ticket = loads(sound.quantised(pow2, end, generator="threefry4x32", rounds=13).build())
    image = check_weights(ticket)
    check_numbers(ticket)
    assert (image.header["int8"], image.header["pow2"]) == (1, pow2)
    every = [m for step in image.steps for m in (step.fields["m_r"], *(m for m, _ in step.roundings))]
    assert not pow2 or all(abs(m).bit_count() <= 1 for m in every)


def int8_ticket(network: Network, pow2: bool = False) -> Ticket:
    source = Source.named("threefry4x32-13", 2**64 - 5, "mixed")
    ticket = synthetic_ticket(network, source, 0.4, 0.2, 0.1, "uniform", 8)
    x = np.random.default_rng(2).standard_normal((4, *network.input), dtype=np.float32)
    return quantised(ticket, x, pow2)


@pytest.mark.parametrize("pow2", [False, True])
def test_every_operator_in_every_place(pow2: bool) -> None:
    check_numbers(int8_ticket(every_operator(), pow2))


@pytest.mark.parametrize("name", ENDS)
def test_logits_of_every_operator(name: str) -> None:
    check_numbers(int8_ticket(ENDS[name]))


@pytest.mark.parametrize("planes", [0, 3])
def test_masks_of_many_lanes(planes: int) -> None:
    image = check_weights(loads(sound.wide(planes).build()))
    assert [step.fields["lanes"] for step in image.steps] == [0, 32]


def test_a_resnet_is_one_step_a_layer() -> None:
    """Adds and relus are parts of the layers' steps; residuals are values that some step gives."""
    network = models.network("resnet18-cifar@0.05")
    image = parsed(synthetic_ticket(network, Source.named("threefry4x32", 1), 0.8, 0.5, 0.1, "uniform", 8))
    given = {0} | {step.fields["value"] for step in image.steps}
    residuals = [
        step.fields["residual"] for step in image.steps if step.fields["residual"] != target.NO_VALUE
    ]
    assert [step.operator for step in image.steps if not step.has_weights] == ["global_avg_pool2d"]
    assert len(image.steps) == len(network.layers) + 1
    assert len(residuals) == 8
    assert set(residuals) < given


def test_a_reader_refuses_damage() -> None:
    data = rtl_image(loads((VECTORS / f"{THREEFRY[0]}.slt").read_bytes())).words.tobytes()
    for at in range(0, len(data), 61):
        with pytest.raises(Refused):
            target.parse(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_hex_has_the_words_of_the_binary(tmp_path: Path) -> None:
    image = rtl_image(loads((VECTORS / f"{THREEFRY[0]}.slt").read_bytes()))
    sizes = [save_image(image, tmp_path / f"net.{form}", form) for form in ("bin", "hex")]
    binary, text = (tmp_path / "net.bin").read_bytes(), (tmp_path / "net.hex").read_text("ascii")
    assert sizes == [len(binary), len(text)]
    lines = text.split("\n")
    assert lines.pop() == ""
    assert {len(line) for line in lines} == {8}
    assert text == text.lower()
    assert b"".join(int(line, 16).to_bytes(4, "little") for line in lines) == binary


def refusal(ticket: Ticket) -> tuple[str, str]:
    with pytest.raises(SltError) as caught:
        rtl_image(ticket)
    return caught.value.code, caught.value.where


def test_what_the_units_lack_is_refused() -> None:
    assert refusal(loads(sound.base().build())) == ("unsupported", "source")
    tasks = loads(sound.rich("threefry4x32", 13).build())
    assert refusal(tasks) == ("unsupported", "tasks")
    assert refusal(tasks.task(0)) == ("unsupported", "layer conv")
    assert refusal(tasks.task(1)) == ("unsupported", "layer conv")


def test_what_32_bits_do_not_hold_is_refused_before_it_is_made() -> None:
    ticket = loads(sound.quantised(generator="threefry4x32", rounds=13).build())

    def with_last(**changes: object) -> Ticket:
        *others, last = ticket.layers
        return replace(ticket, layers=(*others, replace(last, **changes)))

    shape = ticket.layers[-1].shape
    assert refusal(with_last(free=2**32)) == ("limit", f"layer {shape.name}")
    assert refusal(with_last(shape=msgspec.structs.replace(shape, out=2**31))) == ("limit", "image")
