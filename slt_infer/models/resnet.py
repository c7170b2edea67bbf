"""ResNets (He et al. 2016), CIFAR and ImageNet forms; wide ones (Zagoruyko & Komodakis 2016).

Batch norm without learned parameters after each convolution. The width factor scales the four stages (64r,
128r, 256r, 512r) and leaves the stem at 64 channels: the rule of IteRand (section 5 and its parameter
counts). The paper on frozen source networks varies the width too but prints neither factors nor counts.
"""

from __future__ import annotations

from collections.abc import Callable

from slt_infer.models.graph import Graph, scaled
from slt_infer.ticket import Network

Builder = Callable[[str, tuple[int, int, int], int, float], Network]

_STEM = 64


def cifar_resnet(blocks: tuple[int, ...]) -> Builder:
    """Builder of the CIFAR form: stem 3x3 with stride 1, no pool, stages of basic blocks."""

    def build(name: str, input: tuple[int, int, int], classes: int, factor: float) -> Network:
        graph = Graph(name, input)
        value = graph.relu(graph.conv(0, "stem", input[0], _STEM, 3, norm=True))
        return _stages(graph, value, blocks, classes, factor, bottleneck=False, wide=1)

    return build


def imagenet_resnet(blocks: tuple[int, ...], bottleneck: bool, wide: int = 1) -> Builder:
    """Builder of the ImageNet form: stem 7x7 with stride 2, max pool 3x3 with stride 2.

    wide: multiplies the channels inside of the blocks, not those between them (2 in Wide ResNet-50-2).
    """

    def build(name: str, input: tuple[int, int, int], classes: int, factor: float) -> Network:
        graph = Graph(name, input)
        value = graph.relu(graph.conv(0, "stem", input[0], _STEM, 7, 2, norm=True))
        value = graph.max_pool(value, 3, 2, 1)
        return _stages(graph, value, blocks, classes, factor, bottleneck, wide)

    return build


def _stages(
    graph: Graph,
    value: int,
    blocks: tuple[int, ...],
    classes: int,
    factor: float,
    bottleneck: bool,
    wide: int,
) -> Network:
    channels, block_of = _STEM, _bottleneck if bottleneck else _basic
    for stage, count in enumerate(blocks):
        width = scaled(64 * 2**stage, factor)
        inner, out = wide * width, 4 * width if bottleneck else width
        for block in range(count):
            name = f"stage{stage + 1}.block{block + 1}"
            stride = 2 if stage > 0 and block == 0 else 1
            main = block_of(graph, value, name, channels, inner, out, stride)
            if stride != 1 or channels != out:
                value = graph.conv(value, f"{name}.shortcut", channels, out, 1, stride, norm=True)
            value, channels = graph.relu(graph.add(main, value)), out
    graph.linear(graph.global_average(value), "fc", channels, classes)
    return graph.network()


def _basic(graph: Graph, value: int, name: str, channels: int, inner: int, out: int, stride: int) -> int:
    """3x3, 3x3; the stride is the first one's."""
    value = graph.relu(graph.conv(value, f"{name}.conv1", channels, inner, 3, stride, norm=True))
    return graph.conv(value, f"{name}.conv2", inner, out, 3, norm=True)


def _bottleneck(graph: Graph, value: int, name: str, channels: int, inner: int, out: int, stride: int) -> int:
    """1x1, 3x3, 1x1; the stride is the 3x3's."""
    value = graph.relu(graph.conv(value, f"{name}.conv1", channels, inner, 1, norm=True))
    value = graph.relu(graph.conv(value, f"{name}.conv2", inner, inner, 3, stride, norm=True))
    return graph.conv(value, f"{name}.conv3", inner, out, 1, norm=True)
