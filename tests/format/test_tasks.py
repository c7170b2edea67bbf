"""Several tasks, coats, flips and shared layers: the file holds what a plain NumPy construction says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slt_infer import Plan, reference
from slt_infer.codec import coded_layer, masks, pattern_counts, with_affine
from slt_infer.errors import SltError, TicketError
from slt_infer.format import dumps, load, loads, parts, save
from slt_infer.report import ticket_report
from slt_infer.ticket import (
    Add,
    Conv2d,
    Flatten,
    Freeze,
    Layer,
    LayerShape,
    Linear,
    Network,
    Relu,
    Source,
    Ticket,
    pack_bits,
)

SOURCE = Source("threefry4x32", 13, 99)
FREEZES = [Freeze(2, 1, 1), Freeze(1, 1, 0)]
NETWORK = Network(
    "many",
    (3, 6, 6),
    (
        LayerShape("conv", 3, 3, (3, 3), affine=True),
        LayerShape("again", 3, 3, (3, 3), affine=True),
        LayerShape("head", 40, 108),
    ),
    (Conv2d(0, 0, 1, 1), Relu(1), Conv2d(2, 1, 1, 1), Add(2, 3), Flatten(4), Linear(5, 2)),
)
OWN = NETWORK.layers[0], NETWORK.layers[2]  # the layers that are not shared
IDS = 0, 2


def chosen(seed: int, coats: int, flips: bool) -> list[dict[str, object]]:
    """Per layer of OWN random nested coats and flips, booleans [free]."""
    numbers = np.random.default_rng(seed)
    network = Network("", NETWORK.input, OWN, ())
    made = []
    for shape, freeze, i in zip(OWN, FREEZES, IDS, strict=True):
        free = masks.pattern(SOURCE, shape, i, freeze).counts()[2]
        every = [numbers.random(free) < 0.6]
        for _ in range(coats - 1):
            every.append(every[-1] & (numbers.random(free) < 0.5))
        its = every[0] & (numbers.random(free) < 0.3) if flips else None
        made.append({"mask": every[0], "coats": every[1:], "flips": its})
    del network
    return made


def task_of(content: list[dict[str, object]], seed: int) -> tuple[Layer, ...]:
    numbers = np.random.default_rng(seed)
    conv, head = (
        coded_layer(SOURCE, shape, i, freeze, pack_bits(of["mask"]), coats=of["coats"], flips=of["flips"])
        for shape, i, freeze, of in zip(OWN, IDS, FREEZES, content, strict=True)
    )
    affines = numbers.uniform(0.5, 1.5, (2, 2, 3)).astype(np.float32)
    again = replace(conv, shape=NETWORK.layers[1])
    return with_affine(conv, affines[0]), with_affine(again, affines[1]), head


CONTENT = [chosen(1, 3, True), chosen(2, 1, False), chosen(3, 2, False)]


@pytest.fixture(scope="module")
def ticket() -> Ticket:
    first, *others = (task_of(content, 7 + i) for i, content in enumerate(CONTENT))
    return Ticket(NETWORK, SOURCE, first, others=tuple(others))


def plain_weights(layer: int, of: dict[str, object]) -> np.ndarray:
    """float64 [out, K]: the weights by docs/format.md, sections 2 to 4, from the masks that were chosen."""
    shape, freeze = OWN[layer], FREEZES[layer]
    pattern = reference.pattern(SOURCE, IDS[layer], shape, freeze)
    number = np.where(pattern == 1, 1 + len(of["coats"]), 0)
    number[pattern == 0] = of["mask"].astype(int) + sum(coat.astype(int) for coat in of["coats"])
    minus = reference.negative(SOURCE, IDS[layer], shape)
    if of["flips"] is not None:
        minus[pattern == 0] ^= of["flips"]
    c = np.float32(np.sqrt(2 / shape.fan_in) / np.sqrt((number > 0).sum() / shape.weights))
    return np.where(minus, -1.0, 1.0) * number * float(c)


def test_the_file_gives_back_every_task(ticket, tmp_path):
    path = tmp_path / "many.slt"
    save(ticket, path)
    read = load(path)
    assert dumps(read) == path.read_bytes()
    assert len(read.tasks) == 3
    for task, content in zip(read.tasks, CONTENT, strict=True):
        for i, place in enumerate((0, 2)):
            found = reference.weights(SOURCE, task[place])
            np.testing.assert_array_equal(found, plain_weights(i, content[i]).astype(np.float32))
        np.testing.assert_array_equal(reference.weights(SOURCE, task[1]), reference.weights(SOURCE, task[0]))
    for task, before in zip(read.tasks, ticket.tasks, strict=True):
        for layer, other in zip(task, before, strict=True):
            assert (layer.affine is None) == (other.affine is None)
            assert layer.affine is None or np.array_equal(layer.affine, other.affine)


def test_the_reference_reads_the_same_streams(ticket):
    content = reference.read(dumps(ticket))
    assert [len(layer) for layer in content["streams"]] == [3, 0, 3]
    for layer, i in ((0, 0), (2, 1)):
        for found, of in zip(content["streams"][layer], CONTENT, strict=True):
            every, flips = [of[i]["mask"], *of[i]["coats"]], of[i]["flips"]
            outers = [np.ones_like(every[0]), *every]
            wanted = [bits[outer] for bits, outer in zip(every, outers, strict=False)]
            wanted += [] if flips is None else [flips[every[0]]]
            assert [list(map(bool, bits)) for bits in found] == [bits.tolist() for bits in wanted]


@pytest.mark.parametrize("task", [0, 1, 2])
def test_the_reference_runs_what_numpy_gives(ticket, task):
    """Within rounding: NumPy's products are in float64."""
    one = loads(dumps(ticket)).task(task)
    images = np.random.default_rng(5).normal(size=(2, *NETWORK.input)).astype(np.float32)
    conv, head = (plain_weights(i, CONTENT[task][i]) for i in range(2))
    constant = float(one.layers[0].constant)

    def convolved(x: np.ndarray, layer: Layer) -> np.ndarray:
        windows = reference.columns(x, (3, 3), 1, 1)
        taps = windows.transpose(0, 1, 2, 3, 4, 5).reshape(len(x), 27, 36)
        sums = (conv / constant) @ taps
        scale, shift = layer.affine.astype(np.float64)
        return (sums * scale[:, None] + shift[:, None]).reshape(len(x), 3, 6, 6)

    first = convolved(images, one.layers[0])
    second = convolved(np.maximum(first, 0), one.layers[1])
    wanted = (np.maximum(first, 0) + second).reshape(2, -1) @ head.T
    found = Plan(one, backend="reference")(images)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_cpu_backend_runs_a_task_of_shared_layers_and_refuses_coats(ticket):
    images = np.random.default_rng(6).normal(size=(3, *NETWORK.input)).astype(np.float32)
    plain = loads(dumps(ticket)).task(1)
    for mode in ("stream", "resident"):
        assert np.array_equal(Plan(plain, mode=mode)(images), Plan(plain, backend="reference")(images))
    for task in (0, 2):
        with pytest.raises(SltError, match='backend="reference"') as refusal:
            Plan(ticket.task(task))
        assert refusal.value.code == "unsupported"


