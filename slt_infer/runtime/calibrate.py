"""The scales of a quantised ticket, from what its values are in f32 on some images."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from slt_infer.errors import SltError, TicketError
from slt_infer.quantise import LARGEST, code_of, nearest_power, own_scale, scale_of
from slt_infer.runtime.f32 import F32Layers, scale_and_shift
from slt_infer.runtime.images import as_numpy
from slt_infer.runtime.walk import values
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Network,
    Quantisation,
    Relu,
    Ticket,
    inputs_of,
)

Method = Literal["percentile", "max"]
PERCENTILE = 99.99

ELEMENTS = 2**21  # of a value in one pass, if an image has no more
BINS = 2**15  # of |x| by the high half of a float32's bits: 128 to an octave
FINEST = 2.0**7  # a unit of a sum in units of the logits
COARSEST = 2.0**14  # a unit of a sum in units of any other value: below the largest multiplier, 2^15 - 1
MAX_LOGIT = 2.0**30  # a factor 2 below int32, for what multipliers are rounded by


class Range:
    """The magnitudes of a value's numbers, seen bit by bit; takes 256 KiB however many they are."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.largest = 0.0

    def see(self, x: np.ndarray) -> None:
        """float32 of any shape."""
        if not np.isfinite(x).all():
            message = "not finite in f32 on these images: calibrate on images that the network was made for"
            raise SltError("bad-calibration", message, "calibration")
        magnitudes = np.abs(x).ravel()
        self.largest = max(self.largest, float(magnitudes.max(initial=0.0)))
        self.counts += np.bincount(magnitudes.view(np.uint32) >> 16, minlength=BINS)

    def within(self, percentile: float) -> float:
        """A magnitude that so many per cent of them are not above, at most 1/128 too large; the largest one
        for 100, and where those are all zeros.
        """
        wanted = math.ceil(percentile / 100 * int(self.counts.sum()))
        place = int(np.searchsorted(np.cumsum(self.counts), wanted))
        if place == 0:
            return self.largest
        return min(float(np.uint32((place + 1) << 16).view(np.float32)), self.largest)


def calibrated(
    ticket: Ticket,
    images: Any,
    method: Method = "percentile",
    percentile: float = PERCENTILE,
    pow2: bool = False,
) -> Ticket:
    """The ticket with a scale for every value that has one: 127 of them reach the largest magnitude that the
    value has in f32 on these images (`max`), or one that `percentile` per cent of its numbers are within.

    images: float32 [N, C, H, W], preprocessed, NumPy or torch (on the CPU); they run through in passes, so
    memory does not grow with N. Warns of values that are 0 on all of them, whose scales are guesses.
    pow2: every scale is a power of two. The logits' scale follows from the others: a unit of the last sums
    is worth up to FINEST units of the logits, as far as none can leave int32.

    Raises SltError: `bad-input` for images of another shape or none, `bad-method`, `bad-calibration` where a
    value is not finite; `unsupported` for coats and flips; TicketError for a ticket of several tasks.
    """
    if ticket.others:
        message = "the tasks of one file have no scales of their own: quantise each in a file of its own"
        raise TicketError("unsupported", message, "calibration")
    if method not in ("percentile", "max") or not 0 < percentile <= 100:
        message = f"{method!r} at {percentile}; there are max, and percentile above 0 and up to 100"
        raise SltError("bad-method", message, "calibration")
    network = ticket.network
    pixels = as_numpy(images, network.input)
    if not len(pixels):
        raise SltError("bad-input", "there are none: calibrate on one at least", "images")
    share = 100.0 if method == "max" else percentile
    ranges = _ranges(ticket, pixels, pow2)
    silent = [value for value, seen in ranges.items() if not seen.largest and value < len(network.nodes)]
    if silent:
        names = ", ".join(_name(ticket, value) for value in silent)
        message = f"0 on all calibration images, so that int8 may be wrong on others: {names}"
        warnings.warn(message, stacklevel=2)
    reaches = {value: seen.within(share) for value, seen in ranges.items()}
    known: dict[int, float] = {}  # scales
    codes = []
    for value, node in enumerate((None, *network.nodes)):
        if isinstance(node, Relu | MaxPool2d | Flatten):
            known[value] = known[node.value]
        elif value in reaches:
            step, most = _sums(ticket, value, known)
            least = max((reaches[value] or 1.0) / LARGEST, step / COARSEST)
            if value == len(network.nodes):
                least = max(step / FINEST, most / MAX_LOGIT) or 1.0
            codes.append(code_of(least, pow2=pow2))
            known[value] = scale_of(codes[-1])
    return replace(ticket, quantisation=Quantisation(tuple(codes), pow2))


