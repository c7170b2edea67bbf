"""The slow twin of every int8 path: NumPy in int64, straight from docs/numerics.md, section 6, beside
reference.py and bound by its rule: nothing of the fast paths is used here.
"""

from __future__ import annotations

import math

import numpy as np

from slt_infer import reference
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Network,
    Node,
    Relu,
    Ticket,
    inputs_of,
)

Floats = list[float]

# -- the scales --------------------------------------------------------------------------------------------


def joined_values(network: Network) -> dict[int, int]:
    """By the value of an add, the operand that is joined to it."""
    read = [value for node in network.nodes for value in set(inputs_of(node))]
    found = {}
    for value, node in enumerate(network.nodes, 1):
        if isinstance(node, Add) and node.left != node.right:
            later = max(node.left, node.right)
            if isinstance(network.nodes[later - 1], Conv2d | Linear) and read.count(later) == 1:
                found[value] = later
    return found


def value_scales(ticket: Ticket) -> Floats:
    """S of every value; 0 for a joined one."""
    assert ticket.quantisation is not None
    joined = joined_values(ticket.network).values()
    codes = iter(ticket.quantisation.codes)
    scales: Floats = []
    for value in range(len(ticket.network.nodes) + 1):
        node = ticket.network.nodes[value - 1] if value else None
        if isinstance(node, Relu | MaxPool2d | Flatten):
            scales.append(scales[node.value])
        elif value in joined:
            scales.append(0.0)
        else:
            code = next(codes)
            scales.append((1 + code % 16 / 16) * 2.0 ** (code // 16))
    assert next(codes, None) is None
    return scales


# -- the one formula ---------------------------------------------------------------------------------------


def power_of_two(number: float) -> float:
    """The nearest to a number, of its sign; 0 stays."""
    fraction, exponent = math.frexp(abs(number))
    if number == 0:
        return 0.0
    exponent -= fraction * fraction < 0.5
    return math.copysign(2.0**exponent, number)


def rounded(
    acc: np.ndarray, factors: Floats, shifts: Floats, r: np.ndarray, factor_r: float, pow2: bool
) -> np.ndarray:
    """(acc * m + r * m_r + b + ((1 << s) >> 1)) >> s, not yet clamped: int64 [N, channels, ...] like acc.

    factors and shifts: M and B of each channel, or of all where there is one. factor_r: R. ValueError where
    no s fits.
    """
    if pow2:
        powers = [power_of_two(factor) for factor in factors]
        shifts = [b * (near / m) if m else b for b, m, near in zip(shifts, factors, powers, strict=True)]
        factors, factor_r = powers, power_of_two(factor_r)
    largest = max(*map(abs, factors), abs(factor_r))
    fitting = [s for s in range(23) if round(largest * 2**s) <= 32767]
    if not fitting:
        raise ValueError(f"a multiplier of {largest}")
    s = max(fitting)
    m = [round(factor * 2**s) for factor in factors]
    b = [max(-(2**46), min(round(shift * 2**s), 2**46)) for shift in shifts]
    by_channel = -1, *[1] * (acc.ndim - 2)
    acc = acc * np.reshape(m, by_channel) + r * round(factor_r * 2**s) + np.reshape(b, by_channel)
    return (acc + ((1 << s) >> 1)) >> s


# -- the network ------------------------------------------------------------------------------------------


def passed_on(node: Relu | MaxPool2d | Flatten, q: np.ndarray) -> np.ndarray:
    """What these give: integers of the scale that they are given."""
    if isinstance(node, Relu):
        return np.maximum(q, 0)
    if isinstance(node, Flatten):
        return q.reshape(len(q), -1)
    windows = reference.columns(q, (node.kernel,) * 2, node.stride, node.padding, fill=-128)
    return windows.max(axis=(1, 2))


def layer_sums(ticket: Ticket, node: Conv2d | Linear, q: np.ndarray) -> np.ndarray:
    """Sums with weights +-(number of coats), int64: [N, out, rows, columns], or [N, out] of a linear."""
    layer = ticket.layers[node.layer]
    shape = layer.shape
    number, minus = reference.coats(ticket.source, layer), reference.signs(ticket.source, layer)
    weights = np.where(minus, -number, number)
    if isinstance(node, Linear):
        return q @ weights.T
    window = reference.columns(q, shape.kernel, node.stride, node.padding)
    rows, columns = window.shape[4:]
    groups = []
    for group, own in enumerate(np.split(weights, shape.groups)):
        channels = slice(group * shape.inputs, (group + 1) * shape.inputs)
        taps = window[:, :, :, channels].reshape(len(q), shape.fan_in, rows * columns)
        groups.append(own @ taps)
    return np.concatenate(groups, axis=1).reshape(len(q), shape.out, rows, columns)


def factors_of(ticket: Ticket, node: Node, s_in: float, s_out: float, pixels: int) -> tuple[Floats, Floats]:
    """M and B of a node whose sums, over so many pixels if it is a pool, are of numbers of scale s_in."""
    if isinstance(node, Conv2d | Linear):
        layer = ticket.layers[node.layer]
        if layer.affine is None:
            return [float(layer.constant) * s_in / s_out], [0.0]
        scale, shift = layer.affine.astype(np.float64).tolist()
        return [x * s_in / s_out for x in scale], [x / s_out for x in shift]
    if isinstance(node, AvgPool2d | GlobalAvgPool2d):
        return [s_in / s_out / pixels], [0.0]
    return [s_in / s_out], [0.0]


def run_int8(ticket: Ticket, images: np.ndarray) -> np.ndarray:
    """Logits int32 [N, classes] of preprocessed images float32 [N, C, H, W], by a quantised ticket."""
    return values_int8(ticket, images)[-1].astype(np.int32)


def values_int8(ticket: Ticket, images: np.ndarray) -> list[np.ndarray]:
    """Every value, int64: int8 numbers, the sums of a joined layer, and at last the logits."""
    assert ticket.quantisation is not None
    nodes, joined, scales = ticket.network.nodes, joined_values(ticket.network), value_scales(ticket)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities, and NaNs that signal
        scaled = np.asarray(images, dtype=np.float32) / np.float32(scales[0])
    scaled = np.where(np.isnan(scaled), -127, scaled)
    values = [np.clip(np.rint(scaled), -127, 127).astype(np.int64)]
    for value, node in enumerate(nodes, 1):
        if value in joined.values():
            assert isinstance(node, Conv2d | Linear)
            values.append(layer_sums(ticket, node, values[node.value]))  # the add rounds them
            continue
        if isinstance(node, Relu | MaxPool2d | Flatten):
            values.append(passed_on(node, values[node.value]))
            continue
        maker: Node = node  # of the sums, which `read` went into
        residual, s_residual, pixels, read = np.zeros(1, np.int64), 0.0, 1, inputs_of(node)[0]
        if isinstance(node, Add):
            left = joined.get(value, node.left)
            right = node.left + node.right - left
            acc, residual, s_residual = values[left], values[right], scales[right]
            if value in joined:
                maker, (read,) = nodes[left - 1], inputs_of(nodes[left - 1])
        elif isinstance(node, AvgPool2d):
            pixels = node.kernel**2
            windows = reference.columns(values[read], (node.kernel,) * 2, node.stride, node.padding)
            acc = windows.sum(axis=(1, 2))
        elif isinstance(node, GlobalAvgPool2d):
            pixels = math.prod(values[read].shape[2:])
            acc = values[read].sum(axis=(2, 3))
        else:
            acc = layer_sums(ticket, node, values[read])
        factors, shifts = factors_of(ticket, maker, scales[read], scales[value], pixels)
        y = rounded(acc, factors, shifts, residual, s_residual / scales[value], ticket.quantisation.pow2)
        low, high = (-(2**31), 2**31 - 1) if value == len(nodes) else (-127, 127)
        values.append(np.clip(y, low, high))
    return values
