"""The graph rules of docs/format.md, section 4, for the independent decoder."""

from __future__ import annotations

import math
from typing import Any

from .refused import need

# What follows the operator's name: values, a layer, then numbers with their bounds.
WINDOW, PADDING = (1, 64), (0, 64)
NODES: dict[str, tuple[int, bool, tuple[tuple[int, int], ...]]] = {
    "conv2d": (1, True, (WINDOW, PADDING)),
    "linear": (1, True, ()),
    "relu": (1, False, ()),
    "add": (2, False, ()),
    "max_pool2d": (1, False, (WINDOW, WINDOW, PADDING)),
    "avg_pool2d": (1, False, (WINDOW, WINDOW, PADDING)),
    "global_avg_pool2d": (1, False, ()),
    "flatten": (1, False, ()),
}


def check_graph(header: dict[str, Any]) -> list[tuple[int, ...]]:
    """Shape of every value. Raises Refused where a node cannot read what it is given."""
    nodes, layers = header["nodes"], header["layers"]
    need(isinstance(nodes, list) and 1 <= len(nodes) <= 16384, "nodes")
    image = header["input"]
    shapes: list[tuple[int, ...]] = [(image["channels"], image["height"], image["width"])]
    need(math.prod(shapes[0]) <= 2**28, "elements of the image")
    uses = [0] * len(layers)
    for number, node in enumerate(nodes):
        need(isinstance(node, list) and node and isinstance(node[0], str) and node[0] in NODES, "operator")
        values, has_layer, bounds = NODES[node[0]]
        need(len(node) == 1 + values + has_layer + len(bounds), f"length of node {number}")
        need(all(type(n) is int and n >= 0 for n in node[1:]), f"numbers of node {number}")
        need(all(value <= number for value in node[1 : 1 + values]), f"node {number} reads a later value")
        sizes = node[1 + values + has_layer :]
        need(all(low <= n <= high for n, (low, high) in zip(sizes, bounds, strict=True)), "sizes of a node")
        layer = None
        if has_layer:
            need(node[2] < len(layers), f"node {number} names no layer")
            layer = layers[node[2]]
            uses[node[2]] += 1
        shapes.append(_shape(node, [shapes[value] for value in node[1 : 1 + values]], layer))
        need(math.prod(shapes[-1]) <= 2**28, f"elements of value {number + 1}")
    need(all(count == 1 for count in uses), "a layer is not used by exactly one node")
    need(len(shapes[-1]) == 1, "the output is not flat")
    return shapes


def _shape(node: list[Any], given: list[tuple[int, ...]], layer: dict[str, Any] | None) -> tuple[int, ...]:
    operator, shape = node[0], given[0]
    if operator in ("relu", "add"):
        need(given[0] == given[-1], "add of two shapes")
        return shape
    if operator == "flatten":
        return (math.prod(shape),)
    if operator == "linear":
        assert layer is not None
        need((layer["rows"], layer["columns"], layer["groups"]) == (1, 1, 1), "kernel of a linear layer")
        need(shape == (layer["inputs"],), "input of a linear layer")
        return (layer["out"],)
    need(len(shape) == 3, "a flat value where an image is wanted")
    if operator == "global_avg_pool2d":
        return shape[:1]
    if operator == "conv2d":
        assert layer is not None
        need(layer["inputs"] * layer["groups"] == shape[0], "input channels of a convolution")
        kernel, (stride, padding), out = (layer["rows"], layer["columns"]), node[3:], layer["out"]
    else:
        kernel, (stride, padding), out = (node[2], node[2]), node[3:], shape[0]
        need(padding <= node[2] // 2, "padding of a pool")
    rows, columns = ((n + 2 * padding - k) // stride + 1 for n, k in zip(shape[1:], kernel, strict=True))
    need(rows >= 1 and columns >= 1, "a kernel larger than its input")
    return out, rows, columns
