"""Closed form and event model: they agree, nothing is lost or made up, more of a resource costs no time."""

from __future__ import annotations

import math
import time

import pytest

from slt_infer.hw import (
    SCHEMES,
    HardwareError,
    Result,
    Workload,
    answer,
    best_scheme,
    closed_form,
    compare,
    load_hardware,
    preset_names,
    simulate,
    why_not,
    workload_of,
    workload_of_network,
)
from slt_infer.hw.demand import demands
from slt_infer.hw.events import tiles_of
from slt_infer.ticket import Conv2d, GlobalAvgPool2d, LayerShape, Linear, Network, Relu

from .workloads import remembering, workload

NETWORKS = ("resnet18", "resnet50")
MODELS = {"closed form": closed_form, "events": simulate}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("preset", preset_names())
def test_the_models_agree(preset: str, network: str) -> None:
    """Within 2 % where nothing stalls, 10 % otherwise, as a whole."""
    machine, made = load_hardware(preset), workload(network)
    schemes = SCHEMES if network == "resnet18" else ("int8", best_scheme(made, machine))
    for scheme in schemes:
        if why_not(scheme, made, machine) is None:
            quick, true = closed_form(made, machine, scheme), simulate(made, machine, scheme)
            waits = sum(true.cycles.stalls.values())
            allowed = 0.02 if 100 * waits < true.cycles.total else 0.10
            assert quick.cycles.total == pytest.approx(true.cycles.total, rel=allowed), scheme
            assert quick.cycles.compute == true.cycles.compute
            assert quick.dram_bytes == true.dram_bytes


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("preset", preset_names())
def test_layers_that_do_not_stall_agree_within_two_percent(preset: str, network: str) -> None:
    machine, made = load_hardware(preset), workload(network)
    scheme = best_scheme(made, machine)
    quick, true = closed_form(made, machine, scheme), simulate(made, machine, scheme)
    for a, b in zip(quick.layers, true.layers, strict=True):
        if 200 * sum(b.cycles.stalls.values()) < b.cycles.total:
            assert a.cycles.total == pytest.approx(b.cycles.total, rel=0.02), a.name


