"""The single layers that `slt-bench kernels` runs, by name."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from slt_infer.codec import coded_layer
from slt_infer.codec.tickets import synthetic_mask
from slt_infer.errors import SltError
from slt_infer.freeze import thresholds
from slt_infer.ticket import Layer, LayerShape, Source

SOURCE = Source(seed=1)
_CONV = re.compile(r"(\d+)x(\d+)x(\d+)-(\d+)-(\d+)(?:/(\d+))?(?:g(\d+))?")
_LINEAR = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Shape:
    """A layer and the image, (channels, height, width), that it is given; (inputs, 1, 1) for linear."""

    name: str
    op: str
    image: tuple[int, int, int]
    layer: LayerShape
    stride: int = 1
    padding: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        rows, columns = (
            (n + 2 * self.padding - k) // self.stride + 1
            for n, k in zip(self.image[1:], self.layer.kernel, strict=True)
        )
        return rows, columns

    @property
    def pixels(self) -> int:
        return math.prod(self.size)

    @property
    def macs(self) -> int:
        return self.layer.weights * self.pixels


def shape_of(name: str) -> Shape:
    """The shape that CxHxW-OUT-KERNEL[/STRIDE][gGROUPS] or INPUTS-OUT names; padding is kernel // 2.

    Raises SltError (`bad-shape`) for another name, or numbers that fit no layer.
    """
    if form := _LINEAR.fullmatch(name):
        inputs, out = map(int, form.groups())
        shape = Shape(name, "linear", (inputs, 1, 1), LayerShape(name, out, inputs))
    elif form := _CONV.fullmatch(name):
        channels, height, width, out, kernel, stride, groups = (int(part or 1) for part in form.groups())
        if groups == 0 or channels % groups or out % groups or stride == 0:
            raise SltError("bad-shape", "groups must divide the channels, a stride is at least 1", name)
        layer = LayerShape(name, out, channels // groups, (kernel, kernel), groups)
        shape = Shape(name, "conv2d", (channels, height, width), layer, stride, kernel // 2)
    else:
        raise SltError("bad-shape", "is not CxHxW-OUT-KERNEL[/STRIDE][gGROUPS] or INPUTS-OUT", name)
    if min(shape.macs, shape.pixels, *shape.image) < 1 or shape.macs > 2**36:
        raise SltError("bad-shape", "has no output, or over 2^36 multiply-accumulates", name)
    return shape


def layer_of(shape: Shape, density: float) -> Layer:
    """A layer that keeps that share of its weights, none of them frozen; seeded."""
    freeze = thresholds([shape.layer], 0, 0)[0]
    weights = shape.layer.weights
    mask = synthetic_mask(SOURCE, 0, weights, round(density * weights))
    return coded_layer(SOURCE, shape.layer, 0, freeze, mask)


def multiplier(shape: Shape, layer: Layer) -> tuple[int, int]:
    """(m, s): m / 2^s brings the layer's sums of uniform int8 numbers to a standard deviation of about 30."""
    spread = 74 * math.sqrt(max(1.0, layer.kept / shape.layer.out))
    s = min(22, int(math.log2(32767 * spread / 30)))
    return round(30 / spread * 2**s), s
