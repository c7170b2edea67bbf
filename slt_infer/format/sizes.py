"""Where each part of a file lies, from the sizes before it; and a ticket's bytes by part."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from slt_infer.format import affine
from slt_infer.format import header as h
from slt_infer.ticket import Ticket


def align(offset: int, to: int) -> int:
    return -(-offset // to) * to


def tile_bytes(words: int) -> int:
    """Bytes of a tile's payload from its index entry."""
    return 2 * (words & 0x7FFFFFFF)


def affine_bytes(out: int, bits: int) -> int:
    """Scales and shifts of `bits` each, and their CRC; none where bits is 0."""
    return affine.size(out, bits) + 4 if bits else 0


@dataclass(frozen=True)
class Parts:
    """Bytes of a file by what they say; padding is the zeros between parts."""

    prefix: int
    header: int
    index: int
    mask: int
    affine: int
    padding: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def parts(ticket: Ticket) -> Parts:
    """The bytes that `save` will write, by part."""
    header = len(h.encode(h.header_of(ticket)))
    index = h.TILE.size * sum(len(layer.code.free) for layer in ticket.layers) + 4
    masks = [len(layer.code.payload) for layer in ticket.layers]
    affines = [affine_bytes(layer.shape.out, layer.affine_bits) for layer in ticket.layers]
    blocks = [h.PREFIX.size + header, index, *masks, *affines]
    padding = sum(align(size, 8) - size for size in blocks)
    return Parts(h.PREFIX.size, header, index, sum(masks), sum(affines), padding)
