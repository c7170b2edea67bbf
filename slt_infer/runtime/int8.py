"""Steps of a schedule in int8, by the C++ kernels (docs/numerics.md, int8)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from slt_infer import _core
from slt_infer.errors import SltError
from slt_infer.quantise import Rounding, rounding, scales
from slt_infer.runtime.layers import (
    LIST_DENSITY,
    LISTS,
    Choice,
    Geometry,
    Keep,
    Layers,
    Mode,
    addition_kernel,
)
from slt_infer.runtime.schedule import Step
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    MaxPool2d,
    Quantisation,
    Relu,
    Ticket,
    inputs_of,
)

DOT = "dot products"
WORDS = "words of a row group"
# Convolutions with rows as long are faster as dot products than as additions where they are denser than this
# (the second number: where they give many pixels) and, where lists are made anew at every use, where they
# give few pixels. Timed with AVX2 and scalar code (docs/results/kernels.md). The others were not timed: an
# instruction for four products gains more on additions than it costs lists.
DOT_DENSITY = {
    "scalar": (1.0, 1.0),
    "avx2": (LIST_DENSITY, 0.45),
    "avx512": (LIST_DENSITY, 0.45),
    "avx512vnni": (1 / 8, 1 / 8),
    "neon": (LIST_DENSITY, 0.45),
    "neondot": (1 / 8, 1 / 8),
}
DOT_POSITIONS = 256  # of a row
FEW_PIXELS, MANY_PIXELS = 64, 512
# Images whose pixels are one vector of int16 are added without lists, up to this density faster than dot
# products; where there are several in a call, with lists.
VECTOR_PIXELS = {"scalar": 8, "avx2": 16, "avx512": 32, "avx512vnni": 32, "neon": 8, "neondot": 8}
VECTOR_DENSITY = 0.08


def quantisation_of(ticket: Ticket, where: str = "ticket") -> Quantisation:
    """Raises SltError (code `not-quantised`) where the ticket has none; where: what the user calls it."""
    if ticket.quantisation is None:
        message = (
            "holds no int8 scales: `slt-export RUN -o FILE --int8` or, in Python, "
            "slt_infer.runtime.calibrated adds them; f32 needs none"
        )
        raise SltError("not-quantised", message, where)
    return ticket.quantisation


def logit_scale(ticket: Ticket) -> float:
    """What one unit of an int8 logit stands for."""
    scale = scales(ticket.network, quantisation_of(ticket))[-1]
    assert scale is not None  # the output is never joined
    return scale


class Int8Layers(Layers[_core.Int8Layer]):
    """multiplierless: no kernel of dot products."""

    dtype = np.int8
    logits = np.int32

    def __init__(self, ticket: Ticket, mode: Mode, threads: int, isa: str, multiplierless: bool) -> None:
        self.image_scale = scales(ticket.network, quantisation_of(ticket))[0]
        self.roundings = rounding(ticket)
        self.multiplierless = multiplierless
        super().__init__(ticket, mode, threads, isa)

    def kernel_of(self, operator: str, shape: LayerShape, pixels: int, density: float, mode: Mode) -> Choice:
        least = DOT_DENSITY[self.work.isa][pixels >= MANY_PIXELS]
        listless = pixels <= VECTOR_PIXELS[self.work.isa] and density <= VECTOR_DENSITY
        dense = density > least or (mode == "stream" and pixels < FEW_PIXELS and least < 1 and not listless)
        long = operator == "conv2d" and shape.fan_in >= DOT_POSITIONS
        if dense and long and not self.multiplierless:
            return ("none" if mode == "stream" else "planes"), DOT
        return addition_kernel(operator, shape, density, mode, self.of_planes(shape, pixels))

    def of_planes(self, shape: LayerShape, pixels: int) -> str:
        return WORDS if pixels <= VECTOR_PIXELS[self.work.isa] and shape.groups == 1 else LISTS

    def weights_of(
        self, code: _core.LayerCode, keep: Keep, kernel: str, geometry: Geometry, work: _core.Workspace
    ) -> _core.Int8Layer:
        return _core.Int8Layer(code, keep, "dot" if kernel == DOT else "add", *geometry, work)

    def take(self, images: np.ndarray, out: np.ndarray) -> None:
        assert self.image_scale is not None
        _core.quantise(self.work, np.ascontiguousarray(images), self.image_scale, out)

    def gives_logits(self, step: Step) -> bool:
        return not step.relu and isinstance(step.node, Conv2d | Linear | Add | GlobalAvgPool2d)

    def call(self, step: Step, x: list[np.ndarray], out: np.ndarray) -> Callable[[], None]:
        """Where there is a second array in x it is the residual, or the right operand of an add."""
        node, work = step.node, self.work
        if isinstance(node, Relu):
            return partial(_core.relu_int8, work, x[0], out)
        if isinstance(node, MaxPool2d):
            return partial(_core.max_pool2d_int8, work, x[0], out, node.kernel, node.stride, node.padding)
        requantiser = self._requantiser(step)
        if isinstance(node, Conv2d | Linear):
            weights = self.weights[node.layer]
            kernel = weights.conv2d if isinstance(node, Conv2d) else weights.linear
            return partial(kernel, work, x[0], out, requantiser, x[1] if len(x) == 2 else None)
        if isinstance(node, Add):
            return partial(_core.add_int8, work, x[0], x[1], out, requantiser)
        if isinstance(node, AvgPool2d):
            window = node.kernel, node.stride, node.padding
            return partial(_core.sum_pool2d_int8, work, x[0], out, *window, requantiser)
        assert isinstance(node, GlobalAvgPool2d)
        return partial(_core.global_sum_int8, x[0], out, requantiser)

    def _requantiser(self, step: Step) -> _core.Requantiser:
        """Of the value that the step makes, before a relu that is part of it."""
        rounded = inputs_of(self.network.nodes[step.output - 1])[0] if step.relu else step.output
        numbers: Rounding = self.roundings[rounded]
        low = 0 if step.relu else -127
        return _core.Requantiser(numbers.m, numbers.b, numbers.s, numbers.m_r, low)
