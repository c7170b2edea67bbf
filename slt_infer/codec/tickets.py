"""A ticket from the masks that a search, or a law, has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from slt_infer import _core
from slt_infer.codec.masks import coded_layer, pattern
from slt_infer.codec.prior import MAX_PLANES
from slt_infer.errors import RatioError, TicketError
from slt_infer.freeze import weights_kept
from slt_infer.ticket import Freeze, Layer, Network, Preprocessing, Source, Ticket, pack_bits, unpack_bits

SYNTHETIC = 5  # stream


def pattern_counts(network: Network, source: Source, freezes: Sequence[Freeze]) -> list[tuple[int, int, int]]:
    """Realised (pruned, locked, free) weights of each layer."""
    layers = zip(network.layers, freezes, strict=True)
    return [pattern(source, shape, i, freeze).counts()[:3] for i, (shape, freeze) in enumerate(layers)]


def ticket_from_masks(
    network: Network,
    source: Source,
    freezes: Sequence[Freeze],
    masks: Sequence[np.ndarray],
    affines: Sequence[np.ndarray | None],
    preprocessing: Preprocessing | None = None,
    provenance: Sequence[tuple[str, str]] = (),
    planes: int = MAX_PLANES,
) -> Ticket:
    """A ticket; layer ids are the layers' places.

    masks: per layer booleans [free] or packed uint32 words, by free ordinal. affines: float32 [2, out]
    (scale, shift) where the layer's shape has `affine`, else None. planes: as in coded_layer. Raises
    TicketError where a mask or an affine does not fit its layer.
    """
    source.check()
    network.shapes()
    layers = []
    for i, (shape, freeze, mask, affine) in enumerate(
        zip(network.layers, freezes, masks, affines, strict=True)
    ):
        words = pack_bits(mask) if mask.dtype == bool else mask
        coded = coded_layer(source, shape, i, freeze, words, planes=planes)
        layers.append(with_affine(coded, affine))
    return Ticket(
        network,
        source,
        tuple(layers),
        preprocessing or Preprocessing(),
        tuple(sorted(dict(provenance).items())),
    )


def with_affine(layer: Layer, affine: np.ndarray | None, bits: int = 32) -> Layer:
    """The layer with another affine, checked against its shape. bits: of a scale or shift in the file; for 8
    and 16 the affine must be as slt_infer.format.affine.rounded gives it.
    """
    shape = layer.shape
    if (affine is None) == shape.affine:
        raise TicketError(
            "bad-affine", "lacks its affine" if affine is None else "has no affine", f"layer {shape.name}"
        )
    if affine is None:
        return replace(layer, affine_bits=0)
    affine = np.ascontiguousarray(affine, dtype=np.float32)
    if bits not in (8, 16, 32):
        raise TicketError("bad-affine", f"{bits} bits; 8, 16 or 32 are allowed", f"layer {shape.name}")
    if affine.shape != (2, shape.out) or not np.isfinite(affine).all():
        raise TicketError("bad-affine", f"wants finite [2, {shape.out}]", f"layer {shape.name}")
    return replace(layer, affine=affine, affine_bits=bits)


def synthetic_masks(
    network: Network,
    source: Source,
    freezes: Sequence[Freeze],
    sparsity: float,
    shares: Sequence[float] | None = None,
) -> list[np.ndarray]:
    """Packed masks in which every layer keeps the same share of its free weights and the whole has
    `sparsity`.

    N - floor(sparsity * N) weights are kept in all (docs/format.md, section 3, gives the law of the mask).
    With `shares`, layer i keeps shares[i] of its free weights instead. Raises RatioError where more is
    locked, or less left unpruned, than is to be kept.
    """
    counts = pattern_counts(network, source, freezes)
    if shares is not None:
        return [
            synthetic_mask(source, i, free, round(share * free))
            for i, ((_, _, free), share) in enumerate(zip(counts, shares, strict=True))
        ]
    locked, free = sum(c[1] for c in counts), sum(c[2] for c in counts)
    wanted = weights_kept(network.weights, sparsity) - locked
    if not 0 <= wanted <= free:
        raise RatioError(
            "bad-ratio",
            f"sparsity {sparsity} keeps {wanted + locked} of {network.weights} weights; {locked} are locked "
            f"and {free} free",
            "sparsity",
        )
    masks, before, done = [], 0, 0
    for i, (_, _, layer_free) in enumerate(counts):
        before += layer_free
        upto = round(before * wanted / free) if free else 0
        masks.append(synthetic_mask(source, i, layer_free, upto - done))
        done = upto
    return masks


def synthetic_mask(source: Source, layer_id: int, free: int, keep: int) -> np.ndarray:
    """Packed uint32 mask with exactly `keep` of `free` bits set: the largest 16-bit numbers of stream 5,
    lowest ordinals first among equals. Works on whole planes: 16 steps of a radix selection on bit sets.
    """
    size = -(-free // 32)
    candidates = pack_bits(np.ones(free, dtype=bool))
    chosen = np.zeros(size, dtype=np.uint32)
    for plane in range(16):
        bits = _core.plane(
            source.generator, source.rounds, source.seed, SYNTHETIC, layer_id, 0, plane, 0, -(-free // 128)
        )[:size]
        ones = candidates & bits
        count = int(np.bitwise_count(ones).sum(dtype=np.int64))
        if count <= keep:
            chosen |= ones
            keep -= count
            candidates &= ~bits
        else:
            candidates = ones
    ties = np.cumsum(np.bitwise_count(candidates), dtype=np.int64)
    whole = int(np.searchsorted(ties, keep, side="right"))
    chosen[:whole] |= candidates[:whole]
    keep -= int(ties[whole - 1]) if whole else 0
    if keep:
        ordinals = np.flatnonzero(unpack_bits(candidates[whole : whole + 1], 32))[:keep]
        chosen[whole] |= np.uint32(sum(1 << int(i) for i in ordinals))
    return chosen