def test_flips_alone_are_refused_by_the_cpu_backend(ticket):
    layer = ticket.layers[2]
    flipped = replace(layer, coats=())
    with pytest.raises(SltError) as refusal:
        Plan(replace(ticket, layers=(*ticket.task(1).layers[:2], flipped), others=()))
    assert refusal.value.code == "unsupported"


def test_weights_are_counted_once_and_bytes_wholly(ticket):
    assert ticket.weights == 81 + 40 * 108 == NETWORK.weights - 81
    assert ticket.kept == ticket.layers[0].kept + ticket.layers[2].kept
    assert ticket.distinct == (ticket.layers[0], ticket.layers[2])
    by_part = parts(ticket)
    assert by_part.total == len(dumps(ticket))
    assert by_part.flips > 0
    assert by_part.affine == 2 * (3 * 8 * 3 + 4)
    report = ticket_report(ticket)
    assert report["weights"] == ticket.weights
    assert report["kept"] == ticket.kept
    assert report["file_bytes"] == by_part.total
    assert report["prune"] * ticket.weights == pytest.approx(sum(ticket.layers[i].pruned for i in (0, 2)))
    assert report["lock"] * ticket.weights == pytest.approx(sum(ticket.layers[i].locked for i in (0, 2)))
    assert report["layers"][0]["mask_bits"] == 8 * sum(len(of.payload) for of in ticket.layers[0].streams)


