"""A ticket of any known network without a search, for benchmarks and for the accelerator model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slt_infer import freeze
from slt_infer.codec import MAX_PLANES, coded_layer, synthetic_masks, with_affine
from slt_infer.runtime.walk import accumulations
from slt_infer.ticket import Network, Source, Ticket, fold_batch_norm

NOISE_ELEMENTS = (
    2**19
)  # of the images whose statistics stand in for batch norm's: at least one image, at most 16


def synthetic_ticket(
    network: Network,
    source: Source,
    sparsity: float,
    prune: float = 0.0,
    lock: float = 0.0,
    rule: freeze.Rule = "epl",
    bits: int = 8,
    planes: int = MAX_PLANES,
    shares: Sequence[float] | None = None,
) -> Ticket:
    """A ticket whose every layer keeps the same share of its free weights (or `shares`, one a layer).

    Affines are the statistics of a forward pass over seeded normal noise, so that no layer's output is
    constant. Raises RatioError for ratios that cannot be met.
    """
    freeze.check(sparsity, prune, lock)
    freezes = freeze.thresholds(network.layers, prune, lock, rule, bits)
    masks = synthetic_masks(network, source, freezes, sparsity, shares)
    coded = [
        coded_layer(source, shape, i, pattern, mask, planes=planes)
        for i, (shape, pattern, mask) in enumerate(zip(network.layers, freezes, masks, strict=True))
    ]
    provenance = {"method": "synthetic", "rule": rule, "sparsity": sparsity, "prune": prune, "lock": lock}
    bare = Ticket(
        network, source, tuple(coded), provenance=tuple((k, str(v)) for k, v in sorted(provenance.items()))
    )
    return _normalised(bare)


def noise(network: Network, seed: int) -> np.ndarray:
    """Normal images, float32 [N, C, H, W], that a synthetic ticket's affines and scales come from."""
    count = min(max(NOISE_ELEMENTS // int(np.prod(network.input)), 1), 16)
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.standard_normal((count, *network.input), dtype=np.float32)


def _normalised(bare: Ticket) -> Ticket:
    layers = list(bare.layers)

    def normalise(i: int, sums: np.ndarray) -> np.ndarray:
        """Batch norm's affine for the sums [N, out, ...] of layer i; the bare constant where it has none."""
        layer = layers[i]
        if not layer.shape.affine:
            return np.stack([np.full(layer.shape.out, layer.constant), np.zeros(layer.shape.out)]).astype(
                np.float32
            )
        values = sums.astype(np.float64) * float(layer.constant)
        axes = (0, *range(2, values.ndim))
        affine = fold_batch_norm(float(layer.constant), values.mean(axis=axes), values.var(axis=axes))
        layers[i] = with_affine(layer, affine)
        return affine

    accumulations(bare, noise(bare.network, bare.source.seed), normalise)
    return Ticket(bare.network, bare.source, tuple(layers), bare.preprocessing, bare.provenance)
