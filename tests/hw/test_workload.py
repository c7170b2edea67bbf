"""What a network asks of a machine: real counts of the ticket, folded graph, SCALE-Sim's CSV."""

from __future__ import annotations

import numpy as np
import pytest

from slt_infer import models, reference
from slt_infer.format import parts
from slt_infer.hw import HardwareError, workload_of, workload_of_network
from slt_infer.hw.description import load_hardware
from slt_infer.hw.masks import mask_of
from slt_infer.hw.residency import largest_value_bytes, residency
from slt_infer.hw.topology import read_topology
from slt_infer.models.graph import Graph

from .workloads import ticket, workload


def test_counts_are_those_of_the_ticket() -> None:
    of, made = ticket("resnet18-cifar@0.25"), workload("resnet18-cifar@0.25")
    assert made.macs == sum(of.network.macs())
    assert made.weights == of.weights
    file = parts(of)
    masks = [work.mask for work in made.layers]
    assert sum(mask.bytes for mask in masks) == file.mask
    assert sum(mask.index_bytes for mask in masks) + 4 == file.index
    assert sum(work.affine_bytes for work in made.layers) == file.affine
    for work, layer in zip(made.layers, of.layers, strict=True):
        kept = reference.weights(of.source, layer) != 0
        assert (work.mask.row_kept == kept.sum(axis=1)).all()
        assert work.mask.row_free.sum() == layer.free
        assert work.mask.kept == layer.kept


