"""Sound files that make a reader work as hard as docs/format.md, section 6, lets them."""

from __future__ import annotations

from typing import Any

from ..independent.random_bits import FREEZE, Source
from . import pieces as p
from .pieces import Pieces, layer_of
from .sound import LAWS
from .tasks import CONST, many

COLUMNS = 2**13


def one_layer(out: int, const: int, text: int = 0) -> Pieces:
    """One const layer of `out` rows of 2^13 columns; class names of `text` bytes in all."""
    kept = out * COLUMNS
    layer = layer_of("f", 0, out, COLUMNS, 1, 1, 1, 0, 0, 0, kept, "const", const, 0, False, [], out, 0)
    nodes = [["flatten", 0], ["linear", 1, 0]]
    classes = ["x" * min(256, text - at) for at in range(0, text, 256)]
    image: list[Any] = [COLUMNS, 1, 1, [], [], "exact", classes]
    return Pieces(["f", image, ["philox4x32", 10, 0, *LAWS], [layer], nodes, [], []], [[]], [b""])


def most_rows(file_bytes: int) -> int:
    return (2**20 + 2**13 * file_bytes) // COLUMNS


def costly_files() -> dict[str, bytes]:
    """The most free weights, all kept, in a tiny file and in one of 10 kB; most freeze planes; long lists; as
    many tasks as the file's length allows, of one coat or of all.
    """
    files = {}
    for name, text in {"most-free": 0, "most-free-of-10kB": 10_000}.items():
        pieces = one_layer(1, 4096, text)
        for _ in range(3):  # more rows make the header longer by a few bytes
            pieces = one_layer(most_rows(len(pieces.build())), 4096, text)
        files[name] = pieces.build()
    pieces = one_layer(100, 0)
    layer = pieces.header[p.LAYERS][0]
    layer[p.BITS], layer[p.PRUNE], layer[p.LOCK] = 16, 2**15 - 1, 2**15 + 1
    p.place(layer, p.KEPT, sum(_locked(row, layer[p.BITS]) for row in range(100)))
    files["most-planes"] = pieces.build()
    pieces = one_layer(1, 4096)
    pieces.header[p.INPUT][p.CLASSES] = [f"{i:013}" for i in range(2**16)]
    files["most-classes"] = pieces.build()
    pieces = one_layer(1, 4096)
    pieces.header[p.NODES] += [["add", 2, 2]] * (2**14 - 2)
    pieces.header[p.QUANTISATION] = ["int8", False, 2**14 * [-1000]]
    files["most-scales"] = pieces.build()
    pieces = one_layer(1, 4096)
    pieces.header[p.NODES] += [["relu", 2]] * (2**14 - 2)
    files["most-nodes"] = pieces.build()
    for name, (layers, coats, shared, tasks) in {
        "most-tasks": (17, 1, 0, 256),
        "most-coats": (1, 15, 0, 230),
        "most-shared-layers": (1, 1, 7, 256),
        "most-layers": (4096, 1, 0, 1),
    }.items():
        many(pieces, layers, [1, coats * [CONST], []], shared, tasks=tasks)
        files[name] = pieces.build()
    return files


def _locked(row: int, bits: int) -> int:
    """u >= 2^15 - 1: all of its planes but the first are 1, or the first is."""
    source = Source("philox4x32", 10, 0)
    planes = [source.run(FREEZE, 0, plane, row * COLUMNS, COLUMNS) for plane in range(bits)]
    rest = (1 << COLUMNS) - 1
    for plane in planes[1:]:
        rest &= plane
    return (planes[0] | rest).bit_count()
