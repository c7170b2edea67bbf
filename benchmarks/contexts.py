"""What else would tell a mask bit, beside its initial score: channels, positions, neighbours, signs.

    python benchmarks/contexts.py RUN... [--least FREE]

For each layer of the searched tickets with at least FREE free weights: bits per free weight given the
intervals of the initial score that a `prior` mask would have, and given these together with one more context.
Nothing is free of charge: every figure is a code length that a decoder could follow.

adaptive: counts of the bits before it in a free weight's own (interval, context), the Krichevsky-Trofimov
estimator; so a context of many values pays for learning them. offset: one byte of log-odds, added to the
interval's, for each value of the context where that saves more than the byte, and a bit that says whether;
signed offset: subtracted from it where the weight is negative.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from math import lgamma
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slt_infer import _core
from slt_infer.codec.prior import find_prior
from slt_infer.search import result
from slt_infer.search.source import SCORE, SCORE_PLANES, source_layer
from slt_infer.ticket import Conv2d, Flatten, Linear, Network, Source, pack_bits, unpack_bits

EXCESS = (-2.0, -1.0, -0.4, 0.4, 1.0, 2.0)  # standard deviations, edges of seven levels

RATIOS = (0.5, 0.75, 0.9, 1.1, 1.33, 2.0)  # edges of seven levels

Ints = NDArray[np.int64]
_lgamma = np.frompyfunc(lgamma, 1, 1)


@dataclass(frozen=True)
class Layer:
    """Arrays [weights] in row-major order of [out, fan_in]; bits: the kept ones. image: (channels, height,
    width) of what a linear layer reads flat, (inputs, kernel rows, kernel columns) for a convolution.
    """

    name: str
    out: int
    fan_in: int
    convolution: bool
    image: tuple[int, int, int]
    free: NDArray[np.bool_]
    bits: NDArray[np.bool_]
    negative: NDArray[np.bool_]
    interval: Ints  # [free], by free ordinal
    expected: NDArray[np.float64]  # [free]: share kept in the interval


def images_of(network: Network) -> dict[int, tuple[int, int, int]]:
    """By linear layer, the image that the network flattened for it, where it did."""
    shapes, flat, found = network.shapes(), {}, {}
    for number, node in enumerate(network.nodes):
        if isinstance(node, Flatten) and len(shapes[node.value]) == 3:
            flat[number + 1] = shapes[node.value]
        if isinstance(node, Linear) and node.value in flat:
            found[node.layer] = flat[node.value]
    return found


def layers(run: result.Result, least: int) -> Iterator[Layer]:
    network, source = run.network, run.summary.source
    flat = images_of(network)
    convolutions = {node.layer for node in network.nodes if isinstance(node, Conv2d)}
    for i, (shape, freeze, mask) in enumerate(
        zip(network.layers, run.summary.freezes, run.masks, strict=True)
    ):
        if len(mask) < least:
            continue
        pattern = source_layer(source, i, shape, freeze)
        bits = pattern.locked.copy()
        bits[pattern.free] = mask
        interval = intervals(source, i, mask)
        kept, total = np.bincount(interval, mask), np.bincount(interval)
        image = (shape.inputs, *shape.kernel) if i in convolutions else flat.get(i, (shape.inputs, 1, 1))
        expected = ((kept + 0.5) / (total + 1))[interval]
        yield Layer(
            shape.name,
            shape.out,
            shape.fan_in,
            i in convolutions,
            image,
            pattern.free,
            bits,
            pattern.negative,
            interval,
            expected,
        )


def intervals(source: Source, layer: int, mask: NDArray[np.bool_]) -> Ints:
    """The interval of the initial score, by free ordinal, as a `prior` mask would cut them."""
    free = len(mask)
    prior = find_prior(source, layer, free, pack_bits(mask))
    if prior is None:
        return np.zeros(free, dtype=np.int64)
    v = np.zeros(free, dtype=np.int64)
    for plane in [*range(prior.planes), *([SCORE_PLANES] if prior.sign else [])]:
        words = _core.plane(
            source.generator, source.rounds, source.seed, SCORE, layer, 0, plane, 0, -(-free // 128)
        )
        v = 2 * v + unpack_bits(words, free)
    starts = [start for start, _ in prior.intervals]
    return np.searchsorted(starts, v, side="right") - 1


def contexts(layer: Layer) -> dict[str, Ints]:
    """By name, the context of each free weight: what a decoder knows that has all weights before it."""
    out, fan_in = layer.out, layer.fan_in
    row, k = np.divmod(np.arange(out * fan_in), fan_in)
    channels, height, width = layer.image
    # K runs over the channels fastest in a convolution, slowest behind a flattened image
    channel, position = (k % channels, k // channels) if layer.convolution else np.divmod(k, height * width)
    step, down = (channels, channels * width) if layer.convolution else (1, width)
    y, x = np.divmod(position, width)
    kept = layer.bits.astype(np.int64)
    signed = np.where(layer.negative, -kept, kept)
    own = np.where(layer.negative, -1, 1)

    def neighbour(values: Ints, back: int, there: NDArray[np.bool_]) -> Ints:
        """The value of the weight `back` places before, 0 where it is no neighbour."""
        moved = np.zeros_like(values)
        moved[back:] = values[:-back]
        return np.where(there, moved, 0)

    left, above = neighbour(kept, 1, k > 0), neighbour(kept, fan_in, row > 0)
    beside = neighbour(signed, step, x > 0)
    over = neighbour(signed, down, y > 0) if height > 1 else np.zeros_like(beside)
    found = {
        "output channel": row,
        "input channel": channel,
        "position": position,
        "input": k,
        "sign of the weight": own,
        "left": left,
        "above": above,
        "left and above": 2 * left + above,
        "pixels left and above, with signs": own * (beside + over),
        "kept in the row so far": excess(layer, 1, np.ones_like(own)),
        "kept in the column so far": excess(layer, 0, np.ones_like(own)),
        "kept in the row so far, with signs": excess(layer, 1, own),
        "kept in the column so far, with signs": excess(layer, 0, own),
        "surprise of the pixels around, with signs": around(layer, own),
        "how far the row has moved": moved(layer, 1),
        "how far the column has moved": moved(layer, 0),
    }
    several = "kept in the row so far, with signs", "surprise of the pixels around, with signs"
    found["row so far and pixels around, with signs"] = 8 * found[several[0]] + found[several[1]]
    found["row moved, and kept in it with signs"] = 8 * found[several[0]] + moved(layer, 1)
    different: dict[str, Ints] = {}
    for name, values in found.items():
        context = np.unique(values[layer.free], return_inverse=True)[1]
        if context.any() and not any(np.array_equal(context, other) for other in different.values()):
            different[name] = context
    return different


def surprise(layer: Layer) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bit less what the prior had expected, and the variance that the prior gives it; 0 where not free."""
    more, variance = (np.zeros(layer.out * layer.fan_in) for _ in range(2))
    more[layer.free] = layer.bits[layer.free] - layer.expected
    variance[layer.free] = layer.expected * (1 - layer.expected)
    return more, variance


