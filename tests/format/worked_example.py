"""The worked example of docs/format.md, section 7: its ticket, and the lines that the page prints of it.

`python -m tests.format.worked_example` (from the source folder) prints the section's code block anew.
"""

from __future__ import annotations

import numpy as np

from slt_infer import reference
from slt_infer.codec import pattern_counts, ticket_from_masks
from slt_infer.format import dumps
from slt_infer.ticket import Flatten, Freeze, LayerShape, Linear, Network, Source, Ticket, unpack_bits

SEED = 0x0123456789ABCDEF
FREEZE = Freeze(2, 1, 1)
KINDS = {-1: "p", 0: ".", 1: "L"}


def example_ticket() -> Ticket:
    """A linear layer from 6 inputs to 3 outputs, a quarter pruned and a quarter locked, every second free
    weight kept.
    """
    network = Network("ex", (6, 1, 1), (LayerShape("fc", 3, 6),), (Flatten(0), Linear(1, 0)))
    source = Source(seed=SEED)
    free = pattern_counts(network, source, [FREEZE])[0][2]
    return ticket_from_masks(network, source, [FREEZE], [np.arange(free) % 2 == 0], [None])


def hexdump(data: bytes) -> list[str]:
    rows = [data[i : i + 16] for i in range(0, len(data), 16)]
    return [f"{16 * i:04x}  " + " ".join(f"{byte:02x}" for byte in row) for i, row in enumerate(rows)]


def example_lines() -> list[str]:
    """What the page prints, worked out by the reference."""
    ticket = example_ticket()
    layer, source = ticket.layers[0], ticket.source
    shape = layer.shape
    lines = []
    for stream, plane, name in ((0, 0, "signs"), (1, 0, "freeze"), (1, 1, "freeze")):
        for block, words in enumerate(reference.words(source, stream, 0, plane, shape.out)):
            counter = f"{block:08x} {plane:08x} {0:08x} {stream:08x}"
            lines.append(f"G({counter}) = {' '.join(f'{word:08x}' for word in words)}  {name}, row {block}")
    frozen = reference.pattern(source, 0, shape, FREEZE)
    negative = reference.negative(source, 0, shape)
    kept = reference.kept(source, layer)
    bits = "".join(str(int(bit)) for bit in unpack_bits(layer.mask, layer.free))
    for row in range(shape.out):
        pattern = " ".join(KINDS[int(kind)] for kind in frozen[row])
        weights = " ".join(
            ("-" if minus else "+") if keep else "0"
            for keep, minus in zip(kept[row], negative[row], strict=True)
        )
        lines.append(f"row {row}:  pattern {pattern}   weights {weights}")
    lines.append(f"pruned {layer.pruned}, locked {layer.locked}, free {layer.free}, kept {layer.kept}")
    lines.append(f"mask bits {bits}, c = {float(layer.constant)!r} = 0x{layer.constant.view(np.uint32):08x}")
    return lines + hexdump(dumps(ticket))


if __name__ == "__main__":
    print("\n".join(example_lines()))
