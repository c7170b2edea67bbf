"""int8 plans of whole networks: the bits of the reference, whatever runs them; kernels, memory, refusals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slt_infer import _core, models
from slt_infer.codec import masks
from slt_infer.errors import SltError, TicketError
from slt_infer.quantise import scale_of
from slt_infer.reference_int8 import joined_values, run_int8, values_int8
from slt_infer.runtime import Plan, int8
from slt_infer.runtime.int8 import DOT, DOT_POSITIONS, WORDS
from slt_infer.runtime.layers import LIST_DENSITY
from slt_infer.runtime.schedule import schedule
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Add, Conv2d, Freeze, Linear, Network, Quantisation, Source, Ticket

from .quantised import ends, every_operator, quantised, small_resnets
from .test_plan import assert_places_are_apart, flat_network, random_nodes
from .tickets import images, one_conv, one_linear, random_ticket

ISAS: list[str] = _core.machine()["isas"]
ENDS = ends()
WAYS = [
    {"isa": isa, "mode": mode, "threads": threads, "multiplierless": multiplierless}
    for isa, mode, threads, multiplierless in itertools.product(
        ISAS, ("stream", "resident"), (1, 2), (False, True)
    )
]


@pytest.fixture(autouse=True)
def _dot_products_in_short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks would have none."""
    monkeypatch.setattr(int8, "DOT_POSITIONS", 1)


def int8_ticket(network: Network, density: float = 0.5, pow2: bool = False, **options: Any) -> Ticket:
    ticket = random_ticket(network, density=density, **options)
    return quantised(ticket, images(network, 6, seed=1), pow2)


def assert_all_vary(ticket: Ticket, x: np.ndarray) -> None:
    """No value is the same for all pixels or for all images, or at its limits in most places."""
    unrounded = joined_values(ticket.network).values()
    for value, q in enumerate(values_int8(ticket, x)):
        if value not in unrounded:
            assert len(np.unique(q)) >= 10, f"value {value}"
            assert np.ptp(q, axis=0).max() >= 4, f"value {value}"
            assert (np.abs(q) == 127).mean() < 0.5, f"value {value}"


def assert_like_the_reference(
    ticket: Ticket, x: np.ndarray, ways: list[dict[str, Any]] = WAYS
) -> set[tuple[str, str]]:
    """Gives the instruction sets and kernels that ran."""
    wanted, ran = run_int8(ticket, x), set()
    for way in ways:
        net = Plan(ticket, dtype="int8", **way)
        logits = net(x)
        assert logits.dtype == np.int32
        np.testing.assert_array_equal(logits, wanted, err_msg=str(way))
        ran.update((net.isa, layer.kernel) for layer in net.layers)
    return ran


@pytest.mark.parametrize("pow2", [False, True])
@pytest.mark.parametrize(("density", "freeze"), [(0.05, Freeze()), (0.4, Freeze(4, 3, 2)), (1.0, Freeze())])
def test_every_operator(density: float, freeze: Freeze, pow2: bool) -> None:
    ticket = int8_ticket(every_operator(), density, pow2, freeze=freeze)
    x = images(ticket.network, 3)
    assert_all_vary(ticket, x)
    resident = "lists" if density < 0.1 else "planes, lists of a row group"
    by_additions = {(isa, k) for isa in ISAS for k in ("masked lanes", "lists of a row group", resident)}
    by_dots = {(isa, DOT) for isa in ISAS if isa != "scalar"}
    assert assert_like_the_reference(ticket, x) >= by_additions | by_dots


@pytest.mark.parametrize(("sparsity", "pow2"), [(0.5, False), (0.9, True)])
@pytest.mark.parametrize("network", small_resnets(), ids=lambda network: network.name)
def test_resnets(network: Network, sparsity: float, pow2: bool) -> None:
    ticket = synthetic_ticket(network, Source(seed=2), sparsity)
    ticket = quantised(ticket, images(network, 6, seed=1), pow2)
    x = images(network, 2)
    assert_all_vary(ticket, x)
    assert_like_the_reference(ticket, x)


