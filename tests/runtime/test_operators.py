"""The cpu backend gives the reference's bits: every operator, ISA, mode and way to batch images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from slt_infer import _core, reference
from slt_infer.errors import TicketError
from slt_infer.runtime import Plan
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Freeze,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    MaxPool2d,
    Network,
    Relu,
    Source,
    Ticket,
)

from .tickets import SHAPES, images, one_conv, one_linear, random_ticket

ISAS = _core.machine()["isas"]
CONVOLUTIONS = SHAPES | {
    "half a block": one_conv(64, 66, (3, 3), (4, 4)),
    "blocks and a rest": one_conv(33, 70, (3, 3), (4, 4)),
    "no affine": one_conv(affine=False),
}


def assert_same(ticket: Ticket, x: np.ndarray, **options: object) -> None:
    expected = reference.run(ticket, x)
    actual = Plan(ticket, **options)(x)  # type: ignore[arg-type]
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("mode", ["stream", "resident"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv2d(name: str, isa: str, mode: str) -> None:
    network = CONVOLUTIONS[name]
    for seed, density in ((1, 0.05), (2, 0.6), (3, 1.0)):
        ticket = random_ticket(network, seed, density)
        assert_same(ticket, images(network, 2, seed), isa=isa, mode=mode)


@pytest.mark.parametrize("mode", ["stream", "resident"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("features", "out"), [(1, 1), (15, 3), (16, 4), (17, 5), (127, 9), (128, 2), (129, 4), (784, 30)]
)
def test_linear(features: int, out: int, isa: str, mode: str) -> None:
    network = one_linear(features, out, affine=out % 2 == 0)
    for seed, density in ((1, 0.1), (2, 0.9)):
        ticket = random_ticket(network, seed, density)
        assert_same(ticket, images(network, 3, seed), isa=isa, mode=mode)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "pool",
    [
        MaxPool2d(0, 2, 2),
        MaxPool2d(0, 3, 2, 1),
        MaxPool2d(0, 5, 3, 2),
        MaxPool2d(0, 1, 2),
        AvgPool2d(0, 2, 2),
        AvgPool2d(0, 3, 1, 1),
        AvgPool2d(0, 4, 3, 2),
        AvgPool2d(0, 3, 5),
        Relu(0),
        Add(0, 0),
    ],
)
def test_operator_on_images(pool: MaxPool2d | AvgPool2d | Relu | Add, isa: str) -> None:
    size = (3, 11, 9)
    shape = Network("part", size, (), (pool, Flatten(1))).shapes()[1]
    layer = LayerShape("linear", 4, int(np.prod(shape)))
    network = Network("pool", size, (layer,), (pool, Flatten(1), Linear(2, 0)))
    assert_same(random_ticket(network), images(network, 3), isa=isa)


def residual() -> Network:
    """Every operator, with values that are read twice, a relu that cannot be fused, and an unused one."""
    layers = (
        LayerShape("first", 8, 3, (3, 3), affine=True),
        LayerShape("second", 8, 8, (3, 3), affine=True),
        LayerShape("third", 8, 4, (1, 1), groups=2, affine=True),
        LayerShape("last", 10, 8),
    )
    nodes = (
        Conv2d(0, 0, 1, 1),  # 1
        Relu(1),  # 2: fused
        Conv2d(2, 1, 1, 1),  # 3: read by relu and add
        Relu(3),  # 4: not fused
        Conv2d(4, 2),  # 5
        Add(5, 3),  # 6
        Relu(6),  # 7: fused into add
        Relu(7),  # 8: once more
        Add(8, 2),  # 9
        MaxPool2d(9, 3, 2, 1),  # 10
        AvgPool2d(10, 2, 1),  # 11
        Relu(0),  # 12: nobody reads it
        GlobalAvgPool2d(11),  # 13
        Flatten(13),  # 14: flat already
        Linear(14, 3),  # 15
        Relu(15),  # 16: fused, and the output
    )
    return Network("residual", (3, 12, 10), layers, nodes)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("mode", ["stream", "resident"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_graph(mode: str, isa: str, threads: int) -> None:
    network = residual()
    for density in (0.05, 0.5):
        assert_same(
            random_ticket(network, density=density), images(network, 3), mode=mode, isa=isa, threads=threads
        )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mode", ["stream", "resident"])
def test_results_do_not_depend_on_the_batch(mode: str, threads: int) -> None:
    ticket = random_ticket(residual())
    x = images(ticket.network, 37)
    net = Plan(ticket, mode=mode, threads=threads)  # type: ignore[arg-type]
    whole = net(x)
    for size in (1, 2, 5, 36):
        parts = np.concatenate([net(x[i : i + size]) for i in range(0, 37, size)])
        assert parts.tobytes() == whole.tobytes()
    assert net(x[:0]).shape == (0, 10)


def test_passes_do_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = random_ticket(residual())
    x = images(ticket.network, 7)
    whole = Plan(ticket)(x)
    monkeypatch.setattr("slt_infer.runtime.cpu.ARENA_BYTES", 60_000)
    net = Plan(ticket)
    assert net._runner.images_at_once < 7  # type: ignore[attr-defined]
    assert net(x).tobytes() == whole.tobytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_convolution(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.integers(1, 4))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    padding = draw(st.integers(0, 3))
    size = tuple(draw(st.integers(max(1, k - 2 * padding), 19)) for k in kernel)
    network = one_conv(
        groups * draw(st.integers(1, 40)),
        groups * draw(st.integers(1, 9)),
        kernel,
        (size[0], size[1]),
        draw(st.integers(1, 4)),
        padding,
        groups,
        draw(st.booleans()),
    )
    source = Source(
        draw(st.sampled_from(["philox4x32", "threefry4x32"])), seed=draw(st.integers(0, 2**64 - 1))
    )
    source = Source(source.generator, 10 if source.generator == "philox4x32" else 20, source.seed)
    freeze = draw(st.sampled_from([Freeze(), Freeze(2, 3, 0), Freeze(4, 3, 2), Freeze(1, 0, 1)]))
    try:
        ticket = random_ticket(network, draw(st.integers(0, 99)), draw(st.floats(0, 1)), freeze, source)
    except TicketError:  # a few weights may all be pruned
        reject()
    assert_same(
        ticket,
        images(network, draw(st.integers(1, 4))),
        isa=draw(st.sampled_from(ISAS)),
        mode=draw(st.sampled_from(["stream", "resident"])),
        threads=draw(st.integers(1, 2)),
    )


@settings(max_examples=30, deadline=None)
@given(
    features=st.integers(1, 700),
    out=st.integers(1, 20),
    n=st.integers(1, 4),
    seed=st.integers(0, 99),
    isa=st.sampled_from(ISAS),
)
def test_any_linear(features: int, out: int, n: int, seed: int, isa: str) -> None:
    network = one_linear(features, out)
    assert_same(random_ticket(network, seed, seed / 99), images(network, n), isa=isa, threads=1 + n % 2)