def test_free_weights_of_each_row() -> None:
    of = ticket("conv2")
    layer = of.layers[1]
    pattern = reference.pattern(of.source, layer.id, layer.shape, layer.freeze)
    assert (mask_of(of.source, layer).row_free == (pattern == 0).sum(axis=1)).all()


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_zero_runs_are_counted_as_a_decoder_would(bits: int) -> None:
    of = ticket("conv2")
    layer = of.layers[0]
    kept = (reference.weights(of.source, layer) != 0).reshape(-1)
    tokens = zeros = 0
    for bit in kept:
        zeros += not bit
        if bit or zeros == 2**bits - 1:
            tokens, zeros = tokens + 1, 0
    tokens += zeros > 0
    size = mask_of(of.source, layer).zero_run_bytes(bits)
    assert size - -(-tokens * bits // 8) in (0, 1)  # a token for an empty rest is counted too


@pytest.mark.parametrize(("density", "runs", "width", "rice", "remainder"), [
    (0.3, 0.913, 2, 0.888, 1), (0.1, 0.504, 4, 0.476, 3), (0.05, 0.312, 6, 0.289, 4),
])  # fmt: skip
def test_codes_of_random_masks_are_as_the_geometric_law_says(
    density: float, runs: float, width: int, rice: float, remainder: int
) -> None:
    of = ticket("resnet18-cifar@0.25", 1 - density, 0.0, 0.0)
    masks = [mask_of(of.source, layer) for layer in of.layers]
    weights = sum(mask.weights for mask in masks)
    assert 8 * sum(mask.zero_run_bytes(width) for mask in masks) / weights == pytest.approx(runs, rel=0.01)
    assert 8 * sum(mask.rice_bytes(remainder) for mask in masks) / weights == pytest.approx(rice, rel=0.01)


def test_static_bytes_are_what_the_coder_makes() -> None:
    of = ticket("resnet18-cifar@0.25", 0.9, 0.0, 0.0)
    for layer in of.layers:
        if layer.code.mode == "static":
            mask = mask_of(of.source, layer)
            assert mask.static_bytes[0] == pytest.approx(mask.bytes, rel=0.01, abs=4)


def test_resnet_is_folded_into_its_convolutions() -> None:
    made = workload("resnet18-cifar@0.25")
    names = {work.name: number for number, work in enumerate(made.layers)}
    plain, shortcut = made.layers[names["stage1.block2.conv2"]], made.layers[names["stage2.block1.shortcut"]]
    assert plain.residual == made.layers[names["stage1.block1.shortcut"]].result
    assert shortcut.residual == made.layers[names["stage2.block1.conv2"]].result
    last = made.layers[-2]
    assert last.stored == last.out  # global average
    assert made.elements[0] == 3 * 32 * 32


def test_a_graph_that_does_not_fold_is_refused() -> None:
    graph = Graph("twice", (1, 4, 4))
    first = graph.conv(0, "a", 1, 2, 3)
    graph.add(graph.relu(first), first)
    graph.linear(graph.flatten(len(graph.nodes)), "fc", 32, 2)
    with pytest.raises(HardwareError, match="other nodes read too"):
        workload_of_network(graph.network())


def test_an_mlp_reads_the_flat_image() -> None:
    made = workload_of_network(models.network("mlp-64-32-10"))
    assert [(work.value, work.result, work.pixels) for work in made.layers] == [(0, 1, 1), (1, 2, 1)]


def test_tasks_are_those_of_the_first() -> None:
    assert workload_of(ticket("conv2")).name == "conv2"


def test_a_layer_by_layer_machine_needs_a_megabyte_for_resnet50() -> None:
    """HALO-CAT (arXiv 2312.06086): intermediate activations of ResNet-50 at 224 x 224 take 1 MB; the largest
    map of 8-bit activations is 802,816 bytes.
    """
    machine = load_hardware("hiddenite-like")
    made = workload_of_network(models.network("resnet50"))
    assert largest_value_bytes(made, machine) == 802_816
    assert largest_value_bytes(made, machine) == pytest.approx(2**20, rel=0.25)


def test_what_is_kept_on_chip_fits() -> None:
    made = workload_of_network(models.network("resnet50"))
    for size in (2**17, 2**19, 2**20, 2**22):
        changes = {"activations.bytes": size, "activations.reserve": 2**16}
        stays = residency(made, load_hardware("hiddenite-like", changes))
        assert max(stays.held) <= size - 2**16
    assert all(stays.kept[1:-1])


def test_topology_of_convolutions_and_products() -> None:
    made = read_topology(
        "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,\n"
        "Conv1,224,224,7,7,3,64,2,\n",
        "net",
    )
    work = made.layers[0]
    assert (work.out_height, work.out_width) == (110, 110)  # SCALE-Sim rounds up
    assert work.macs == 110 * 110 * 147 * 64
    product = read_topology("Layer,M,N,K,\nG,256,128,64,\n", "gemm").layers[0]
    assert (product.pixels, product.out, product.fan_in) == (256, 128, 64)


@pytest.mark.parametrize(
    "text", ["", "Layer,M,N,K\n", "Layer,M,N,K\nG,1,2\n", "Layer,M,N,K\nG,1,0,3\n", "Layer,M,N,K\nG,1,x,3\n",
             "Layer,M,N,K\nG,1,\u00b2,3\n", f"Layer,M,N,K\nG,1,{'9' * 5000},3\n",
             "a,b,c,d,e,f,g,h\nc,3,3,5,5,1,1,1\n"],
)  # fmt: skip
def test_a_wrong_topology_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(HardwareError) as caught:
        read_topology(text, "net")
    assert caught.value.code == "bad-topology"


def test_sizes_that_would_take_for_ever_are_refused() -> None:
    headings = "a,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,\n"
    for text, most in (
        ("Layer,M,N,K\nG,9000000000,1,1\n", 2**20),
        (f"{headings}c,99999,99999,1,1,1,1,1,\n", 2**26),
        ("Layer,M,N,K\n" + 5000 * "G,1,1,1\n", 4096),
    ):
        with pytest.raises(HardwareError, match=f"over {most}") as caught:
            read_topology(text, "net")
        assert caught.value.code == "limit"


def test_rows_sum_to_the_layer() -> None:
    for work in workload("resnet18").layers:
        assert int(work.mask.row_kept.sum()) == work.mask.kept
        assert int(work.mask.row_free.sum()) == work.mask.free
        lengths, counts = work.mask.runs
        assert int(counts.sum()) == work.mask.kept + 1
        assert int((lengths * counts).sum()) == work.mask.weights - work.mask.kept
        assert work.mask.row_kept.dtype == np.int64