@pytest.mark.parametrize("name", ["mlp-40-30-20-5", "conv4@0.1"])
def test_networks_without_adds(name: str) -> None:
    network = models.network(name)
    ticket = int8_ticket(network, 0.4)
    x = images(network, 2)
    assert_all_vary(ticket, x)
    assert_like_the_reference(ticket, x)


@pytest.mark.parametrize("name", ENDS)
def test_every_end(name: str) -> None:
    ticket = int8_ticket(ENDS[name])
    assert ticket.quantisation is not None
    codes = ticket.quantisation.codes
    finer = Quantisation((*codes[:-1], codes[-1] - 32))  # a quarter of the scale: too much for int8
    ticket = replace(ticket, quantisation=finer)
    x = images(ticket.network, 4)
    wanted = run_int8(ticket, x)
    assert np.ptp(wanted) > 20
    is_wide = name in ("linear", "joined add", "add", "global_avg_pool2d")
    assert (np.abs(wanted).max() > 127) == is_wide
    assert_like_the_reference(ticket, x)


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs(seed: int) -> None:
    ticket = int8_ticket(flat_network(random_nodes(seed)))
    assert_places_are_apart(schedule(ticket.network, 1, ticket.network.joined))
    assert_like_the_reference(ticket, images(ticket.network, 3), WAYS[:3])


def test_a_joined_layer_its_add_and_relu_are_one_step() -> None:
    network = every_operator()
    plan = schedule(network, 1, network.joined)
    layers = [s for s in plan.steps if isinstance(s.node, Conv2d | Linear) and len(s.inputs) == 2]
    assert [(s.output, s.inputs, s.relu) for s in layers] == [
        (6, (3, 3), True),  # the add of value 4 and of what it was made of
        (8, (6, 6), False),
        (16, (13, 14), False),
        (26, (24, 23), False),
    ]
    adds = [s for s in plan.steps if isinstance(s.node, Add)]
    assert [(s.output, s.inputs, s.relu) for s in adds] == [
        (9, (8, 8), False),
        (13, (10, 11), True),
        (19, (18, 17), False),
    ]
    assert not {4, 5, 7, 12, 15, 25} & set(plan.place)
    assert all(place % 64 == 0 for place in plan.place.values())
    assert_places_are_apart(plan)
    alone = schedule(network)
    assert not [s for s in alone.steps if not isinstance(s.node, Add) and len(s.inputs) == 2]