def sums(result: Result) -> None:
    cycles = result.cycles
    assert cycles.total == cycles.compute + sum(cycles.stalls.values())
    assert min(cycles.stalls.values()) >= 0
    assert cycles.total == sum(layer.cycles.total for layer in result.layers)
    for layer in result.layers:
        counts, moved = layer.demand.counts, layer.demand.dram_bytes
        assert sum(moved.values()) == counts.dram_read_bytes + counts.dram_write_bytes
        assert 0 <= counts.dram_write_bytes - moved["activations_out"] < layer.machine.dram.burst_bytes
        assert min(layer.demand.dram_bytes.values()) >= 0
        assert min(layer.energy_pj.values()) >= 0
        elements = layer.machine.array.elements
        assert layer.demand.work.macs <= elements * layer.demand.compute or layer.machine.array.zero_skipping
    told = answer(result)
    for key in ("dram_bytes", "energy_pj", "stall_cycles"):
        for kind, value in told[key].items():
            assert value == pytest.approx(sum(layer[key][kind] for layer in told["layers"]), rel=1e-12)
    assert told["dram_bytes_total"] == sum(told["dram_bytes"].values())
    assert told["energy_pj_total"] == pytest.approx(sum(told["energy_pj"].values()))
    assert told["cycles"] >= math.floor(told["roofline"]["bound_cycles"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("preset", preset_names())
def test_conservation(preset: str, model: str) -> None:
    """Cycles by cause, bytes by kind and energy by part sum to their totals; no layer beats the roofline."""
    machine, made = load_hardware(preset), workload("resnet18")
    for result in compare(made, machine, MODELS[model]).values():
        if isinstance(result, Result):
            sums(result)


SMALL = {"activations.bytes": 2**15, "activations.reserve": 2**14, "weights.bytes": 512}
ODD = [
    {},
    SMALL,
    {**SMALL, "schedule.order": "weights-first", "schedule.double_buffer": False},
    {**SMALL, "schedule.order": "activations-first", "schedule.decode_per": "pass"},
    {**SMALL, "schedule.order": "activations-first", "schedule.double_buffer": False},
]


def grouped() -> Workload:
    """Depthwise and grouped convolutions, with strides."""
    layers = (
        LayerShape("first", 12, 3, (3, 3)),
        LayerShape("depthwise", 12, 1, (5, 5), groups=12),
        LayerShape("grouped", 40, 6, (3, 3), groups=2),
        LayerShape("fc", 10, 40),
    )
    nodes = (
        Conv2d(0, 0, 1, 1),
        Relu(1),
        Conv2d(2, 1, 2, 2),
        Conv2d(3, 2, 1, 1),
        GlobalAvgPool2d(4),
        Linear(5, 3),
    )
    return workload_of_network(Network("grouped", (3, 33, 31), layers, nodes))


@pytest.mark.parametrize("changes", ODD, ids=lambda changes: str(len(changes)))
@pytest.mark.parametrize("preset", preset_names())
def test_tiles_sum_to_the_layer(preset: str, changes: dict) -> None:
    machine = load_hardware(preset, changes)
    rate = machine.dram.bytes_per_cycle
    for made in (workload("conv6"), grouped()):
        scheme = best_scheme(made, machine)
        quick, true = closed_form(made, machine, scheme), simulate(made, machine, scheme)
        assert quick.dram_bytes == true.dram_bytes
        assert quick.cycles.total == pytest.approx(true.cycles.total, rel=0.25)
        for layer in quick.layers:
            demand = layer.demand
            tiles = list(tiles_of(demand, machine))
            assert len(tiles) == demand.tiles.tiles
            assert [tile.first for tile in tiles] == [True] + [False] * (len(tiles) - 1)
            assert sum(tile.compute for tile in tiles) == demand.compute
            assert sum(tile.banks for tile in tiles) == demand.banks
            moved = sum(tile.weights + tile.pixels + tile.ahead + tile.results for tile in tiles)
            assert moved * rate == pytest.approx(sum(demand.dram_bytes.values()))
            assert sum(tile.decode for tile in tiles) == pytest.approx(demand.decode * demand.makings)
            assert sum(tile.generate for tile in tiles) == pytest.approx(demand.generate * demand.makings)


MORE = {
    "dram.bytes_per_cycle": (2, 4, 8, 16, 64, 1024),
    "decoder.raw_bits_per_cycle": (1, 4, 16, 64),  # half of its free weights are kept: no code is smaller
    "generator.rounds_per_cycle": (1, 5, 20, 80),
    "activations.banks": (1, 2, 4, 16, 64),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("key", MORE)
@pytest.mark.parametrize("preset", ["successor", "edge-256"])
def test_more_of_a_resource_is_never_slower(preset: str, key: str, model: str) -> None:
    made = workload("resnet18")
    times = [
        MODELS[model](made, load_hardware(preset, {key: value}), "frozen").cycles.total for value in MORE[key]
    ]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]


def test_a_faster_rans_decoder_is_never_slower() -> None:
    made = workload("resnet18", 0.9, 0.0, 0.0)
    for model in MODELS.values():
        rates = (0.25, 1, 4, 16, 64)
        machines = [load_hardware("successor", {"decoder.bits_per_cycle": rate}) for rate in rates]
        times = [model(made, machine, "coded-mask").cycles for machine in machines]
        totals = [cycles.total for cycles in times]
        assert totals == sorted(totals, reverse=True)
        assert totals[0] > 10 * totals[-1]
        assert times[0].decoder > times[0].total / 2


def test_more_memory_never_means_more_bytes() -> None:
    made = workload("resnet50")
    for reserve in (2**15, 2**17):
        moved = []
        for size in (2**18, 2**19, 2**20, 2**21, 2**22):
            machine = load_hardware("successor", {"activations.bytes": size, "activations.reserve": reserve})
            moved.append(sum(closed_form(made, machine, "frozen").dram_bytes.values()))
        assert moved == sorted(moved, reverse=True)


def test_with_room_for_all_only_what_must_move_moves() -> None:
    made = workload("resnet50")
    machine = load_hardware("tpu-like", {"activations.bytes": 2**24})
    moved = closed_form(made, machine, "int8").dram_bytes
    assert moved["weights"] == made.weights
    assert moved["activations_in"] == 3 * 224 * 224
    assert moved["activations_out"] == 1000


def test_the_slow_unit_is_named() -> None:
    made = workload("resnet18")
    for changes, cause in (
        ({"decoder.bits_per_cycle": 0.5, "decoder.raw_bits_per_cycle": 0.5}, "decoder"),
        ({"generator.rounds_per_cycle": 0.5}, "generator"),
        ({"dram.bytes_per_cycle": 0.1}, "dram"),
        ({"activations.banks": 1}, "banks"),
    ):
        for model in MODELS.values():
            stalls = model(made, load_hardware("successor", changes), "frozen").cycles.stalls
            assert max(stalls, key=lambda name: stalls[name]) == cause, changes


def test_decoding_for_each_pass_costs_more_than_for_each_block() -> None:
    made = workload("resnet18")
    machines = [load_hardware("successor", {"schedule.decode_per": per}) for per in ("block", "pass")]
    for model in MODELS.values():
        block, each = (model(made, machine, "frozen") for machine in machines)
        assert each.cycles.generator > block.cycles.generator
        assert each.energy_pj["generator"] > 2 * block.energy_pj["generator"]
        assert each.dram_bytes == block.dram_bytes


def test_without_double_buffers_nothing_overlaps() -> None:
    made = workload("resnet18")
    for model in MODELS.values():
        slow, fast = (
            model(made, load_hardware("successor", {"schedule.double_buffer": double}), "frozen")
            for double in (False, True)
        )
        assert slow.cycles.total > fast.cycles.total


def test_zero_skipping_waits_for_the_fullest_row() -> None:
    made = workload("resnet18")
    plain, skipping = (
        simulate(made, load_hardware("successor", {"array.zero_skipping": skip}), "frozen")
        for skip in (False, True)
    )
    kept = sum(work.kept_macs for work in made.layers)
    assert kept / 4096 < skipping.cycles.compute < plain.cycles.compute


def test_what_does_not_fit_says_what_to_raise() -> None:
    made = workload("resnet18")
    with pytest.raises(HardwareError, match=r"raise activations.bytes") as caught:
        closed_form(
            made,
            load_hardware("edge-256", {"activations.bytes": 1024, "activations.reserve": 1024}),
            "frozen",
        )
    assert caught.value.code == "too-small"
    with pytest.raises(HardwareError, match=r"raise weights.bytes"):
        closed_form(made, load_hardware("edge-256", {"weights.bytes": 1}), "int8")


@pytest.mark.parametrize("preset", preset_names())
def test_resnet50_takes_milliseconds(preset: str) -> None:
    """The aims are 20 ms and 2 s; twice that is allowed here, for other work on the machine."""
    machine, made = load_hardware(preset), workload("resnet50")
    scheme = best_scheme(made, machine)
    for model, most in ((closed_form, 0.04), (simulate, 4.0)):
        taken = []
        for _ in range(3):
            start = time.process_time()
            model(made, machine, scheme)
            taken.append(time.process_time() - start)
        assert min(taken) < most


def test_a_chain_hands_patches_on_instead_of_spilling() -> None:
    made = workload("conv6")
    sizes = {"activations.bytes": 49152, "activations.reserve": 16384}
    fused, apart = (
        simulate(made, load_hardware("edge-256", {**sizes, "schedule.fuse_chains": fuse}), "frozen")
        for fuse in (True, False)
    )
    pairs = [layer.demand for layer in fused.layers if layer.demand.place.fused]
    assert [demand.place.fused for demand in pairs[:2]] == ["with next", "with previous"]
    assert sum(fused.dram_bytes.values()) < sum(apart.dram_bytes.values())
    first, second = pairs[0], pairs[1]
    assert first.dram_bytes["activations_out"] == second.dram_bytes["activations_in"] == 0
    assert len(first.tiles.patches) == len(second.tiles.patches) > 1
    spilled = {layer.name: layer.demand for layer in apart.layers}
    assert spilled[first.work.name].dram_bytes["activations_out"] == first.work.stored
    assert fused.cycles.compute == apart.cycles.compute
    quick = closed_form(made, load_hardware("edge-256", sizes), "frozen")
    assert quick.cycles.total == pytest.approx(fused.cycles.total, rel=0.10)


def test_masks_coded_by_initial_scores() -> None:
    """The file's own bytes, against those of one density a layer; the price is generator calls."""
    of = remembering()
    assert {layer.code.mode for layer in of.layers} == {"prior"}
    made, machine = workload_of(of), load_hardware("successor")
    assert best_scheme(made, machine) == "frozen-prior"
    plain, prior = (demands(made, machine, scheme) for scheme in ("frozen", "frozen-prior"))
    for layer, a, b in zip(of.layers, plain, prior, strict=True):
        assert b.storage.mask_bytes == len(layer.code.payload) < a.storage.mask_bytes
        planes = layer.code.planes + layer.code.sign
        assert b.storage.calls - a.storage.calls == planes * -(-layer.free // 128)
    results = compare(made, machine, simulate)
    costs = {name: result.dram_bytes for name, result in results.items() if isinstance(result, Result)}
    masks = [costs[name]["mask"] for name in ("raw-mask", "frozen", "frozen-prior")]
    assert masks == sorted(masks, reverse=True)
    blind = load_hardware("successor", {"generator.score_planes": 0})
    assert "score planes" in str(compare(made, blind)["frozen-prior"])
    assert "no freeze pattern" in str(
        compare(made, load_hardware("successor", {"generator.freeze_planes": 0}))["frozen"]
    )
