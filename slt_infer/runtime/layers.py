"""The layers of a ticket in the forms that the C++ kernels read: what f32 and int8 share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np

from slt_infer import _core
from slt_infer.codec import core_layer
from slt_infer.errors import SltError
from slt_infer.runtime.schedule import Step
from slt_infer.ticket import Conv2d, Layer, LayerShape, Linear, Source, Ticket

Mode = Literal["stream", "resident"]
Keep = Literal["none", "planes", "lists"]
Choice = tuple[Keep, str]  # what a layer keeps, and the name of its kernel
Weights = TypeVar("Weights", _core.LayerWeights, _core.Int8Layer)

LIST_DENSITY = 1 / 5  # resident lists, a byte a kept weight and more, stay below 2 bits a weight
MOST_TAPS = 128  # kMostTaps of csrc/ops.h: longer rows of one channel are like those of more


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


LISTS = "lists of a row group"  # how additions read planes


def addition_kernel(
    operator: str, shape: LayerShape, density: float, mode: Mode, planes: str = LISTS
) -> Choice:
    """What a layer keeps and the name of its kernel of additions, by operator, shape, density and mode."""
    if operator == "linear":
        return ("none" if mode == "stream" else "planes"), "masked lanes"
    if shape.inputs == 1 and shape.fan_in <= MOST_TAPS:
        return ("none" if mode == "stream" else "planes"), "taps"
    if mode == "stream":
        return "none", planes
    return ("lists", "lists") if density <= LIST_DENSITY else ("planes", f"planes, {planes}")


def resident_bound(ticket: Ticket) -> int:
    """Bytes that resident weights take at most."""
    return sum(-(-layer.shape.weights // 4) + 8 * layer.shape.out for layer in ticket.layers)


class Geometry(NamedTuple):
    """What a layer's weights meet; a linear layer is a convolution of images of one pixel."""

    image: tuple[int, int, int]
    kernel: tuple[int, int]
    groups: int
    stride: int
    padding: int


class Layers(ABC, Generic[Weights]):
    """The layers of a ticket in the form that the kernels of one number type read, and what computes each
    step of a schedule.

    dtype: of values in the arena.
    """

    dtype: type[np.generic]
    logits: type[np.generic]

    def __init__(self, ticket: Ticket, mode: Mode, threads: int, isa: str) -> None:
        self.memory, self.threads = _core.WeightMemory(), threads
        self.work = _core.Workspace(self.memory, threads, isa)
        self.network = ticket.network
        self.weights: list[Weights] = []
        self.report: list[LayerReport] = []
        self.group_bytes = 0  # what the row groups of a layer take at most
        shapes, nodes = ticket.network.shapes(), ticket.network.nodes
        users = {
            node.layer: (node, made)
            for node, made in zip(nodes, shapes[1:], strict=True)
            if isinstance(node, Conv2d | Linear)
        }
        # What regenerates the weights for a resident form is not kept.
        builder = self.work if mode == "stream" else _core.Workspace(self.memory, threads, isa)
        for i, layer in enumerate(ticket.layers):
            node, made = users[i]
            self._add(ticket.source, layer, node, shapes[node.value], made, mode, builder)

    @abstractmethod
    def kernel_of(self, operator: str, shape: LayerShape, pixels: int, density: float, mode: Mode) -> Choice:
        """What a layer that gives images of so many pixels keeps, and the name of its kernel."""

    def of_planes(self, shape: LayerShape, pixels: int) -> str:
        """How a convolution by additions reads planes."""
        return LISTS

    @abstractmethod
    def weights_of(
        self, code: _core.LayerCode, keep: Keep, kernel: str, geometry: Geometry, work: _core.Workspace
    ) -> Weights: ...

    @abstractmethod
    def take(self, images: np.ndarray, out: np.ndarray) -> None:
        """Images, float32 [N, C, H, W], as value 0."""

    @abstractmethod
    def call(self, step: Step, x: list[np.ndarray], out: np.ndarray) -> Callable[[], None]:
        """What computes one step from contiguous arrays [N, ...]."""

    def gives_logits(self, step: Step) -> bool:
        """Whether a step that makes the output gives it in the type of logits, outside the arena."""
        return False

    def scratch_bytes(self) -> int:
        """Of the layers that want most: panels and padded images for one image, and a row group's weights."""
        convolutions = {node.layer for node in self.network.nodes if isinstance(node, Conv2d)}
        panels = max((math.ceil(self.weights[i].scratch_bytes(self.work)) for i in convolutions), default=0)
        return panels + self.group_bytes

    def _add(
        self,
        source: Source,
        layer: Layer,
        node: Conv2d | Linear,
        given: tuple[int, ...],
        made: tuple[int, ...],
        mode: Mode,
        builder: _core.Workspace,
    ) -> None:
        shape = layer.shape
        if layer.coats or layer.flips is not None:
            message = (
                'has several coats, or flips, which the backend cpu does not run; backend="reference" does'
            )
            raise SltError("unsupported", message, f"layer {shape.name}")
        if isinstance(node, Conv2d) and _padded_elements(given, node.padding) >= 2**32:
            raise SltError(
                "memory", "wants an image of 2^32 numbers, padding included", f"layer {shape.name}"
            )
        operator = "conv2d" if isinstance(node, Conv2d) else "linear"
        density = layer.kept / shape.weights
        keep, kernel = self.kernel_of(operator, shape, math.prod(made[1:]), density, mode)
        code = core_layer(source, shape, layer.id, layer.freeze, layer.code, self.memory)
        if isinstance(node, Conv2d):
            image = (given[0], given[1], given[2])
            geometry = Geometry(image, shape.kernel, shape.groups, node.stride, node.padding)
        else:
            geometry = Geometry((shape.inputs, 1, 1), (1, 1), 1, 1, 0)
        self.group_bytes = max(self.group_bytes, code.group_bytes(self.threads))
        weights = self.weights_of(code, keep, kernel, geometry, builder)
        if keep == "lists" and weights.kept == "planes":
            kernel = f"planes, {self.of_planes(shape, math.prod(made[1:]))}"
        kept_bytes = len(layer.code.payload) if mode == "stream" else weights.resident_bytes
        self.weights.append(weights)
        self.report.append(LayerReport(shape.name, operator, kernel, density, kept_bytes))


def _padded_elements(image: tuple[int, ...], padding: int) -> int:
    return image[0] * (image[1] + 2 * padding) * (image[2] + 2 * padding)