@pytest.mark.parametrize("way", WAYS[::3], ids=str)
def test_results_do_not_depend_on_the_batch(way: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = int8_ticket(every_operator(), 0.6)
    x = images(ticket.network, 23)
    whole = Plan(ticket, dtype="int8", **way)(x)
    np.testing.assert_array_equal(whole, run_int8(ticket, x))
    monkeypatch.setattr("slt_infer.runtime.cpu.ARENA_BYTES", 30_000)
    net = Plan(ticket, dtype="int8", **way)
    assert net._runner.images_at_once < 23  # type: ignore[attr-defined]
    for size in (1, 4, 22, 23):
        parts = np.concatenate([net(x[i : i + size]) for i in range(0, 23, size)])
        assert parts.tobytes() == whole.tobytes()
    assert net(x[:0]).shape == (0, 10)


@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("tile_rows", [1, 4, 5])
def test_tiles_that_another_writer_cuts(
    tile_rows: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads take tiles as they come, of any number of rows: more than one copy of the pixels is in use."""
    monkeypatch.setattr(masks, "tile_rows", lambda shape: tile_rows)
    network = one_conv(32, 11, (3, 3), (6, 6))
    x = images(network, 2)
    ticket = quantised(random_ticket(network, density=0.7), x)
    expected = Plan(ticket, "reference", dtype="int8")(x)
    for _ in range(20):  # which thread takes which tile differs from run to run
        plan = Plan(ticket, mode="stream", threads=threads, dtype="int8")
        assert plan.layers[0].kernel == DOT
        assert np.array_equal(plan(x), expected)


def test_images_beyond_the_scale_and_far_beyond() -> None:
    ticket = int8_ticket(every_operator())
    x = images(ticket.network, 3)
    x[0] *= 100
    x[1] *= 1e-3
    x.reshape(-1)[::97] = np.float32(3e38)
    x.reshape(-1)[1::97] = -np.float32(3e38)
    x.reshape(-1)[2::97] = np.inf
    x.reshape(-1)[3::97] = -np.inf
    assert_like_the_reference(ticket, x)


def test_a_nan_is_the_lowest_value() -> None:
    """Whatever its sign and its other bits."""
    ticket = int8_ticket(every_operator())
    x = images(ticket.network, 3)
    lowest = x.copy()
    x.view(np.uint32).reshape(-1)[::11] = np.tile([0x7FC00000, 0xFFC00041, 0x7F800007], x.size)[
        : -(-x.size // 11)
    ]
    lowest.reshape(-1)[::11] = -np.inf
    np.testing.assert_array_equal(run_int8(ticket, x), run_int8(ticket, lowest))
    assert_like_the_reference(ticket, x)


def test_the_reference_backend_and_what_a_logit_stands_for() -> None:
    ticket, x = int8_ticket(ENDS["linear"]), images(ENDS["linear"], 3)
    slow, fast = Plan(ticket, dtype="int8", backend="reference"), Plan(ticket, dtype="int8")
    np.testing.assert_array_equal(slow(x), fast(x))
    assert ticket.quantisation is not None
    assert slow.logit_scale == fast.logit_scale == scale_of(ticket.quantisation.codes[-1])
    exact = Plan(ticket)(x)
    assert Plan(ticket).logit_scale == 1
    np.testing.assert_allclose(fast(x) * fast.logit_scale, exact, rtol=0, atol=0.1 * np.abs(exact).max())


def test_strided_images_and_tensors() -> None:
    ticket, x = int8_ticket(ENDS["linear"]), images(ENDS["linear"], 6)
    net, wanted = Plan(ticket, dtype="int8"), run_int8(ticket, x)
    np.testing.assert_array_equal(net(x[::2]), wanted[::2])
    mirrored = np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(net(mirrored), wanted)
    torch = pytest.importorskip("torch", reason="tensors are what is tested")
    logits = net(torch.from_numpy(x))
    assert logits.dtype is torch.int32
    np.testing.assert_array_equal(logits.numpy(), wanted)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_ticket_without_scales_is_refused_with_the_remedy(backend: Any) -> None:
    with pytest.raises(SltError, match="slt-export RUN -o FILE --int8") as caught:
        Plan(random_ticket(one_conv()), dtype="int8", backend=backend)
    assert caught.value.code == "not-quantised"


def test_an_unknown_type_is_refused() -> None:
    for other in ("int4", np.int8, np.dtype("int8")):
        with pytest.raises(SltError, match='a string, "f32" or "int8"') as caught:
            Plan(random_ticket(one_conv()), dtype=other)  # type: ignore[arg-type]
        assert caught.value.code == "unknown-dtype"


def test_a_quantised_ticket_runs_in_f32_as_before() -> None:
    ticket, x = int8_ticket(every_operator()), images(every_operator(), 2)
    bare = random_ticket(every_operator())
    assert Plan(ticket)(x).tobytes() == Plan(bare)(x).tobytes()


def test_memory_limit_of_int8() -> None:
    ticket = int8_ticket(one_conv(16, 16, size=(40, 40)))
    with pytest.raises(SltError) as caught:
        Plan(ticket, dtype="int8", max_memory=2 * 16 * 40 * 40 - 1)
    assert caught.value.code == "memory"
    net = Plan(ticket, dtype="int8", max_memory=1_500_000)
    x = images(ticket.network, 60)
    np.testing.assert_array_equal(net(x), Plan(ticket, dtype="int8")(x))


@pytest.mark.parametrize("isa", ISAS)
def test_kernels_by_operator_density_and_mode(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "DOT_POSITIONS", DOT_POSITIONS)
    conv, linear = one_conv(64, 32, (3, 3), (8, 8)), one_linear(500, 20)
    short, few = one_conv(28, 32, (3, 3), (8, 8)), one_conv(64, 32, (3, 3), (7, 9))
    vector, vector_groups = (one_conv(64, 32, (3, 3), (2, 4), groups=groups) for groups in (1, 2))
    depthwise = one_conv(30, 30, (7, 7), groups=30)
    rows = "planes, lists of a row group"
    sparse = 0.8 * min(LIST_DENSITY, int8.DOT_DENSITY[isa][0])
    for network, density, freeze, mode, multiplierless, kernel in (
        (conv, 1.0, Freeze(), "stream", False, DOT),
        (conv, 1.0, Freeze(), "resident", False, DOT),
        (conv, 1.0, Freeze(), "stream", True, "lists of a row group"),
        (conv, 1.0, Freeze(), "resident", True, rows),
        (conv, 0.25, Freeze(), "resident", False, DOT),
        (conv, 0.25, Freeze(), "resident", True, rows),
        (conv, sparse, Freeze(), "resident", False, "lists"),
        (conv, sparse, Freeze(), "resident", True, "lists"),
        (conv, sparse, Freeze(), "stream", False, "lists of a row group"),
        (few, 0.05, Freeze(), "stream", False, DOT),
        (few, 0.05, Freeze(), "resident", False, "lists"),
        (vector, 0.05, Freeze(), "stream", False, WORDS),
        (vector, 0.4, Freeze(4, 3, 2), "resident", True, f"planes, {WORDS}"),
        (vector_groups, 0.05, Freeze(), "stream", True, "lists of a row group"),
        (vector, 0.1, Freeze(), "stream", False, DOT),
        (conv, 0.05, Freeze(), "stream", True, "lists of a row group"),
        (short, 1.0, Freeze(), "stream", False, "lists of a row group"),
        (short, 1.0, Freeze(), "resident", False, rows),
        (depthwise, 1.0, Freeze(), "stream", False, "taps"),
        (depthwise, 0.05, Freeze(), "resident", True, "taps"),
        (linear, 1.0, Freeze(), "resident", False, "masked lanes"),
        (linear, 0.05, Freeze(), "stream", True, "masked lanes"),
    ):
        ticket = int8_ticket(network, density, freeze=freeze)
        net = Plan(ticket, dtype="int8", mode=mode, isa=isa, multiplierless=multiplierless)  # type: ignore[arg-type]
        words = "lists of a row group" if network is not vector else WORDS
        wanted = rows if kernel == DOT and mode == "resident" else words
        assert net.layers[0].kernel == (wanted if kernel == DOT and isa == "scalar" else kernel)
        assert net.multiplierless == multiplierless
    assert Plan(ticket).multiplierless


@pytest.mark.parametrize("multiplierless", [False, True])
@pytest.mark.parametrize(
    "network", [one_conv(3, 64), one_conv(40, 40, groups=40), one_conv(200, 30), one_linear(333, 77)]
)
@pytest.mark.parametrize("freeze", [Freeze(4, 15, 0), Freeze(4, 11, 1), Freeze(4, 3, 2), Freeze()])
def test_resident_keeps_two_bits_per_weight(network: Network, freeze: Freeze, multiplierless: bool) -> None:
    ticket = int8_ticket(network, 0.5, freeze=freeze)
    net = Plan(ticket, dtype="int8", mode="resident", multiplierless=multiplierless)
    net(images(network, 1))
    for layer, report in zip(ticket.layers, net.layers, strict=True):
        assert 0 < report.weight_bytes <= layer.shape.weights / 4 + 8 * layer.shape.out
        assert report.weight_bytes <= (net.peak_weight_bytes or 0)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("codes", [(0,), (10**9, 0), (0.5, 0), (0, -1024)])
def test_scales_that_cannot_be_run_are_refused_before_anything_is_made(codes, backend):
    """Two values have scales, and multipliers of 2^64 do not fit."""
    ticket = replace(random_ticket(one_linear(6, 3)), quantisation=Quantisation(codes))
    with pytest.raises(TicketError) as refusal:
        Plan(ticket, backend=backend, dtype="int8")
    assert refusal.value.code == "bad-value"


def test_a_linear_layer_of_more_images_than_are_copied_at_once():
    """4 MiB of copies and sums hold about 1000 images."""
    ticket = int8_ticket(one_linear(6, 1000))
    x = images(ticket.network, 2500, seed=3)
    assert np.array_equal(Plan(ticket, dtype="int8")(x), run_int8(ticket, x))
