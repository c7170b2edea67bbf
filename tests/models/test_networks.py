"""The graphs against counts that the papers print, or that follow from their printed sizes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from slt_infer.errors import SltError, TicketError
from slt_infer.models import NAMES, network
from slt_infer.ticket import Conv2d, Linear, Network

MEBIBYTE = 2**20


def norm_floats(graph: Network) -> int:
    """Two numbers per batch norm channel."""
    return 2 * sum(layer.out for layer in graph.layers if layer.affine)


# Partially frozen networks, Tables 1 and 2: the weights and batch norm channels behind the printed sizes.
TABLE = [
    # name, weights, norm floats, size in MiB of trained fp32 and of a mask of the dense source, as printed
    ("conv6", 2_261_184, 0, "8.63", "0.27"),
    ("resnet18-cifar", 11_164_352, 9_600, "42.63", "1.37"),
    ("resnet50", 25_502_912, 53_120, "97.49", "3.24"),
    ("resnet34", 21_779_648, 17_024, None, "2.66"),
    ("resnet18", 11_678_912, 9_600, None, "1.43"),
]


@pytest.mark.parametrize(("name", "weights", "floats", "trained", "dense"), TABLE)
def test_counts_of_the_papers_tables(
    name: str, weights: int, floats: int, trained: str | None, dense: str
) -> None:
    graph = network(name)
    assert (graph.weights, norm_floats(graph)) == (weights, floats)
    assert f"{(weights / 8 + 4 * floats) / MEBIBYTE:.2f}" == dense
    if trained:
        assert f"{4 * (weights + floats) / MEBIBYTE:.2f}" == trained


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("conv6", 153_881_088),
        ("resnet18-cifar", 555_422_720),
        ("resnet18", 1_814_073_344),
        ("resnet34", 3_663_761_408),
        ("resnet50", 4_089_184_256),
    ],
)
def test_multiply_accumulates(name: str, macs: int) -> None:
    assert sum(network(name).macs()) == macs


# What torchvision prints beside its weights: parameters (ours, the norms' and a bias per class), and 10^9
# multiply-accumulates.
@pytest.mark.parametrize(
    ("name", "parameters", "billions"),
    [
        ("resnet18", 11_689_512, "1.814"),
        ("resnet34", 21_797_672, "3.664"),
        ("resnet50", 25_557_032, "4.089"),
        ("resnet101", 44_549_160, "7.801"),
        ("wide_resnet50_2", 68_883_240, "11.398"),
    ],
)
def test_published_sizes(name: str, parameters: int, billions: str) -> None:
    graph = network(name)
    assert graph.weights + norm_floats(graph) + graph.classes == parameters
    assert f"{sum(graph.macs()) / 1e9:.3f}" == billions


@pytest.mark.parametrize(
    ("name", "blocks", "wide"), [("resnet101", (3, 4, 23, 3), 1), ("wide_resnet50_2", (3, 4, 6, 3), 2)]
)
def test_bottlenecks_layer_by_layer(name: str, blocks: tuple[int, ...], wide: int) -> None:
    """Sizes as the papers tabulate them: channels of each convolution, and images of 56, 28, 14 and 7."""
    wanted, channels = [(64, 3, 7, 112)], 64
    for stage, count in enumerate(blocks):
        out, inner, side = 256 << stage, wide * 64 << stage, 56 >> stage
        for block in range(count):
            before = 2 * side if stage and not block else side  # the 3x3 has the stride
            wanted += [(inner, channels, 1, before), (inner, inner, 3, side), (out, inner, 1, side)]
            wanted += [(out, channels, 1, side)] * (block == 0)
            channels = out
    graph = network(name)
    shapes, found = graph.shapes(), []
    for number, node in enumerate(graph.nodes):
        if isinstance(node, Conv2d):
            layer = graph.layers[node.layer]
            assert layer.kernel[0] == layer.kernel[1]
            assert layer.affine
            found.append((layer.out, layer.inputs, layer.kernel[0], shapes[number + 1][1]))
    assert found == wanted
    assert (graph.layers[-1].out, graph.layers[-1].inputs) == (1000, 2048)


# IteRand, section 5: widths r = 0.25 to 2; the stem of a ResNet is not scaled (97.8 M for ResNet-50 at 2).
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("conv6@0.25", 142_128),
        ("conv6@0.5", 566_368),
        ("conv6@1", 2_261_184),
        ("conv6@2", 9_036_160),
        ("resnet18-cifar@0.25", 708_288),
        ("resnet18-cifar@.5", 2_804_928),
        ("resnet18-cifar@2", 44_576_448),
        ("resnet34-cifar@0.25", 1_339_584),
        ("resnet34-cifar@0.5", 5_330_112),
        ("resnet34-cifar", 21_265_088),
        ("resnet34-cifar@2", 84_979_392),
        ("resnet50@2", 97_846_464),
    ],
)
def test_width_factors(name: str, weights: int) -> None:
    assert network(name).weights == weights


def test_mlp() -> None:
    graph = network("mlp-784-300-100-10")
    assert graph.input == (1, 28, 28)
    assert [(layer.out, layer.fan_in, layer.affine) for layer in graph.layers] == [
        (300, 784, True),
        (100, 300, True),
        (10, 100, False),
    ]
    assert network("mlp-784-300-100-10@0.5").weights == 784 * 150 + 150 * 50 + 50 * 10
    assert network("mlp-30-4-2").input == (30, 1, 1)
    assert network("mlp-48-4-2", (3, 4, 4)).shapes()[-1] == (2,)


def test_conv_networks_have_no_norm_and_fit_other_inputs() -> None:
    assert not any(layer.affine for layer in network("conv4").layers)
    grey = network("conv2", (1, 28, 28), 10)
    assert [layer.fan_in for layer in grey.layers] == [9, 576, 12544, 256, 256]
    assert network("conv6", (1, 28, 28), 10).layers[6].fan_in == 256 * 3 * 3


@pytest.mark.parametrize("name", NAMES)
def test_every_network_is_a_whole_graph(name: str) -> None:
    graph = network(name, classes=7) if not name.startswith("mlp") else network(name)
    assert graph.classes == (10 if name.startswith("mlp") else 7)
    assert len({layer.name for layer in graph.layers}) == len(graph.layers)
    # layer ids follow the order of first use
    used = [node.layer for node in graph.nodes if isinstance(node, Conv2d | Linear)]
    assert used == list(range(len(graph.layers)))


@pytest.mark.parametrize(
    ("name", "image", "classes"),
    [
        ("conv3", None, None),
        ("mlp-10", None, None),
        ("mlp-10-x-2", None, None),
        ("mlp-0-2", None, None),
        ("conv2@", None, None),
        ("conv2@0", None, None),
        ("conv2@-1", None, None),
        ("conv2@nan", None, None),
        ("mlp-784-10", (3, 32, 32), None),
        ("mlp-784-10", None, 5),
        ("conv2", (0, 8, 8), None),
    ],
)
def test_refuses(name: str, image: tuple[int, int, int] | None, classes: int | None) -> None:
    with pytest.raises(SltError) as caught:
        network(name, image, classes)
    assert caught.value.code == "bad-network"


def test_refuses_an_image_too_small_for_the_pools() -> None:
    with pytest.raises(TicketError) as caught:
        network("conv6", (3, 4, 4), 10)
    assert caught.value.code == "bad-graph"


def test_needs_no_torch() -> None:
    code = "import sys, slt_infer.models; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
