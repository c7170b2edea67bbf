"""ResNets (He et al. 2016), CIFAR and ImageNet forms.

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
        return _stages(graph, value, blocks, classes, factor, bottleneck=False)

    return build


def imagenet_resnet(blocks: tuple[int, ...], bottleneck: bool) -> Builder:
    """Builder of the ImageNet form: stem 7x7 with stride 2, max pool 3x3 with stride 2."""

    def build(name: str, input: tuple[int, int, int], classes: int, factor: float) -> Network:
        graph = Graph(name, input)
        value = graph.relu(graph.conv(0, "stem", input[0], _STEM, 7, 2, norm=True))
        value = graph.max_pool(value, 3, 2, 1)
        return _stages(graph, value, blocks, classes, factor, bottleneck)

    return build


def _stages(
    graph: Graph, value: int, blocks: tuple[int, ...], classes: int, factor: float, bottleneck: bool
) -> Network:
    channels = _STEM
    for stage, count in enumerate(blocks):
        width = scaled(64 * 2**stage, factor)
        out = 4 * width if bottleneck else width
        for block in range(count):
            name = f"stage{stage + 1}.block{block + 1}"
            stride = 2 if stage > 0 and block == 0 else 1
            main = (_bottleneck if bottleneck else _basic)(graph, value, name, channels, width, stride)
            if stride != 1 or channels != out:
                value = graph.conv(value, f"{name}.shortcut", channels, out, 1, stride, norm=True)
            value, channels = graph.relu(graph.add(main, value)), out
    graph.linear(graph.global_average(value), "fc", channels, classes)
    return graph.network()


def _basic(graph: Graph, value: int, name: str, channels: int, width: int, stride: int) -> int:
    value = graph.relu(graph.conv(value, f"{name}.conv1", channels, width, 3, stride, norm=True))
    return graph.conv(value, f"{name}.conv2", width, width, 3, norm=True)


def _bottleneck(graph: Graph, value: int, name: str, channels: int, width: int, stride: int) -> int:
    """1x1, 3x3, 1x1; the stride is the 3x3's."""
    value = graph.relu(graph.conv(value, f"{name}.conv1", channels, width, 1, norm=True))
    value = graph.relu(graph.conv(value, f"{name}.conv2", width, width, 3, stride, norm=True))
    return graph.conv(value, f"{name}.conv3", width, 4 * width, 1, norm=True)
