"""Steps of a schedule in f32, by the C++ kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from slt_infer import _core
from slt_infer.runtime.layers import Choice, Geometry, Keep, Layers, Mode, addition_kernel
from slt_infer.runtime.schedule import Step
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    GlobalAvgPool2d,
    Layer,
    LayerShape,
    Linear,
    MaxPool2d,
    Relu,
    Ticket,
)


class F32Layers(Layers[_core.LayerWeights]):
    dtype = np.float32
    logits = np.float32

    def __init__(self, ticket: Ticket, mode: Mode, threads: int, isa: str) -> None:
        super().__init__(ticket, mode, threads, isa)
        self.affines = [scale_and_shift(layer) for layer in ticket.layers]

    def kernel_of(self, operator: str, shape: LayerShape, pixels: int, density: float, mode: Mode) -> Choice:
        return addition_kernel(operator, shape, density, mode)

    def weights_of(
        self, code: _core.LayerCode, keep: Keep, kernel: str, geometry: Geometry, work: _core.Workspace
    ) -> _core.LayerWeights:
        return _core.LayerWeights(code, keep, *geometry, work)

    def take(self, images: np.ndarray, out: np.ndarray) -> None:
        out[...] = images

    def sums(self, node: Conv2d | Linear, x: np.ndarray, out: np.ndarray) -> None:
        """Sums with weights +-1 of x [N, ...] into out [N, out, ...]."""
        weights = self.weights[node.layer]
        (weights.conv2d if isinstance(node, Conv2d) else weights.linear)(self.work, x, out)

    def call(self, step: Step, x: list[np.ndarray], out: np.ndarray) -> Callable[[], None]:
        node, work = step.node, self.work
        if isinstance(node, Conv2d | Linear):
            weights, (scale, shift) = self.weights[node.layer], self.affines[node.layer]
            kernel = weights.conv2d if isinstance(node, Conv2d) else weights.linear
            return partial(kernel, work, x[0], out, scale, shift, step.relu)
        if isinstance(node, Add):
            return partial(_core.add, work, x[0], x[1], out, step.relu)
        if isinstance(node, Relu):
            return partial(_core.relu, work, x[0], out)
        if isinstance(node, MaxPool2d):
            return partial(_core.max_pool2d, work, x[0], out, node.kernel, node.stride, node.padding)
        if isinstance(node, AvgPool2d):
            return partial(_core.avg_pool2d, work, x[0], out, node.kernel, node.stride, node.padding)
        assert isinstance(node, GlobalAvgPool2d)
        return partial(_core.global_avg_pool2d, x[0], out)


def scale_and_shift(layer: Layer) -> tuple[np.ndarray, np.ndarray | None]:
    """float32 [out] each: the layer's affine, or its constant and no shift."""
    if layer.affine is None:
        return np.full(layer.shape.out, layer.constant, dtype=np.float32), None
    scale, shift = np.ascontiguousarray(layer.affine, dtype=np.float32)
    return scale, shift
