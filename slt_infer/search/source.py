"""What the seed gives a search: signs, freeze pattern and initial scores, in row-major order without padding.

docs/format.md, sections 1 to 3. The bits come from `slt_infer._core`; nothing here imports torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slt_infer import _core
from slt_infer.ticket import BLOCK, Freeze, LayerShape, Source

SIGN, SCORE = 0, 2  # streams
SCORE_PLANES = 16  # of the magnitude; one more is the sign


@dataclass(frozen=True)
class SourceLayer:
    """A layer of the source network: arrays over its weights, in row-major order of [out, fan_in]."""

    negative: NDArray[np.bool_]
    free: NDArray[np.bool_]
    locked: NDArray[np.bool_]


def source_layer(source: Source, layer: int, shape: LayerShape, freeze: Freeze) -> SourceLayer:
    """Signs and freeze pattern of the layer with id `layer`."""
    blocks = shape.out * shape.row_positions // BLOCK
    signs = _bits(_plane(source, SIGN, layer, 0, blocks), shape)
    if freeze == Freeze():
        every = np.ones(shape.weights, dtype=bool)
        return SourceLayer(signs, every, ~every)
    free, locked = _core.freeze_rows(
        source.generator,
        source.rounds,
        source.seed,
        source.freeze,
        layer,
        shape.fan_in,
        freeze.bits,
        freeze.prune,
        freeze.lock,
        0,
        shape.out,
    )
    return SourceLayer(signs, _bits(free, shape), _bits(locked, shape))


def score_bound(shape: LayerShape, scale: float = 1.0) -> float:
    """a of the initial scores' uniform law on (-a, a), which has the standard deviation a / sqrt(3)."""
    return scale * math.sqrt(6 / shape.fan_in)


def initial_scores(
    source: Source, layer: int, shape: LayerShape, free: int, scale: float = 1.0
) -> NDArray[np.float32]:
    """Scores [free] by free ordinal: uniform in (-a, a) with a of `score_bound`, from stream 2.

    a is the bound of Kaiming's uniform law, so the standard deviation sqrt(2 / fan_in) is that of the Kaiming
    normal scores of the paper on frozen source networks: its learning rates carry over.
    """
    blocks = -(-free // BLOCK)
    u = np.zeros(free, dtype=np.float64)
    for plane in range(SCORE_PLANES):
        bits = _unpack(_plane(source, SCORE, layer, plane, blocks))[:free]
        u += bits * 2.0 ** (SCORE_PLANES - 1 - plane)
    magnitude = (u + 0.5) * 2.0**-SCORE_PLANES * score_bound(shape, scale)
    negative = _unpack(_plane(source, SCORE, layer, SCORE_PLANES, blocks))[:free]
    return np.where(negative, -magnitude, magnitude).astype(np.float32)


def _plane(source: Source, stream: int, layer: int, plane: int, blocks: int) -> NDArray[np.uint32]:
    return _core.plane(source.generator, source.rounds, source.seed, stream, layer, 0, plane, 0, blocks)


def _unpack(words: NDArray[np.uint32] | NDArray[np.uint64]) -> NDArray[np.bool_]:
    little = np.ascontiguousarray(words, dtype=words.dtype.newbyteorder("<"))
    return np.unpackbits(little.view(np.uint8).ravel(), bitorder="little").view(bool)


def _bits(words: NDArray[np.uint32] | NDArray[np.uint64], shape: LayerShape) -> NDArray[np.bool_]:
    """Bits by position to booleans by weight: padding dropped."""
    return _unpack(words).reshape(shape.out, shape.row_positions)[:, : shape.fan_in].ravel()
