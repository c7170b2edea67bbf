"""Multilayer perceptrons: `mlp-784-300-100-10`."""

from __future__ import annotations

import itertools
import math

from slt_infer.errors import SltError
from slt_infer.models.graph import Graph, scaled
from slt_infer.ticket import Network


def mlp(
    name: str, base: str, input: tuple[int, int, int] | None, classes: int | None, factor: float
) -> Network:
    """The MLP that `base` names: inputs, hidden widths, classes. Batch norm and ReLU after each hidden layer.

    An image is flattened first; without `input` it is one grey square if the number of inputs is a square.
    Raises SltError (`bad-network`) for widths below 1 or sizes that contradict the name.
    """
    fields = base.split("-")[1:]
    if len(fields) < 2 or not all(field.isdecimal() and 0 < int(field) <= 2**20 for field in fields):
        raise SltError("bad-network", "an MLP is named mlp-INPUTS-HIDDEN-...-CLASSES, each 1 to 2^20", name)
    inputs, *hidden, last = map(int, fields)
    side = math.isqrt(inputs)
    if input is None:
        input = (1, side, side) if side * side == inputs else (inputs, 1, 1)
    if math.prod(input) != inputs:
        raise SltError(
            "bad-network", f"reads {inputs} numbers, an image {input} has {math.prod(input)}", name
        )
    if classes is not None and classes != last:
        raise SltError("bad-network", f"has {last} classes, {classes} are asked for", name)
    graph = Graph(name, input)
    widths = [inputs, *(scaled(width, factor) for width in hidden), last]
    value = graph.flatten(0)
    for number, (before, width) in enumerate(itertools.pairwise(widths), 1):
        final = number == len(widths) - 1
        value = graph.linear(value, f"fc{number}", before, width, norm=not final)
        if not final:
            value = graph.relu(value)
    return graph.network()