def _ranges(ticket: Ticket, images: np.ndarray, pow2: bool) -> dict[int, Range]:
    """Of the values that have a scale. pow2: of what rounding multipliers to powers of two makes of them,
    which is a rounding of the affines, as the scales are powers of two themselves.
    """
    network = ticket.network
    ranges = {value: Range() for value in own_scale(network)}
    seen_as = {_last_alone(network, value): found for value, found in ranges.items()}
    layers = F32Layers(ticket, "resident", 1, "")

    affines = []
    for layer in ticket.layers:
        scale, shift = scale_and_shift(layer)
        affine = np.stack([scale, np.zeros_like(scale) if shift is None else shift])
        if pow2:
            affine *= np.divide(nearest_power(scale), scale, out=np.ones_like(scale), where=scale != 0)
        affines.append(affine)

    at_once = max(1, ELEMENTS // max(map(math.prod, network.shapes())))
    for first in range(0, len(images), at_once):
        for value, x in enumerate(
            values(layers, images[first : first + at_once], lambda i, sums: affines[i])
        ):
            if value in seen_as:
                seen_as[value].see(x)
    return ranges


def _name(ticket: Ticket, value: int) -> str:
    """What a person calls a value: after its layer, if one makes it."""
    if value == 0:
        return "the image"
    node = ticket.network.nodes[value - 1]
    if isinstance(node, Conv2d | Linear):
        return ticket.layers[node.layer].shape.name
    return f"{type(node).__name__} ({value})"


def _last_alone(network: Network, value: int) -> int:
    """What a value becomes through nodes that pass its scale on, each the only reader of the one before:
    clamping commutes with them, so what they drop needs no range.
    """
    readers = defaultdict(list)
    for made, node in enumerate(network.nodes, 1):
        for read in set(inputs_of(node)):
            readers[read].append(made)
    while len(readers[value]) == 1:
        (reader,) = readers[value]
        if not isinstance(network.nodes[reader - 1], Relu | MaxPool2d | Flatten):
            break
        value = reader
    return value


def _sums(ticket: Ticket, value: int, known: dict[int, float]) -> tuple[float, float]:
    """What a unit of the sums that are rounded to a value is worth at most, and a bound of their magnitude,
    both in real units, from the scales of what is read. Nothing for the image.
    """
    if value == 0:
        return 0.0, 0.0
    network = ticket.network
    node, residual = network.nodes[value - 1], 0.0
    if isinstance(node, Add):
        layer_value = network.joined.get(value)
        if layer_value is None:
            left, right = known[node.left], known[node.right]
            return max(left, right), LARGEST * (left + right)
        residual = known[node.left + node.right - layer_value]
        node = network.nodes[layer_value - 1]
    if isinstance(node, Conv2d | Linear):
        layer = ticket.layers[node.layer]
        scales, shifts = scale_and_shift(layer)
        step = float(np.abs(scales).max()) * known[node.value]
        terms = layer.shape.fan_in * (1 + len(layer.coats))
        shift = 0.0 if shifts is None else float(np.abs(shifts).max())
        return max(step, residual), LARGEST * (terms * step + residual) + shift
    assert isinstance(node, AvgPool2d | GlobalAvgPool2d)
    pixels = node.kernel**2 if isinstance(node, AvgPool2d) else math.prod(network.shapes()[node.value][1:])
    return known[node.value] / pixels, LARGEST * known[node.value]