def excess(layer: Layer, axis: int, own: Ints) -> Ints:
    """For each weight the level of the surprises before it in its row (axis 1) or column (0), in standard
    deviations. own: 1, or the weights' signs: then those of its sign count for it, others against it.
    """
    matrices = (values.reshape(layer.out, layer.fan_in) for values in surprise(layer))
    signs = own.reshape(layer.out, layer.fan_in)
    more, spread = (
        np.cumsum(matrix, axis=axis) - matrix for matrix in (signs * next(matrices), next(matrices))
    )
    return np.digitize(signs * more / np.sqrt(spread + 1), EXCESS).ravel()


def moved(layer: Layer, axis: int) -> Ints:
    """For each weight the level of the mean square of the surprises before it in its row or column, beside
    what the prior had expected: above 1 where scores went further than elsewhere.
    """
    more, variance = (values.reshape(layer.out, layer.fan_in) for values in surprise(layer))
    squares, spread = (np.cumsum(matrix, axis=axis) - matrix for matrix in (more**2, variance))
    return np.digitize((squares + 1) / (spread + 1), RATIOS).ravel()


def around(layer: Layer, own: Ints) -> Ints:
    """The same of the four neighbours before a weight in its image: left, above and above aside."""
    more, spread = surprise(layer)
    channels, height, width = layer.image
    size = (layer.out, height, width, channels) if layer.convolution else (layer.out, channels, height, width)
    sums = []
    for values in (own * more, spread):
        image = values.reshape(size)
        image = image.transpose(0, 3, 1, 2) if layer.convolution else image
        padded = np.pad(image, ((0, 0), (0, 0), (1, 0), (1, 1)))
        total = padded[:, :, 1:, :-2] + sum(padded[:, :, :-1, x : x + width] for x in range(3))
        sums.append((total.transpose(0, 2, 3, 1) if layer.convolution else total).ravel())
    return np.digitize(own * sums[0] / np.sqrt(sums[1] + 0.02), EXCESS)


