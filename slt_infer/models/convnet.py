"""Conv2, Conv4 and Conv6 (Frankle & Carbin 2019): small VGGs without normalisation."""

from __future__ import annotations

from collections.abc import Callable

from slt_infer.models.graph import Graph, scaled
from slt_infer.ticket import Network


def convnet(depth: int) -> Callable[[str, tuple[int, int, int], int, float], Network]:
    """Builder of the network with `depth` convolutions.

    Convolutions 3x3 of 64, 64, pool, 128, 128, pool, 256, 256, pool channels, of which the first `depth`,
    then linear layers of 256, 256 and the classes; ReLU after each but the last. The width factor scales all
    of these but the classes (Conv6 of IteRand, section 5: 64r to 256r and 256r linear).
    """

    def build(name: str, input: tuple[int, int, int], classes: int, factor: float) -> Network:
        graph, value = Graph(name, input), 0
        channels, height, width = input
        for number in range(1, depth + 1):
            out = scaled((64, 128, 256)[(number - 1) // 2], factor)
            value = graph.relu(graph.conv(value, f"conv{number}", channels, out, 3))
            channels = out
            if number % 2 == 0:
                value = graph.max_pool(value, 2, 2)
                height, width = height // 2, width // 2
        value, features, hidden = graph.flatten(value), max(1, channels * height * width), scaled(256, factor)
        value = graph.relu(graph.linear(value, "fc1", features, hidden))
        value = graph.relu(graph.linear(value, "fc2", hidden, hidden))
        graph.linear(value, "fc3", hidden, classes)
        return graph.network()

    return build
