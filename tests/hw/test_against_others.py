"""Published figures of others, exactly where they are exact, in bands fixed before the run where they are
not.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest

from slt_infer import models
from slt_infer.hw import (
    Workload,
    answer,
    closed_form,
    load_hardware,
    simulate,
    systolic,
    workload_of,
    workload_of_network,
)
from slt_infer.hw.compute import positions
from slt_infer.hw.demand import demands
from slt_infer.hw.topology import read_topology
from slt_infer.hw.workload import finished
from slt_infer.models import resnet
from slt_infer.models.graph import Graph
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Network, Source

# SCALE-Sim v2's shipped ResNet-18 (unpadded), and what its 3.0.0 reports for it on 32 x 32.
HEADINGS = (
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
)
RESNET18 = (
    HEADINGS
    + """Conv1,224,224,7,7,3,64,2,
Conv2_1a,56,56,3,3,64,64,1,
Conv2_1b,56,56,3,3,64,64,1,
Conv2_2a,56,56,3,3,64,64,1,
Conv2_2b,56,56,3,3,64,64,1,
Conv3_1a,56,56,3,3,64,128,2,
Conv3_1b,28,28,3,3,128,128,1,
Conv3_s,56,56,1,1,64,128,2,
Conv3_2a,28,28,3,3,128,128,1,
Conv3_2b,28,28,3,3,128,128,1,
Conv4_1a,28,28,3,3,128,256,2,
Conv4_1b,14,14,3,3,256,256,1,
Conv4_s,28,28,1,1,128,256,2,
Conv4_2a,14,14,3,3,256,256,1,
Conv4_2b,14,14,3,3,256,256,1,
Conv5_1a,14,14,3,3,256,512,2,
Conv5_1b,7,7,3,3,512,512,1,
Conv5_s,14,14,1,1,256,512,2,
Conv5_2a,7,7,3,3,512,512,1,
Conv5_2b,7,7,3,3,512,512,1,
FC,1,1,1,1,512,1000,1,
"""
)
WEIGHTS_STATIONARY = {
    "Conv1": 121939, "Conv2_1a": 108359, "Conv3_1a": 63215, "Conv3_1b": 110879, "Conv3_s": 7479,
    "Conv4_1a": 83519, "Conv4_1b": 137087, "Conv4_s": 10207, "Conv5_1a": 164735, "Conv5_1b": 274175,
    "Conv5_s": 20223, "FC": 48639,
}  # fmt: skip
OUTPUTS_STATIONARY = {"Conv4_1b": 94639, "Conv5_1b": 74719, "FC": 18367}


def compute_cycles(workload: Workload, preset: str) -> dict[str, int]:
    result = closed_form(workload, load_hardware(preset), "int8")
    return {layer.name: layer.cycles.compute for layer in result.layers}


def test_scale_sim_resnet18_exactly() -> None:
    made = read_topology(RESNET18, "resnet18")
    found = compute_cycles(made, "systolic-ws")
    assert {name: found[name] for name in WEIGHTS_STATIONARY} == WEIGHTS_STATIONARY
    assert sum(found.values()) == 2_519_815
    outputs = compute_cycles(made, "systolic-os")
    assert {name: outputs[name] for name in OUTPUTS_STATIONARY} == OUTPUTS_STATIONARY
    assert sum(outputs.values()) == 1_718_353


def test_scale_sim_words_of_its_buffers_exactly() -> None:
    """SRAM reads of inputs and filters, and writes of outputs, of the whole network."""
    array = load_hardware("systolic-ws").array
    words = [systolic.accesses(array, work) for work in read_topology(RESNET18, "resnet18").layers]
    assert [sum(kind) for kind in zip(*words, strict=True)] == [45_974_808, 11_678_912, 46_289_024]


@pytest.mark.parametrize(("preset", "cycles"), [("ws", 11_199), ("os", 10_175), ("is", 14_207)])
def test_scale_sim_golden_product_exactly(preset: str, cycles: int) -> None:
    """M = 256, N = 128, K = 256 on 32 x 32: compute cycles, stalls taken off."""
    made = read_topology("Layer,M,N,K,\nGEMM,256,128,256,\n", "gemm")
    assert compute_cycles(made, f"systolic-{preset}") == {"GEMM": cycles}


def test_scale_sim_golden_alexnet_exactly() -> None:
    made = read_topology(f"{HEADINGS}Conv1,227,227,11,11,3,96,4,\n", "alexnet")
    assert compute_cycles(made, "systolic-ws") == {"Conv1": 112_283}
    words = systolic.accesses(load_hardware("systolic-ws").array, made.layers[0])
    assert words == (3_294_225, 34_848, 3_484_800)


@pytest.mark.parametrize(
    ("network", "parallel", "cycles"),
    [
        ("resnet18", (8, 8, 8, 8), 590_944),
        ("resnet18", (16, 64, 2, 2), 598_848),
        ("resnet18", (64, 64, 1, 1), 1_028_736),
        ("resnet50", (8, 8, 8, 8), 1_316_896),
        ("resnet50", (16, 16, 4, 4), 1_292_992),
        ("resnet50", (32, 32, 2, 2), 1_331_200),
    ],
)
def test_cycles_of_a_grid_of_4096_by_hand(network: str, parallel: tuple[int, ...], cycles: int) -> None:
    """Ceilings of each dimension, kernel positions one after the other; computed apart from this program."""
    names = ("input_channels", "output_channels", "height", "width")
    changes = {f"array.{name}": size for name, size in zip(names, parallel, strict=True)}
    machine = load_hardware("hiddenite-like", {**changes, "activations.bytes": 2**24, "weights.bytes": 2**22})
    made = workload_of_network(models.network(network))
    assert closed_form(made, machine, "int8").cycles.compute == cycles


def test_timeloop_eyeriss_like_example_cycles_exactly() -> None:
    """timeloop-accelergy-exercises, eyeriss_like, default problem: C3 M32 P = Q = 112, 3 x 3, stride 2."""
    made = read_topology(f"{HEADINGS}conv,225,225,3,3,3,32,2,\n", "default")
    assert made.macs == 10_838_016
    layer = demands(made, load_hardware("eyeriss-like"), "int8")[0]
    assert sum(positions(patch, load_hardware("eyeriss-like").array) for patch in layer.tiles.patches) == 896
    assert layer.compute == 86_016


def test_zigzag_resnet18_dram_bytes_exactly() -> None:
    """ZigZag 3.9.1, tpu_like: words of 8 bytes. Its figures are those of each layer's input read once, as far
    as a stride does not step over it, and its output written once before pooling; it has no residuals.
    Ours by that rule.
    """
    room = {"activations.bytes": 2**25, "activations.reserve": 2**25}
    made = workload_of_network(models.network("resnet18"))
    layers = demands(made, load_hardware("tpu-like", room), "int8")
    assert sum(layer.dram_bytes["weights"] for layer in layers) == 8 * 1_459_864
    assert sum(layer.tiles.input_bytes for layer in layers) == 8 * 239_968
    assert sum(work.out * work.pixels for work in made.layers) == 8 * 310_589


def actions(source: str, **pj: float) -> dict[str, Any]:
    """Changes to a machine: energies of actions."""
    return {f"energy.{name}": {"pj": value, "source": source} for name, value in pj.items()}


def test_zigzag_resnet18_energy_within_two_percent() -> None:
    """ZigZag 3.9.1, tpu_like, opt=latency: 1,871.44 uJ. The preset has its table. By its rule no value stays
    on chip, residuals are not read and outputs are those before pooling; shifting pixels and scaling outputs
    cost nothing.
    """
    free = actions("ZigZag has none", register_bit=0.0, affine=0.0)
    machine = load_hardware("tpu-like", {"activations.reserve": 2**21, **free})
    plain = workload_of_network(models.network("resnet18"))
    layers = [replace(work, residual=None, stored=work.out * work.pixels) for work in plain.layers]
    result = closed_form(finished("resnet18", layers, plain.elements[0]), machine, "int8")
    by_layer = {layer.name: sum(layer.energy_pj.values()) for layer in result.layers}
    assert by_layer["stem"] == pytest.approx(128.8998e6, rel=0.1)  # reads 64 bits for 3 channels
    assert by_layer["stage1.block1.conv1"] == pytest.approx(66.9962e6, rel=0.012)
    assert by_layer["stage2.block1.conv1"] == pytest.approx(47.2709e6, rel=0.01)
    assert by_layer["stage2.block1.shortcut"] == pytest.approx(16.4321e6, rel=0.025)
    assert by_layer["stage2.block1.conv2"] == pytest.approx(57.9675e6, rel=0.01)
    assert by_layer["stage3.block1.conv1"] == pytest.approx(52.8229e6, rel=0.005)
    found = result.energy_pj
    assert found["array"] == pytest.approx(72.56e6, rel=1e-4)
    assert found["weights"] == pytest.approx(173.4e6, rel=1e-3)
    assert found["dram"] == pytest.approx((1_459_864 + 239_968) * 700 + 310_589 * 750, rel=1e-9)
    assert found["accumulators"] == pytest.approx(79.5e6, rel=0.05)
    assert found["activations"] == pytest.approx((105.0 + 18.1) * 1e6, rel=0.25)
    assert sum(found.values()) == pytest.approx(1_871_436_380.66, rel=0.02)
    assert sum(found.values()) == pytest.approx(1_840.0e6, rel=1e-4)


def test_timeloop_eyeriss_like_example_energy() -> None:
    """timeloop-accelergy-exercises 2d55108, eyeriss_like, default problem: 59.28 uJ. The machine is the
    preset with the example's energies (its ERT), weights and sums in the elements, 8 filters in turn.
    """
    table = actions(
        "Timeloop's example: per vector of 16 bits in the elements, of 64 bits in the buffer",
        int8_mac=0.207692,
        accumulator_bit=(0.2191 + 0.2513) / 16,
        register_bit=0.202442 / 16,
        weight_read_bit=1.976602 / 16,
        weight_write_bit=1.881657 / 16,
        activation_read_bit=18.183829 / 64,
        activation_write_bit=14.137929 / 64,
        dram_bit=8.0,
        affine=0.0,
    )
    shape = {"array.adder_tree": False, "array.stationary": "weight", "array.block_rows": 8}
    idle = {"accumulator_bits": 16, "energy.idle_share": 0.0, "energy.leakage_mw": 0.0}
    machine = load_hardware("eyeriss-like", {**table, **shape, **idle})
    made = read_topology(f"{HEADINGS}conv,225,225,3,3,3,32,2,\n", "default")
    result = closed_form(made, machine, "int8")
    assert result.cycles.compute == 86_016
    found = result.energy_pj
    theirs = {"array": 2.251, "accumulators": 4.190, "weights": 10.893, "registers": 1.217, "dram": 36.642}
    far = {"array": 0.001, "accumulators": 0.22, "weights": 0.02, "registers": 0.1, "dram": 0.03}
    for part, microjoules in theirs.items():
        assert found[part] == pytest.approx(1e6 * microjoules, rel=far[part]), part
    assert found["activations"] == pytest.approx(2.398e6, rel=1e-3)  # theirs 4.067
    assert sum(found.values()) == pytest.approx(59.28e6, rel=0.04)
    assert sum(found.values()) == pytest.approx(57.15e6, rel=1e-3)


# -- Hiddenite ---------------------------------------------------------------------------------------------
# One set of parameters, the preset's, of which none was fitted to the figures below. Assumed: half a bit
# per weight means a density of 0.1 (the binary entropy of 0.11 is a half), the same in every layer;
# operations are 2 per dense multiply-accumulate, energy is the chip's without DRAM; ResNet-50 for
# ImageNet; for CIFAR-100 ResNet-18, as the network is not published. The bands were fixed before the run:
# a factor of 2 for each figure, 25 % for the ratio.


def resnet50_cifar() -> Network:
    graph = Graph("resnet50-cifar", (3, 32, 32))
    stem = graph.relu(graph.conv(0, "stem", 3, 64, 3, norm=True))
    return resnet._stages(graph, stem, (3, 4, 6, 3), 100, 1.0, bottleneck=True, wide=1)


@functools.cache
def hiddenite(network: str) -> dict:
    source = Source.named("threefry4x32", 1, "mixed")
    graph = resnet50_cifar() if network == "resnet50-cifar" else models.network(network)
    ticket = synthetic_ticket(graph, source, 0.9, rule="uniform")
    return answer(simulate(workload_of(ticket), load_hardware("hiddenite-like"), "coded-mask"))


@pytest.mark.parametrize(("network", "published"), [("resnet18-cifar", 34.8), ("resnet50", 16.0)])
def test_hiddenite_tops_per_watt_within_a_factor_of_two(network: str, published: float) -> None:
    found = hiddenite(network)["tops_per_watt"]["chip_dense"]
    assert published / 2 < found < published * 2


def test_hiddenite_ratio_of_the_two() -> None:
    names = ("resnet18-cifar", "resnet50")
    cifar, imagenet = (hiddenite(name)["tops_per_watt"]["chip_dense"] for name in names)
    assert cifar / imagenet == pytest.approx(34.8 / 16.0, rel=0.25)


def test_hiddenite_is_missed_with_resnet50_for_cifar() -> None:
    """Kept as a test so that docs/results/accelerator.md goes on to tell the truth."""
    found = hiddenite("resnet50-cifar")
    assert found["macs"] == pytest.approx(1.298e9, rel=1e-3)
    assert found["tops_per_watt"]["chip_dense"] == pytest.approx(12.5, abs=0.1)


@pytest.mark.parametrize("network", ["resnet18-cifar", "resnet50"])
def test_hiddenite_fetches_half_a_bit_per_weight(network: str) -> None:
    """Within a factor of 2; per weight stored, so what comes again counts as once."""
    found = hiddenite(network)
    weights = models.network(network).weights
    moved = 8 * (found["dram_bytes"]["mask"] + found["dram_bytes"]["index"]) / weights
    assert 0.25 < moved < 1.0
    assert moved == pytest.approx(0.504, abs=0.02)  # zero runs in 4 bits; computed apart from this program
