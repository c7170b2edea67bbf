"""What a plan accepts and refuses, and what it reports."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from slt_infer import _core, models, reference
from slt_infer.errors import SltError, TicketError
from slt_infer.runtime import Plan, accumulations
from slt_infer.runtime.schedule import Schedule, schedule
from slt_infer.ticket import Add, Conv2d, Flatten, Freeze, LayerShape, Linear, Network, Node, Relu

from .tickets import images, one_conv, one_linear, random_ticket

NETWORK = one_conv(3, 5)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"backend": "gpu"}, "unknown-backend"),
        ({"mode": "fast"}, "unknown-mode"),
        ({"threads": 0}, "bad-threads"),
        ({"threads": 2000}, "bad-threads"),
        ({"isa": "mmx"}, "unknown-isa"),
        ({"dtype": "int4"}, "unknown-dtype"),
        ({"dtype": "int8"}, "not-quantised"),
        ({"max_memory": 100}, "memory"),
        ({"max_memory": 100, "backend": "reference"}, "memory"),
    ],
)
def test_options_are_refused(options: dict[str, object], code: str) -> None:
    with pytest.raises(SltError) as caught:
        Plan(random_ticket(NETWORK), **options)  # type: ignore[arg-type]
    assert caught.value.code == code


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 3, 7, 5), np.float32),
        np.zeros((3, 7, 6), np.float32),
        np.zeros((1, 3, 7, 6), np.float64),
        np.zeros((1, 3, 7, 6), np.uint8),
        [[0.0]],
        None,
    ],
)
def test_inputs_are_refused(x: object, backend: str) -> None:
    with pytest.raises(SltError) as caught:
        Plan(random_ticket(NETWORK), backend=backend)(x)  # type: ignore[arg-type]
    assert caught.value.code == "bad-input"


def test_images_beyond_32_bits_of_address_are_refused() -> None:
    ticket = random_ticket(one_conv(2**18, 1, (1, 1), (1, 1), padding=64))
    with pytest.raises(SltError) as caught:
        Plan(ticket, max_memory=2**60)
    assert caught.value.code == "memory"


def test_a_broken_graph_is_refused() -> None:
    ticket = random_ticket(NETWORK)
    broken = Network("x", NETWORK.input, NETWORK.layers, (Conv2d(0, 0), Add(1, 0), Flatten(2)))
    object.__setattr__(ticket, "network", broken)
    with pytest.raises(TicketError):
        Plan(ticket)


def test_memory_is_bounded_for_any_batch() -> None:
    ticket, x = random_ticket(NETWORK), images(NETWORK, 200)
    needed = 4 * schedule(NETWORK).arena + 200_000
    net = Plan(ticket, max_memory=needed)
    np.testing.assert_array_equal(net(x), Plan(ticket)(x))


def test_strided_images() -> None:
    ticket, x = random_ticket(NETWORK), images(NETWORK, 6)
    net = Plan(ticket)
    np.testing.assert_array_equal(net(x[::2]), net(np.ascontiguousarray(x[::2])))
    mirrored = np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(net(mirrored), net(x))


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch", reason="tensors are what is tested")
    ticket, x = random_ticket(NETWORK), images(NETWORK, 2)
    for backend in ("cpu", "reference"):
        net = Plan(ticket, backend=backend)  # type: ignore[arg-type]
        logits = net(torch.from_numpy(x))
        assert isinstance(logits, torch.Tensor)
        np.testing.assert_array_equal(logits.numpy(), net(x))
        with pytest.raises(SltError, match="CPU"):
            net(torch.zeros((1, 3, 7, 6), device="meta"))
        with pytest.raises(SltError, match="float64"):
            net(torch.zeros((1, 3, 7, 6), dtype=torch.float64))


def test_backends_agree_and_say_what_they_are() -> None:
    ticket, x = random_ticket(NETWORK), images(NETWORK, 2)
    cpu, slow = Plan(ticket), Plan(ticket, backend="reference")
    np.testing.assert_array_equal(cpu(x), slow(x))
    assert slow.isa == "numpy"
    assert cpu.isa == _core.machine()["isa"]
    assert [r.name for r in cpu.layers] == [r.name for r in slow.layers] == ["conv"]


def test_relu_is_fused_where_nobody_else_reads() -> None:
    layers = (LayerShape("a", 3, 3), LayerShape("b", 3, 3))
    nodes = (Conv2d(0, 0), Relu(1), Conv2d(2, 1), Relu(3), Add(3, 4), Relu(5), Flatten(6))
    steps = schedule(Network("x", (3, 2, 2), layers, nodes)).steps
    assert [(type(s.node).__name__, s.relu) for s in steps] == [
        ("Conv2d", True),
        ("Conv2d", False),
        ("Relu", False),
        ("Add", True),
        ("Flatten", False),
    ]


def flat_network(nodes: tuple[Node, ...], features: int = 6) -> Network:
    """All layers are square, so every flat value has the same shape."""
    count = sum(isinstance(node, Linear) for node in nodes)
    layers = tuple(LayerShape(f"l{i}", features, features, affine=i % 2 == 0) for i in range(count))
    return Network("flat", (features, 1, 1), layers, nodes)


def random_nodes(seed: int) -> tuple[Node, ...]:
    """Every node reads any values before it: some are read often, some never."""
    choose = random.Random(seed)
    nodes: list[Node] = [Flatten(0), Linear(1, 0)]
    layers = 1
    for number in range(2, choose.randint(4, 24)):
        value = choose.randint(max(1, number - choose.choice((0, 1, 3, 20))), number)
        kind = choose.choice(("relu", "relu", "add", "linear", "flatten"))
        if kind == "linear":
            nodes.append(Linear(value, layers))
            layers += 1
        elif kind == "add":
            nodes.append(Add(value, choose.randint(1, number)))
        else:
            nodes.append(Relu(value) if kind == "relu" else Flatten(value))
    if seed % 2:  # a last relu that may be part of a step far before it
        sums = [i + 1 for i, node in enumerate(nodes) if isinstance(node, Linear | Add)]
        nodes.append(Relu(choose.choice(sums)))
    return tuple(nodes)


def assert_like_the_reference(network: Network) -> None:
    ticket, x = random_ticket(network), images(network, 3)
    wanted = Plan(ticket, backend="reference")(x)
    for mode in ("stream", "resident"):
        np.testing.assert_array_equal(Plan(ticket, mode=mode)(x), wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "nodes",
    [
        (Flatten(0), Linear(1, 0), Relu(2), Relu(2)),
        (Flatten(0), Linear(1, 0), Relu(1), Relu(2)),  # between the last relu and what it is part of
        (Flatten(0), Linear(1, 0), Linear(1, 1), Relu(2)),
        (Flatten(0), Linear(1, 0), Relu(1), Flatten(3), Add(3, 4), Relu(2)),
        (Flatten(0), Add(1, 1), Linear(1, 0), Relu(3), Relu(2)),
        (Relu(0), Flatten(0), Linear(2, 0), Relu(3)),  # the first one
        (Flatten(0), Linear(1, 0), Flatten(0)),  # all but the last one
        (Flatten(0), Linear(1, 0), Relu(2), Relu(3), Relu(1)),
    ],
)
def test_nodes_that_nobody_reads(nodes: tuple[Node, ...]) -> None:
    assert_like_the_reference(flat_network(nodes))


def test_nodes_that_nobody_reads_of_another_shape() -> None:
    layers = (LayerShape("a", 4, 6), LayerShape("b", 40, 6))
    nodes: tuple[Node, ...] = (Flatten(0), Linear(1, 0), Linear(1, 1), Relu(3), Relu(1), Relu(2))
    network = Network("shapes", (6, 1, 1), layers, nodes)
    assert_like_the_reference(network)
    assert [step.output for step in schedule(network).steps] == [1, 6]


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs(seed: int) -> None:
    network = flat_network(random_nodes(seed))
    assert_like_the_reference(network)
    assert_places_are_apart(schedule(network))


def assert_places_are_apart(plan: Schedule) -> None:
    """No step writes over the image, or what an earlier step made, that is still to be read."""
    root, last, born = {0: 0}, {}, {0: -1}
    for i, step in enumerate(plan.steps):
        root[step.output] = root[step.inputs[0]] if isinstance(step.node, Flatten) else step.output
        born.setdefault(root[step.output], i)
        last.update({root[value]: i for value in step.inputs})
    last[root[len(plan.shapes) - 1]] = len(plan.steps)
    assert set(plan.place) == set(root)
    for a, b in itertools.combinations(last, 2):
        (begin, end), (other, other_end) = (
            (plan.place[v], plan.place[v] + math.prod(plan.shapes[v])) for v in (a, b)
        )
        assert max(end, other_end) <= plan.arena
        if born[a] <= last[b] and born[b] <= last[a]:
            assert end <= other or other_end <= begin


def test_thousands_of_values_at_once() -> None:
    count = 8000
    relus = (Relu(1),) * count
    adds = tuple(Add(count + i + 1 if i else 2, i + 3) for i in range(count - 1))
    network = flat_network((Flatten(0), *relus, *adds, Linear(2 * count, 0)))
    plan = schedule(network)
    assert plan.arena == 16 * (count + 1)


def test_the_arena_reuses_what_is_dead() -> None:
    """A long chain lives in two places; values that are read later keep theirs."""
    chain = tuple(LayerShape(str(i), 4, 4) for i in range(10))
    nodes = (*(Conv2d(i, i) for i in range(10)), Flatten(10))
    plan = schedule(Network("chain", (4, 4, 4), chain, nodes))
    assert plan.arena == 2 * 64
    kept = schedule(
        Network("kept", (4, 4, 4), chain, (*(Conv2d(i, i) for i in range(10)), Add(10, 0), Flatten(11)))
    )
    assert kept.arena == 3 * 64
    for places in (plan.place, kept.place):
        assert all(place % 16 == 0 for place in places.values())


def test_kernels_by_operator_density_and_mode() -> None:
    conv, linear = one_conv(64, 32, (3, 3), (8, 8)), one_linear(500, 20)
    depthwise, long = one_conv(9, 9, (5, 5), groups=9), one_conv(2, 2, (3, 43), (3, 43), groups=2)
    for network, density, mode, kernel in (
        (depthwise, 0.0, "stream", "taps"),
        (depthwise, 0.0, "resident", "taps"),
        (depthwise, 0.5, "resident", "taps"),
        (long, 0.0, "stream", "lists of a row group"),
        (conv, 0.0, "stream", "lists of a row group"),
        (conv, 0.0, "resident", "lists"),
        (conv, 0.5, "resident", "planes, lists of a row group"),
        (linear, 0.0, "stream", "masked lanes"),
        (linear, 0.5, "resident", "masked lanes"),
    ):
        freeze = Freeze(4, 3, 1 if density == 0.0 else 2)
        report = Plan(random_ticket(network, density=density, freeze=freeze), mode=mode).layers[0]  # type: ignore[arg-type]
        assert report.kernel == kernel
        assert (report.density <= 1 / 5) == (density == 0.0)


def test_accumulations_give_every_layer_its_affine() -> None:
    """Affines found on the way are those of the plan that then has them."""
    layers = (LayerShape("a", 6, 3, (3, 3), affine=True), LayerShape("b", 4, 6 * 5 * 4, affine=True))
    nodes = (Conv2d(0, 0, 1, 1), Relu(1), Flatten(2), Linear(3, 1))
    ticket = random_ticket(Network("two", (3, 5, 4), layers, nodes))
    x, seen = images(ticket.network, 4), []

    def on_layer(i: int, sums: np.ndarray) -> np.ndarray:
        seen.append((i, sums.shape))
        axes = (0, *range(2, sums.ndim))
        scale = 1 / np.sqrt(sums.var(axis=axes) + 1e-5)
        affine = np.stack([scale, -sums.mean(axis=axes) * scale]).astype(np.float32)
        object.__setattr__(ticket.layers[i], "affine", affine)
        return affine

    logits = accumulations(ticket, x, on_layer)
    assert seen == [(0, (4, 6, 5, 4)), (1, (4, 4))]
    np.testing.assert_array_equal(logits, Plan(ticket)(x))
    np.testing.assert_array_equal(logits, reference.run(ticket, x))
    assert abs(float(logits.mean())) < 1e-6


def test_wants_a_loaded_ticket() -> None:
    with pytest.raises(SltError, match=r"Plan\(load\(path\)\)") as caught:
        Plan("net.slt")
    assert caught.value.code == "bad-ticket"


def test_short_in_an_interactive_session() -> None:
    ticket = random_ticket(models.network("conv2@0.1", (1, 8, 8), 10))
    assert repr(ticket).startswith("<Ticket conv2@0.1, ")
    assert repr(Plan(ticket)).startswith("<Plan conv2@0.1, input [1, 8, 8], f32, resident on cpu (")
    assert max(len(repr(ticket)), len(repr(Plan(ticket)))) < 200