def adaptive_bits(bits: NDArray[np.bool_], states: Ints) -> float:
    """Code length of bits [n] by the Krichevsky-Trofimov estimator, in each state on its own."""
    total = np.bincount(states)
    ones = np.bincount(states, bits, len(total))
    parts = _lgamma(ones + 0.5) + _lgamma(total - ones + 0.5) - _lgamma(total + 1.0)
    return float(-(parts.astype(np.float64) - 2 * lgamma(0.5)).sum() / np.log(2))


def offset_bits(bits: NDArray[np.bool_], interval: Ints, context: Ints, own: Ints) -> float:
    """What adaptive_bits gives for the intervals, less what offsets of log-odds save, plus their price.
    own: -1 where an offset counts the other way round.
    """
    size, columns = context.max() + 1, 2 * (interval.max() + 1)
    state = context * columns + 2 * interval + (own < 0)
    total = np.bincount(state, minlength=size * columns).reshape(size, columns)
    ones = np.bincount(state, bits, size * columns).reshape(size, columns)
    of_interval = ones.sum(0).reshape(-1, 2).sum(1), total.sum(0).reshape(-1, 2).sum(1)
    share = np.repeat((of_interval[0] + 0.5) / (of_interval[1] + 1), 2)
    odds, way = np.log(share / (1 - share)), np.where(np.arange(columns) % 2, -1, 1)

    def cost(offset: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bits for each value of the context."""
        logits = odds + way * offset[:, None]
        return (total * np.logaddexp(0, logits) - ones * logits).sum(1) / np.log(2)

    offset = np.zeros(size)
    for _ in range(30):  # Newton's method, damped by a weak pull to 0
        p = 1 / (1 + np.exp(-(odds + way * offset[:, None])))
        slope = (way * (ones - total * p)).sum(1) - 0.1 * offset
        offset += np.clip(slope / ((total * p * (1 - p)).sum(1) + 0.1), -1, 1)
    saved = cost(np.zeros(size)) - cost(np.clip(np.rint(16 * offset), -128, 127) / 16) - 8
    return adaptive_bits(bits, interval) + size - float(np.maximum(saved, 0).sum())


def table(run: result.Result, least: int) -> list[list[str]]:
    """Rows of layer, free weights, context, bits per free weight, and what the three codes save."""
    rows = []
    for layer in layers(run, least):
        bits, free = layer.bits[layer.free], int(layer.free.sum())
        own = np.where(layer.negative[layer.free], -1, 1)
        alone = adaptive_bits(bits, layer.interval)
        iid = adaptive_bits(bits, np.zeros_like(layer.interval))
        rows.append([layer.name, f"{free:,}", "no prior", f"{iid / free:.4f}", "", "", ""])
        rows.append([layer.name, "", "prior alone", f"{alone / free:.4f}", "", "", ""])
        for name, context in contexts(layer).items():
            values = int(context.max()) + 1
            costs = (
                adaptive_bits(bits, layer.interval * values + context),
                offset_bits(bits, layer.interval, context, np.ones_like(own)),
                offset_bits(bits, layer.interval, context, own),
            )
            saved = [f"{1 - cost / alone:+.1%}" for cost in costs]
            rows.append([layer.name, "", name, f"{min(alone, *costs) / free:.4f}", *saved])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--least", type=int, default=5_000, metavar="FREE")
    arguments = parser.parse_args()
    for folder in arguments.runs:
        run = result.load(result.find(folder))
        summary = run.summary
        print(
            f"\n{summary.network}, {summary.settings['epochs']}, sparsity {summary.sparsity:.2g}, "
            f"{summary.method}, test accuracy {summary.test_accuracy:.2%}\n"
        )
        codes = "adaptive | offset | signed offset"
        print(f"| layer | free | context beside the prior | bits per free weight | {codes} |")
        print("|---|--:|---|--:|--:|--:|--:|")
        for row in table(run, arguments.least):
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