def test_a_task_that_is_not_there(ticket):
    for index in (-1, 3):
        with pytest.raises(TicketError) as refusal:
            ticket.task(index)
        assert refusal.value.code == "bad-task"
    assert ticket.task(0).others == ()
    assert ticket.task(2).layers is ticket.others[1]


def test_the_first_mask_can_be_const_and_its_coats_tiled():
    """Tiles are then counted by the pattern in rows that the const mask does not have."""
    shape, source = LayerShape("f", 700, 900), Source()
    free = shape.weights
    numbers = np.random.default_rng(8)
    second = numbers.random(free) < 0.25
    third = second & (numbers.random(free) < 0.5)
    every = pack_bits(np.ones(free, dtype=bool))
    layer = coded_layer(source, shape, 0, Freeze(), every, coats=[second, third])
    assert [code.mode for code in layer.streams] == ["const", "static", "raw"]
    assert len(layer.coats[0].free) > 1
    network = Network("n", (900, 1, 1), (shape,), (Flatten(0), Linear(1, 0)))
    read = loads(dumps(Ticket(network, source, (layer,)))).layers[0]
    number = reference.coats(source, read).ravel()
    assert np.array_equal(number, 1 + second.astype(int) + third)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t: replace(t, others=(t.others[0][:2],)), "bad-value"),
        (lambda t: replace(t, others=((t.others[0][0], *t.others[0][::-1][:2]),)), "bad-value"),
        (lambda t: replace(t, layers=(t.layers[0], replace(t.layers[1], kept=80), t.layers[2])), "bad-value"),
        (
            lambda t: replace(t, layers=(t.layers[0], replace(t.layers[1], coats=()), t.layers[2])),
            "bad-value",
        ),
        (
            lambda t: replace(t, layers=(t.layers[0], replace(t.layers[1], flips=None), t.layers[2])),
            "bad-value",
        ),
        (lambda t: replace(t, layers=(*t.layers[:2], replace(t.layers[2], id=0))), "bad-value"),
        (
            lambda t: replace(t, layers=(*t.layers[:2], replace(t.layers[2], flips=t.layers[0].flips))),
            "bad-value",
        ),
        (
            lambda t: replace(t, layers=(*t.layers[:2], replace(t.layers[2], coats=t.layers[2].coats[::-1]))),
            "bad-mask",
        ),
        (lambda t: replace(t, others=t.others * 128), "bad-header"),
    ],
)
def test_tickets_that_do_not_fit_together_are_not_written(ticket, change, code):
    with pytest.raises(TicketError) as refusal:
        dumps(change(ticket))
    assert refusal.value.code == code


def test_coats_that_are_not_nested_are_refused():
    shape = LayerShape("f", 3, 5)
    mask, outside = np.arange(15) % 2 == 0, np.arange(15) % 2 == 1
    for given in (
        {"coats": [outside]},
        {"flips": outside},
        {"coats": [mask, np.ones(15, bool)]},
        {"coats": [mask[1:]]},
    ):
        with pytest.raises(TicketError) as refusal:
            coded_layer(SOURCE, shape, 0, Freeze(), pack_bits(mask), **given)
        assert refusal.value.code == "bad-mask"


def test_pattern_counts_are_those_of_the_shared_matrix(ticket):
    counts = pattern_counts(Network("", NETWORK.input, OWN[:1], ()), SOURCE, FREEZES[:1])[0]
    assert (ticket.layers[1].pruned, ticket.layers[1].locked, ticket.layers[1].free) == counts
