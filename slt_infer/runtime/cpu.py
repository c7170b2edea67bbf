"""The `cpu` backend: the C++ kernels on one arena, in f32."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from slt_infer import _core
from slt_infer.codec import core_layer
from slt_infer.errors import SltError
from slt_infer.runtime.schedule import Schedule, Step, schedule
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Relu,
    Source,
    Ticket,
)

Mode = Literal["stream", "resident"]
Keep = Literal["none", "planes", "lists"]

ARENA_BYTES = 2**26  # of a pass over more than one image
LIST_DENSITY = 1 / 8


@dataclass(frozen=True)
class LayerReport:
    """How a plan runs a layer.

    weight_bytes: what is kept of its weights, the coded mask or the resident form.
    """

    name: str
    operator: str
    kernel: str
    density: float
    weight_bytes: int


def kernel_of(operator: str, density: float, mode: Mode) -> tuple[Keep, str]:
    """What a layer keeps and the name of its kernel, by operator, density and mode."""
    if operator == "linear":
        return ("none" if mode == "stream" else "planes"), "masked lanes"
    if mode == "stream":
        return "none", "lists of a row group"
    return ("lists", "lists") if density <= LIST_DENSITY else ("planes", "planes, lists of a row group")


class Layers:
    """The layers of a ticket with their weights in the form that the kernels read."""

    def __init__(self, ticket: Ticket, mode: Mode, threads: int, isa: str) -> None:
        self.memory = _core.WeightMemory()
        self.work = _core.Workspace(self.memory, threads, isa)
        self.network = ticket.network
        self.affines = [scale_and_shift(layer) for layer in ticket.layers]
        self.weights: list[_core.LayerWeights] = []
        self.report: list[LayerReport] = []
        shapes = ticket.network.shapes()
        nodes = {node.layer: node for node in ticket.network.nodes if isinstance(node, Conv2d | Linear)}
        # What regenerates the weights for a resident form is not kept.
        builder = self.work if mode == "stream" else _core.Workspace(self.memory, threads, isa)
        for i, layer in enumerate(ticket.layers):
            self._add(ticket.source, layer, nodes[i], shapes[nodes[i].value], mode, builder)

    def _add(
        self,
        source: Source,
        layer: Layer,
        node: Conv2d | Linear,
        given: tuple[int, ...],
        mode: Mode,
        builder: _core.Workspace,
    ) -> None:
        shape, convolution = layer.shape, isinstance(node, Conv2d)
        if layer.coats or layer.flips is not None:
            message = (
                'has several coats, or flips, which the backend cpu does not run; backend="reference" does'
            )
            raise SltError("unsupported", message, f"layer {shape.name}")
        if isinstance(node, Conv2d) and _padded_elements(given, node.padding) >= 2**32:
            raise SltError(
                "memory", "wants an image of 2^32 numbers, padding included", f"layer {shape.name}"
            )
        operator = "conv2d" if convolution else "linear"
        density = layer.kept / shape.weights
        keep, kernel = kernel_of(operator, density, mode)
        code = core_layer(source, shape, layer.id, layer.freeze, layer.code, self.memory)
        weights = _core.LayerWeights(
            code,
            keep,
            image=(given[0], given[1], given[2]) if convolution else (shape.inputs, 1, 1),
            kernel=shape.kernel,
            groups=shape.groups,
            stride=node.stride if isinstance(node, Conv2d) else 1,
            padding=node.padding if isinstance(node, Conv2d) else 0,
            work=builder,
        )
        if keep == "lists" and weights.kept == "planes":
            kernel = "planes, lists of a row group"
        kept_bytes = len(layer.code.payload) if mode == "stream" else weights.resident_bytes
        self.weights.append(weights)
        self.report.append(LayerReport(shape.name, operator, kernel, density, kept_bytes))

    def scratch_bytes(self) -> int:
        """Panels and padded images of the layer that wants most, for one image."""
        convolutions = {node.layer for node in self.network.nodes if isinstance(node, Conv2d)}
        return max((math.ceil(self.weights[i].scratch_bytes(self.work)) for i in convolutions), default=0)

    def sums(self, node: Conv2d | Linear, x: np.ndarray, out: np.ndarray) -> None:
        """Sums with weights +-1 of x [N, ...] into out [N, out, ...]."""
        weights = self.weights[node.layer]
        (weights.conv2d if isinstance(node, Conv2d) else weights.linear)(self.work, x, out)

    def call(self, step: Step, x: list[np.ndarray], out: np.ndarray) -> Callable[[], None]:
        """What computes one step from contiguous float32 arrays [N, ...]."""
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


def _padded_elements(image: tuple[int, ...], padding: int) -> int:
    return image[0] * (image[1] + 2 * padding) * (image[2] + 2 * padding)


def scale_and_shift(layer: Layer) -> tuple[np.ndarray, np.ndarray | None]:
    """float32 [out] each: the layer's affine, or its constant and no shift."""
    if layer.affine is None:
        return np.full(layer.shape.out, layer.constant, dtype=np.float32), None
    scale, shift = np.ascontiguousarray(layer.affine, dtype=np.float32)
    return scale, shift


