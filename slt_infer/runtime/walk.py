"""Runs a graph in f32 node by node, where every value is to be seen, not only the logits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from slt_infer import _core
from slt_infer.runtime.f32 import F32Layers
from slt_infer.runtime.schedule import Step
from slt_infer.ticket import Conv2d, Flatten, Linear, Ticket, inputs_of

Affine = Callable[[int, np.ndarray], np.ndarray]


def values(layers: F32Layers, images: np.ndarray, affine: Affine) -> Iterator[np.ndarray]:
    """Every value of the graph in order, float32 [N, ...]: the images first, the logits last. One is kept
    until its last reader has run.

    affine(i, sums) is given layer i's sums with weights +-1, float32 [N, out, ...], and returns the affine,
    float32 [2, out], to apply to them. images: float32 [N, C, H, W].
    """
    shapes, nodes = layers.network.shapes(), layers.network.nodes
    last = {value: number for number, node in enumerate(nodes) for value in inputs_of(node)}
    kept: dict[int, np.ndarray] = {0: np.ascontiguousarray(images, dtype=np.float32)}
    yield kept[0]
    for number, node in enumerate(nodes):
        given = [kept[value] for value in inputs_of(node)]
        out = np.empty((len(images), *shapes[number + 1]), dtype=np.float32)
        if isinstance(node, Conv2d | Linear):
            layers.sums(node, given[0], out)
            scale, shift = np.ascontiguousarray(affine(node.layer, out), dtype=np.float32)
            _core.scale_shift(layers.work, out, scale, shift, out)
        elif isinstance(node, Flatten):
            out = given[0].reshape(out.shape)
        else:
            layers.call(Step(node, inputs_of(node), number + 1), given, out)()
        kept[number + 1] = out
        del given
        for value in [v for v in kept if last.get(v, len(nodes)) <= number]:
            del kept[value]
        yield out


def accumulations(ticket: Ticket, images: np.ndarray, on_layer: Affine, threads: int = 1) -> np.ndarray:
    """Runs the graph with affines that are found on the way, as `values`; gives the logits [N, classes].

    The ticket's own affines are not read.
    """
    return deque(values(F32Layers(ticket, "stream", threads, ""), images, on_layer), maxlen=1).pop()
