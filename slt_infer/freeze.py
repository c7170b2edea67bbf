"""From ratios to a freeze pattern: how much of each layer is pruned, locked and free.

A global prune ratio and a global lock ratio are shared out over the layers by a rule, then turned into the
integer thresholds that a file stores (docs/format.md, section 3). The pattern itself is made by
`slt_infer._core`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, get_args

from slt_infer.errors import RatioError
from slt_infer.ticket import Freeze, LayerShape

Rule = Literal["uniform", "erk", "epl"]


def check(sparsity: float, prune: float, lock: float) -> None:
    """RatioError unless 0 <= prune <= sparsity <= 1 - lock (frozen networks, section 3.1) and lock >= 0."""
    for name, ratio in (("sparsity", sparsity), ("prune", prune), ("lock", lock)):
        if not 0 <= ratio <= 1:
            raise RatioError("bad-ratio", f"{name} is {ratio}, not in [0, 1]", name)
    if sparsity >= 1:
        raise RatioError("bad-ratio", "a sparsity of 1 keeps no weight", "sparsity")
    if prune > sparsity:
        raise RatioError(
            "bad-ratio",
            f"prune {prune} is over sparsity {sparsity}: more would be pruned than removed",
            "prune",
        )
    if lock > 1 - sparsity + 1e-12:
        raise RatioError(
            "bad-ratio",
            f"lock {lock} is over the density {1 - sparsity:g}: more would be locked than kept",
            "lock",
        )


def weights_kept(weights: int, sparsity: float) -> int:
    """Of N weights N - floor(sparsity * N) are kept.

    The sparsity is taken as the decimal number it prints as: 0.29 of 100 is 29, though 0.29 * 100 < 29 in
    float64.
    """
    return weights - math.floor(Fraction(repr(float(sparsity))) * weights)


def placement(sparsity: float, frozen: float) -> tuple[float, float]:
    """Prune and lock ratio that centre the free region on the sparsity: Pr = k - (1 - Fr) / 2, clipped
    keeping Fr.

    Source: frozen networks, section 3.3 (position rule).
    """
    for name, ratio in (("sparsity", sparsity), ("frozen", frozen)):
        if not 0 <= ratio < 1:
            raise RatioError("bad-ratio", f"{name} is {ratio}, not in [0, 1)", name)
    prune = min(max(sparsity - (1 - frozen) / 2, 0.0), frozen)
    return prune, frozen - prune


def densities(shapes: Sequence[LayerShape], density: float, rule: Rule) -> list[float]:
    """Each layer's density so that the whole has `density`.

    uniform: the same everywhere. erk: proportional to (in + out + kernel rows + kernel columns) / (in * out
    * kernel rows * kernel columns), layers that would pass 1 made dense (Evci et al. 2020). epl: the same
    number of weights in each layer, what a full layer cannot take goes to the others (frozen networks,
    section 4.1).
    """
    if rule not in get_args(Rule):
        raise RatioError("bad-rule", f"unknown rule {rule!r}; known: {', '.join(get_args(Rule))}", "rule")
    if rule == "uniform":
        return [density] * len(shapes)
    weight = {i: _share(shape, rule) for i, shape in enumerate(shapes)}
    result = [1.0] * len(shapes)
    left = density * sum(shape.weights for shape in shapes)
    while weight:
        unit = left / sum(share * shapes[i].weights for i, share in weight.items())
        full = [i for i, share in weight.items() if unit * share >= 1]
        if not full:
            for i, share in weight.items():
                result[i] = unit * share
            break
        for i in full:
            left -= shapes[i].weights
            del weight[i]
    return result


def _share(shape: LayerShape, rule: Rule) -> float:
    if rule == "epl":
        return 1 / shape.weights
    rows, columns = shape.kernel
    inputs = shape.inputs * shape.groups
    return (inputs + shape.out + rows + columns) / (inputs * shape.out * rows * columns)


def thresholds(
    shapes: Sequence[LayerShape], prune: float, lock: float, rule: Rule = "epl", bits: int = 8
) -> list[Freeze]:
    """Integer thresholds per layer for global ratios, `bits` planes at most (1 to 16).

    Rounding errors are carried from the smallest layer to the largest, so that the expected totals are met
    to half a step of the largest partly frozen layer. A layer that the rule leaves wholly free or wholly
    frozen stays so. Raises RatioError for ratios outside [0, 1] or over 1 together.
    """
    if not (0 <= prune <= 1 and 0 <= lock <= 1 and prune + lock <= 1 + 1e-12):
        raise RatioError(
            "bad-ratio", f"prune {prune} and lock {lock}: each in [0, 1], at most 1 together", "prune"
        )
    if not 1 <= bits <= 16:
        raise RatioError("bad-bits", f"{bits} freeze planes; 1 to 16 are possible", "bits")
    unpruned = densities(shapes, 1 - prune, rule)
    free = densities(shapes, 1 - min(prune + lock, 1.0), rule)
    result: list[Freeze] = [Freeze()] * len(shapes)
    carry = {"prune": 0.0, "frozen": 0.0}
    for i in sorted(range(len(shapes)), key=lambda i: (shapes[i].weights, i)):
        weights = shapes[i].weights
        low = _round(1 - unpruned[i], weights, bits, carry, "prune")
        high = max(_round(1 - free[i], weights, bits, carry, "frozen"), low)
        result[i] = _shortest(bits, low, high - low)
    return result


def _round(ratio: float, weights: int, bits: int, carry: dict[str, float], kind: str) -> int:
    """floor(ratio * 2^bits + 1/2) with the error so far, counted in weights, added to the ratio."""
    steps = 2**bits
    if ratio < 1e-12 or ratio > 1 - 1e-12:
        return steps * round(ratio)
    step = min(max(math.floor((ratio + carry[kind] / weights) * steps + 0.5), 0), steps)
    carry[kind] += (ratio - step / steps) * weights
    return step


def _shortest(bits: int, prune: int, lock: int) -> Freeze:
    """Common trailing zeros dropped: simple ratios cost few planes."""
    while bits and prune % 2 == 0 and lock % 2 == 0:
        bits, prune, lock = bits - 1, prune // 2, lock // 2
    return Freeze(bits, prune, lock)
