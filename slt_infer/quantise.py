"""int8: the scales of a quantised ticket, and the integers that follow from them and its affines.

docs/numerics.md, section 6. Nothing of this is in the file but the codes of the scales, so whoever computes
in int8 comes through `rounding`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from slt_infer.errors import SltError, TicketError
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    Network,
    Quantisation,
    Relu,
    Ticket,
)

LARGEST = 127  # of an int8 value, and minus the lowest
CODES = range(-1024, 1024)
MAX_CODES = 2**14 + 1  # the image and 16384 nodes
MAX_SHIFT = 22
STEPS = 2.0 ** np.arange(MAX_SHIFT + 1)
MAX_MULTIPLIER = 2**15 - 1
MAX_SUM = 2**31 - 1
MAX_BIAS = 2.0**46


def scale_of(code: int) -> float:
    """The scale of a code, exact: (1 + (code mod 16) / 16) * 2^(code div 16)."""
    return math.ldexp(16 + code % 16, code // 16 - 4)


def code_of(scale: float, up: bool = True, pow2: bool = False) -> int:
    """The smallest code whose scale is at least `scale` > 0; up=False: the largest whose scale is at most it.

    pow2: of the codes whose scales are powers of two. A scale beyond the codes gets the nearest of them.
    Raises ValueError for one that is no number above 0.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"a scale is a number above 0, not {scale}")
    fraction, exponent = math.frexp(scale)  # 1/2 <= fraction < 1; all below is exact
    sixteenths = 32 * fraction - 16
    if pow2:
        sixteenths = 16 * (sixteenths > 0) if up else 0
    code = 16 * (exponent - 1) + (math.ceil(sixteenths) if up else math.floor(sixteenths))
    lowest, highest = (CODES[0], CODES[-1] - 15 if pow2 else CODES[-1])
    return min(max(code, lowest), highest)


def own_scale(network: Network) -> tuple[int, ...]:
    """The values that have a scale of their own, ascending: what the codes of a Quantisation belong to."""
    without = set(network.joined.values())
    without.update(
        value for value, node in enumerate(network.nodes, 1) if isinstance(node, Relu | MaxPool2d | Flatten)
    )
    return tuple(value for value in range(len(network.nodes) + 1) if value not in without)


def scales(network: Network, quantisation: Quantisation) -> list[float | None]:
    """The scale of every value; a relu, max_pool2d or flatten has its operand's, a joined value None."""
    found: list[float | None] = [None] * (len(network.nodes) + 1)
    for value, code in zip(own_scale(network), quantisation.codes, strict=True):
        found[value] = scale_of(code)
    for value, node in enumerate(network.nodes, 1):
        if isinstance(node, Relu | MaxPool2d | Flatten):
            found[value] = found[node.value]
    return found


def check(network: Network, quantisation: Quantisation, coats: Sequence[int]) -> None:
    """What can be said without the affines; coats: how many each layer has. Raises TicketError."""
    shapes, where, codes = network.shapes(), "header, quantisation", quantisation.codes
    wanted = len(own_scale(network))
    if len(codes) != wanted:
        raise TicketError("bad-value", f"{len(codes)} scales, where {wanted} values have one", where)
    step = 16 if quantisation.pow2 else 1
    for code in codes:
        if not isinstance(code, int) or code not in CODES or code % step:
            of_step = " divisible by 16, as scales are powers of two," if quantisation.pow2 else ""
            message = f"code {code} of a scale, where they are{of_step} in [{CODES[0]}, {CODES[-1]}]"
            raise TicketError("bad-value", message, where)
    for layer, number in zip(network.layers, coats, strict=True):
        _check_sums(layer.fan_in * number, f"layer {layer.name}")
    for number, node in enumerate(network.nodes):
        if isinstance(node, GlobalAvgPool2d):
            _check_sums(math.prod(shapes[node.value][1:]), _name(network, number))


def _check_sums(terms: int, where: str) -> None:
    if LARGEST * terms > MAX_SUM:
        raise TicketError("limit", f"sums of {terms} numbers up to {LARGEST} may pass 2^31", where)


def _name(network: Network, number: int) -> str:
    return f"node {number} ({network.nodes[number].__struct_config__.tag})"


@dataclass(frozen=True)
class Rounding:
    """The integers of y = clamp((acc * m + r * m_r + b + ((1 << s) >> 1)) >> s).

    m: int32 [out], |m| < 2^15; b: int64 [out], |b| <= 2^46; [1] for a pool or an add that nothing is joined
    to. m_r: 0 where there is no residual. s: 0 to 22.
    """

    m: np.ndarray
    m_r: int
    b: np.ndarray
    s: int