class CpuBackend:
    """Runs batches of any size, in passes of as many images as ARENA_BYTES hold (at least one)."""

    def __init__(self, ticket: Ticket, mode: Mode, threads: int, isa: str, max_memory: int) -> None:
        self.schedule: Schedule = schedule(ticket.network)
        arena = 4 * self.schedule.arena
        if arena > max_memory:  # before anything is allocated
            raise SltError(
                "memory", f"one image needs {arena} bytes of activations, over {max_memory}", "plan"
            )
        self.layers = Layers(ticket, mode, threads, isa)
        needed = arena + self.layers.scratch_bytes() + self.layers.memory.current
        if needed > max_memory:
            raise SltError("memory", f"one image needs {needed} bytes, over {max_memory}", "plan")
        self.images_at_once = max(1, min(ARENA_BYTES, max_memory - needed + arena) // arena)
        self.isa: str = self.layers.work.isa
        self.report = self.layers.report
        self._arena = np.empty(0, dtype=np.float32)
        self._passes: dict[int, _Pass] = {}

    @property
    def peak_weight_bytes(self) -> int:
        return int(self.layers.memory.peak)

    def run(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, C, H, W] to float32 [N, classes]."""
        logits = np.empty((len(images), *self.schedule.shapes[-1]), dtype=np.float32)
        for first in range(0, len(images), self.images_at_once):
            part = images[first : first + self.images_at_once]
            self._pass(len(part)).run(part, logits[first : first + len(part)])
        return logits

    def _pass(self, images: int) -> _Pass:
        if images not in self._passes:
            if images * self.schedule.arena > self._arena.size:
                self._arena, self._passes = _aligned(images * self.schedule.arena), {}
            if len(self._passes) >= 8:
                self._passes.clear()
            self._passes[images] = _Pass(self.schedule, self.layers, self._arena, images)
        return self._passes[images]


class _Pass:
    """All steps bound to their places in the arena, for one number of images."""

    def __init__(self, plan: Schedule, layers: Layers, arena: np.ndarray, images: int) -> None:
        def view(value: int) -> np.ndarray:
            shape = (images, *plan.shapes[value])
            begin = images * plan.place[value]
            return arena[begin : begin + math.prod(shape)].reshape(shape)

        steps = [step for step in plan.steps if not isinstance(step.node, Flatten)]
        self.image, self.logits = view(0), view(len(plan.shapes) - 1)
        self.calls = [layers.call(s, [view(v) for v in s.inputs], view(s.output)) for s in steps]

    def run(self, images: np.ndarray, logits: np.ndarray) -> None:
        self.image[...] = images
        for call in self.calls:
            call()
        logits[...] = self.logits


def _aligned(floats: int) -> np.ndarray:
    """Uninitialised float32 [floats] that begins at a multiple of 64 bytes."""
    try:
        raw = np.empty(floats + 16, dtype=np.float32)
    except MemoryError as error:
        raise SltError("memory", f"no {4 * floats} bytes for activations", "plan") from error
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip : skip + floats]
