"""Builds a graph node by node, in forward order: layer ids follow the order of first use."""

from __future__ import annotations

from slt_infer.errors import SltError
from slt_infer.ticket import (
    Add,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    MaxPool2d,
    Network,
    Node,
    Relu,
)


class Graph:
    """Values are numbered as in `Network`: 0 is the image; each method returns the one it makes."""

    def __init__(self, name: str, input: tuple[int, int, int]) -> None:
        if len(input) != 3 or min(input) < 1:
            raise SltError("bad-network", f"input {input} is not (channels, height, width)", name)
        self.name, self.input = name, input
        self.layers: list[LayerShape] = []
        self.nodes: list[Node] = []

    def _node(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes)

    def conv(
        self, value: int, name: str, inputs: int, out: int, kernel: int, stride: int = 1, norm: bool = False
    ) -> int:
        """A convolution with zero padding kernel div 2, and a batch norm if `norm`."""
        self.layers.append(LayerShape(name, out, inputs, (kernel, kernel), affine=norm))
        return self._node(Conv2d(value, len(self.layers) - 1, stride, kernel // 2))

    def linear(self, value: int, name: str, inputs: int, out: int, norm: bool = False) -> int:
        self.layers.append(LayerShape(name, out, inputs, affine=norm))
        return self._node(Linear(value, len(self.layers) - 1))

    def relu(self, value: int) -> int:
        return self._node(Relu(value))

    def add(self, left: int, right: int) -> int:
        return self._node(Add(left, right))

    def max_pool(self, value: int, kernel: int, stride: int, padding: int = 0) -> int:
        return self._node(MaxPool2d(value, kernel, stride, padding))

    def global_average(self, value: int) -> int:
        return self._node(GlobalAvgPool2d(value))

    def flatten(self, value: int) -> int:
        return self._node(Flatten(value))

    def network(self) -> Network:
        return Network(self.name, self.input, tuple(self.layers), tuple(self.nodes))


def scaled(width: int, factor: float) -> int:
    """A width times the width factor, rounded to the nearest integer, at least 1."""
    return max(1, int(width * factor + 0.5))
