"""Masks to coded tiles and back, and the assembly of a ticket from masks (docs/format.md, sections 3 to
5).
"""

from slt_infer.codec.masks import coded_layer, core_layer, decoded_layer, entropy_bits
from slt_infer.codec.prior import MAX_PLANES
from slt_infer.codec.tickets import (
    pattern_counts,
    synthetic_masks,
    ticket_from_masks,
    with_affine,
)

__all__ = [
    "MAX_PLANES",
    "coded_layer",
    "core_layer",
    "decoded_layer",
    "entropy_bits",
    "pattern_counts",
    "synthetic_masks",
    "ticket_from_masks",
    "with_affine",
]
