"""int8 in plain Python, from docs/numerics.md, section 6, and the slot `quantisation` of docs/format.md:
exact fractions and loops; it shares no code with the package.
"""

from __future__ import annotations

import itertools
import math
import struct
from fractions import Fraction
from typing import Any

from .graph import check_graph
from .refused import need

Array = dict[tuple[int, ...], int]  # an image by (channel, row, column), a flat value by (feature,)
PASSING = ("relu", "max_pool2d", "flatten")


def joined(nodes: list[Any]) -> dict[int, int]:
    """By the value of an add, the value that is joined to it."""
    found = {}
    for value, (operator, *numbers) in enumerate(nodes, 1):
        if operator != "add" or numbers[0] == numbers[1]:
            continue
        later = max(numbers)
        readers = [number for number, node in enumerate(nodes) if later in values_of(node)]
        if nodes[later - 1][0] in ("conv2d", "linear") and readers == [value - 1]:
            found[value] = later
    return found


def values_of(node: list[Any]) -> list[int]:
    return node[1:3] if node[0] == "add" else node[1:2]


def scales(header: dict[str, Any]) -> dict[int, Fraction]:
    """Of every value but joined ones. Refused where the codes are not those that the graph wants."""
    nodes = header["nodes"]
    _, pow2, codes = header["quantisation"]
    need(type(pow2) is bool and isinstance(codes, list), "pow2 or codes")
    for code in codes:
        need(type(code) is int and -1024 <= code <= 1023 and not (pow2 and code % 16), "a code")
    rest, within = iter(codes), set(joined(nodes).values())
    found: dict[int, Fraction] = {}
    for value in range(len(nodes) + 1):
        node = nodes[value - 1] if value else ["image"]
        if node[0] in PASSING:
            found[value] = found[node[1]]
        elif value not in within:
            code = next(rest, None)
            need(code is not None, "a value without a code")
            found[value] = Fraction(16 + code % 16, 16) * Fraction(2) ** (code // 16)
    need(next(rest, None) is None, "a code without a value")
    return found


def check_header(header: dict[str, Any]) -> None:
    """All that does not need the affines."""
    slot = header["quantisation"]
    need(isinstance(slot, list), "quantisation")
    if not slot:
        return
    need(len(slot) == 3 and slot[0] == "int8", "another quantisation")
    need(len(header["layers"][0]["tasks"]) == 1, "several tasks")
    scales(header)
    shapes = check_graph(header)
    for node in header["nodes"]:
        if node[0] == "global_avg_pool2d":
            need(127 * math.prod(shapes[node[1]][1:]) < 2**31, "a pool's sum")
    coats = {layer["id"]: len(task["coats"]) for layer in header["layers"] for task in layer["tasks"]}
    for layer in header["layers"]:
        columns = layer["rows"] * layer["columns"] * layer["inputs"]
        need(127 * columns * coats[layer["id"]] < 2**31, "a layer's sum")


def check_multipliers(header: dict[str, Any], layers: list[Any]) -> None:
    """layers: those of the one task, as the decoder gives them."""
    for value in formulas(header) if header["quantisation"] else []:
        integers(header, layers, value)


def formulas(header: dict[str, Any]) -> list[int]:
    """The values that the rounding gives."""
    within = joined(header["nodes"]).values()
    values = enumerate(header["nodes"], 1)
    return [value for value, node in values if node[0] not in PASSING and value not in within]


def to_float(exact: Fraction) -> float:
    return exact.numerator / exact.denominator  # Python rounds it once, to the nearest, ties to even


def nearest_power(number: float) -> float:
    fraction, exponent = math.frexp(abs(number))
    return math.copysign(math.ldexp(1.0, exponent - (fraction * fraction < 0.5)), number) if number else 0.0


def integers(header: dict[str, Any], layers: list[Any], value: int) -> tuple[list[int], int, list[int], int]:
    """m and b (by channel, or one), m_r and s, as (m, m_r, b, s)."""
    nodes, known = header["nodes"], scales(header)
    node = nodes[value - 1]
    operator, read, out = node[0], node[1], to_float(known[value])
    real, bias, residual = [], [], 0.0
    if operator == "add":
        left = joined(nodes).get(value, read)
        residual = to_float(known[node[1] if left == node[2] else node[2]]) / out
        if value in joined(nodes):
            node = nodes[left - 1]
            operator, read = node[:2]
    given = to_float(known[read])
    if operator in ("conv2d", "linear"):
        layer = layers[node[2]]
        shape = layer.fields["out"]
        scale, shift = layer.affine or ([layer.constant] * shape, [0.0] * shape)
        real = [number * given / out for number in scale]
        bias = [number / out for number in shift]
    else:
        pixels = 1
        if operator == "avg_pool2d":
            pixels = node[2] ** 2
        elif operator == "global_avg_pool2d":
            pixels = math.prod(check_graph(header)[read][1:])
        real, bias = [given / out / pixels], [0.0]
    if header["quantisation"][1]:
        near = [nearest_power(number) for number in real]
        bias = [b * (n / number) if number else b for b, n, number in zip(bias, near, real, strict=True)]
        real, residual = near, nearest_power(residual)
    largest = max(map(abs, [*real, residual]))
    need(round(Fraction(largest)) <= 32767, "a multiplier")
    s = next(s for s in range(22, -1, -1) if round(Fraction(largest) * 2**s) <= 32767)
    m = [round(Fraction(number) * 2**s) for number in real]
    b = [min(max(round(Fraction(number) * 2**s), -(2**46)), 2**46) for number in bias]
    return m, round(Fraction(residual) * 2**s), b, s


def clamp(number: int, low: int = -127, high: int = 127) -> int:
    return min(max(number, low), high)


def windows(shape: tuple[int, ...], kernel: tuple[int, int], stride: int, padding: int) -> Any:
    """Of each output pixel its place and where its window's pixels lie, those in the image: (kernel place,
    row, column).
    """
    size = [(n + 2 * padding - k) // stride + 1 for n, k in zip(shape[1:], kernel, strict=True)]
    for row, column in itertools.product(*map(range, size)):
        inside = []
        for place, (dr, dc) in enumerate(itertools.product(*map(range, kernel))):
            at = row * stride - padding + dr, column * stride - padding + dc
            if all(0 <= n < edge for n, edge in zip(at, shape[1:], strict=True)):
                inside.append((place, *at))
        yield (row, column), inside


def weight(layer: Any, row: int, column: int) -> int:
    number = sum(coat[row] >> column & 1 for coat in layer.coats)
    return -number if layer.negative[row] >> column & 1 else number


def layer_sums(layer: Any, node: list[Any], q: Array, shape: tuple[int, ...]) -> Array:
    fields = layer.fields
    if node[0] == "linear":
        terms = range(fields["inputs"])
        return {(row,): sum(weight(layer, row, k) * q[(k,)] for k in terms) for row in range(fields["out"])}
    sums = {}
    inputs, per_group = fields["inputs"], fields["out"] // fields["groups"]
    for at, inside in windows(shape, (fields["rows"], fields["columns"]), *node[3:]):
        for row in range(fields["out"]):
            first = row // per_group * inputs
            sums[(row, *at)] = sum(
                weight(layer, row, place * inputs + channel) * q[(first + channel, *pixel)]
                for place, *pixel in inside
                for channel in range(inputs)
            )
    return sums


def run(header: dict[str, Any], layers: list[Any], image: list[float]) -> list[int]:
    """Logits of a decoded file's task, of an image of float32 in the order (channel, row, column)."""
    nodes, shapes, known = header["nodes"], check_graph(header), scales(header)
    within, places = joined(nodes), [list(itertools.product(*map(range, shape))) for shape in shapes]
    values: list[Array] = [{}]
    for place, x in zip(places[0], image, strict=True):
        near = min(max(x / to_float(known[0]), -128.0), 128.0)  # so that it is a float32
        (quotient,) = struct.unpack("<f", struct.pack("<f", near))
        values[0][place] = clamp(round(quotient))
    for value, node in enumerate(nodes, 1):
        operator, q, shape = node[0], values[node[1]], shapes[node[1]]
        channels = range(shape[0])
        if operator in ("conv2d", "linear"):
            acc = layer_sums(layers[node[2]], node, q, shape)
        elif operator == "add":
            acc = values[within.get(value, node[1])]
        elif operator == "relu":
            acc = {place: max(number, 0) for place, number in q.items()}
        elif operator == "flatten":
            acc = {(i,): q[place] for i, place in enumerate(places[node[1]])}
        elif operator == "global_avg_pool2d":
            acc = {(c,): sum(n for place, n in q.items() if place[0] == c) for c in channels}
        else:
            pool = max if operator == "max_pool2d" else sum
            acc = {
                (c, *at): pool(q[(c, *pixel)] for _, *pixel in inside)
                for at, inside in windows(shape, (node[2], node[2]), *node[3:])
                for c in channels
            }
        if operator not in PASSING and value not in within.values():
            m, m_r, b, s = integers(header, layers, value)
            r: Array = {}
            if operator == "add":
                r = values[node[1] if within.get(value) == node[2] else node[2]]
            bounds = (-(2**31), 2**31 - 1) if value == len(nodes) else (-127, 127)
            sums, acc = acc, {}
            for place, total in sums.items():
                channel = place[0] if len(m) > 1 else 0
                exact = total * m[channel] + r.get(place, 0) * m_r + b[channel]
                acc[place] = clamp((exact + (1 << s >> 1)) >> s, *bounds)
        values.append(acc)
    return [values[-1][place] for place in places[-1]]
