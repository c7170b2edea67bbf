"""Where each part of a file lies, from the sizes before it; and a ticket's bytes by part."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from slt_infer.format import affine
from slt_infer.format import header as h
from slt_infer.ticket import Layer, Ticket


def align(offset: int, to: int) -> int:
    return -(-offset // to) * to


def tile_bytes(words: int) -> int:
    """Bytes of a tile's payload from its index entry."""
    return 2 * (words & 0x7FFFFFFF)


def affine_bytes(out: int, bits: int, tasks: int) -> int:
    """An affine segment: of every task scales and shifts of `bits` each, then their CRC; none where bits is
    0.
    """
    return tasks * affine.size(out, bits) + 4 if bits else 0


def stored(ticket: Ticket) -> list[Layer]:
    """The layers whose streams the file holds, every task's, in the order of streams."""
    owners = h.owners_of(ticket)
    by_layer = zip(*ticket.tasks, strict=True)
    return [layer for i, layers in enumerate(by_layer) if owners[i] == i for layer in layers]


@dataclass(frozen=True)
class Parts:
    """Bytes of a file by what they say; mask is all coats, padding the zeros between parts."""

    prefix: int
    header: int
    index: int
    mask: int
    flips: int
    affine: int
    padding: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def parts(ticket: Ticket) -> Parts:
    """The bytes that `save` will write, by part."""
    header = len(h.encode(h.header_of(ticket)))
    layers = stored(ticket)
    index = h.TILE.size * sum(len(code.free) for layer in layers for code in layer.streams) + 4
    masks = [len(code.payload) for layer in layers for code in (layer.code, *layer.coats)]
    flips = [len(layer.flips.payload) for layer in layers if layer.flips is not None]
    tasks = len(ticket.tasks)
    affines = [affine_bytes(layer.shape.out, layer.affine_bits, tasks) for layer in ticket.layers]
    blocks = [h.PREFIX.size + header, index, *masks, *flips, *affines]
    padding = sum(align(size, 8) - size for size in blocks)
    return Parts(h.PREFIX.size, header, index, sum(masks), sum(flips), sum(affines), padding)