@dataclass(frozen=True)
class _Term:
    """acc stands for (layer's affine of acc, or acc) * s_in / divisor, r for r * s_residual."""

    value: int  # that the formula gives
    where: str
    layer: Layer | None
    s_in: float
    s_out: float
    divisor: float = 1.0
    s_residual: float = 0.0

    @property
    def residual(self) -> float:
        return self.s_residual / self.s_out

    def real(self, factor: float | np.ndarray) -> np.ndarray:
        """M, before powers of two, of a factor that acc has in its layer."""
        return np.asarray(np.float64(factor) * self.s_in / self.s_out / self.divisor)

    def shift(self, pow2: bool) -> int:
        """s. M grows with the factor, so the largest factor decides."""
        factor = 1.0
        if self.layer is not None:
            affine = self.layer.affine
            factor = float(self.layer.constant if affine is None else max(affine[0].max(), -affine[0].min()))
        largest = max(float(_powers(self.real(factor), pow2)), float(_powers(self.residual, pow2)))
        fits = np.rint(largest * STEPS) <= MAX_MULTIPLIER
        if not fits[0]:
            message = f"a multiplier of {largest:g} in int8 is over {MAX_MULTIPLIER}: its scales do not fit"
            raise TicketError("bad-value", message, self.where)
        return int(np.count_nonzero(fits)) - 1


def _powers(real: float | np.ndarray, pow2: bool) -> np.ndarray:
    return nearest_power(real) if pow2 else np.asarray(real)


def nearest_power(real: float | np.ndarray) -> np.ndarray:
    """Of each number the nearest power of two of its sign; 0 stays."""
    fraction, exponent = np.frexp(real)
    return np.ldexp(np.sign(real), np.where(fraction * fraction >= 0.5, exponent, exponent - 1))


def _terms(ticket: Ticket) -> Iterator[_Term]:
    """One for each value that the formula gives. Raises SltError where the ticket is not quantised,
    TicketError where its quantisation breaks a rule.
    """
    network, quantisation = ticket.network, ticket.quantisation
    if quantisation is None:
        message = "the ticket has no scales for int8: pack it again with slt-export --int8, or run it in f32"
        raise SltError("not-quantised", message, "quantisation")
    if ticket.others:
        raise TicketError("bad-value", "a ticket of several tasks is quantised", "header, quantisation")
    check(network, quantisation, [1 + len(layer.coats) for layer in ticket.layers])
    shapes, joins = network.shapes(), network.joined
    known = scales(network, quantisation)
    inside = set(joins.values())

    def scale(value: int) -> float:
        found = known[value]
        assert found is not None  # only its add reads a joined value
        return found

    for value, node in enumerate(network.nodes, 1):
        where = _name(network, value - 1)
        if isinstance(node, Conv2d | Linear) and value not in inside:
            layer = ticket.layers[node.layer]
            yield _Term(value, f"layer {layer.shape.name}", layer, scale(node.value), scale(value))
        elif value in joins:
            assert isinstance(node, Add)
            made_by = network.nodes[joins[value] - 1]
            assert isinstance(made_by, Conv2d | Linear)
            layer, other = ticket.layers[made_by.layer], node.left + node.right - joins[value]
            yield _Term(
                *(value, f"layer {layer.shape.name}", layer, scale(made_by.value), scale(value)),
                s_residual=scale(other),
            )
        elif isinstance(node, Add):
            yield _Term(value, where, None, scale(node.left), scale(value), s_residual=scale(node.right))
        elif isinstance(node, AvgPool2d | GlobalAvgPool2d):
            pixels = node.kernel**2 if isinstance(node, AvgPool2d) else math.prod(shapes[node.value][1:])
            yield _Term(value, where, None, scale(node.value), scale(value), float(pixels))


def check_multipliers(ticket: Ticket) -> None:
    """Raises what `rounding` would, without making anything of an affine's size."""
    for term in _terms(ticket):
        assert ticket.quantisation is not None
        term.shift(ticket.quantisation.pow2)


def rounding(ticket: Ticket) -> dict[int, Rounding]:
    """By the value that the formula gives; that of an add, where a layer is joined to it.

    Raises SltError (code `not-quantised`), or TicketError where the quantisation breaks a rule or a
    multiplier is over 2^15 - 1.
    """
    found = {}
    for term in _terms(ticket):
        assert ticket.quantisation is not None
        pow2, layer = ticket.quantisation.pow2, term.layer
        s = term.shift(pow2)
        factor, shift = np.ones(1), np.zeros(1)
        if layer is not None and layer.affine is not None:
            factor, shift = layer.affine
        elif layer is not None:
            factor, shift = (np.full(layer.shape.out, x) for x in (float(layer.constant), 0.0))
        real = term.real(factor)
        near = _powers(real, pow2)
        with_factor = np.divide(near, real, out=np.ones_like(near), where=real != 0)
        m = np.rint(near * 2.0**s)
        b = np.rint(shift.astype(np.float64) / term.s_out * with_factor * 2.0**s)
        found[term.value] = Rounding(
            m.astype(np.int32),
            int(np.rint(_powers(term.residual, pow2) * 2.0**s)),
            np.clip(b, -MAX_BIAS, MAX_BIAS).astype(np.int64),
            s,
        )
    return found
