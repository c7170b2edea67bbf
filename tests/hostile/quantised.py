"""Risks of the slot `quantisation`: (name, code of the error, what is changed in sound.quantised())."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import pieces as p
from .headers import Risk, put
from .pieces import Pieces, layer_of, write
from .sound import LAWS
from .tasks import CONST

SLOT = (p.QUANTISATION,)
TYPE, POW2, CODES = ((*SLOT, i) for i in range(3))
COATS, ROWS = 8, 4128  # the most that the bounds on sums allow of `coated` and `pooled`


def quantised_risks() -> list[Risk]:
    wrong: dict[str, Any] = {"float": 16.0, "text": "16", "true": True, "nil": None, "array": [16]}
    return [
        put("codes-none", "bad-value", CODES, []),
        ("codes-one-less", "bad-value", lambda s: s.header[p.QUANTISATION][2].pop()),
        ("codes-one-more", "bad-value", lambda s: s.header[p.QUANTISATION][2].append(0)),
        put("codes-16385", "bad-value", CODES, 16385 * [-1024]),
        put("codes-16386", "bad-header", CODES, 16386 * [-1024]),
        put("codes-2^20-less-some", "bad-header", CODES, (2**20 - 1000) * [0]),
        *(
            put(f"code-{code}", "bad-value", (*CODES, 1), code)
            for code in (1024, -1025, 2**15, -(2**15) - 1, 2**63, -(2**63), 2**64 - 1)
        ),
        *(put(f"code-{name}", "bad-header", (*CODES, 11), value) for name, value in wrong.items()),
        *(put(f"codes-{name}", "bad-header", CODES, v) for name, v in (("nil", None), ("number", 12))),
        *(put(f"pow2-{value}", "bad-header", POW2, value) for value in (0, 1, "true", None, [], 1.0)),
        put("pow2-of-other-scales", "bad-value", POW2, True),
        *(put(f"slot-of-{kind}", "unsupported", TYPE, kind) for kind in ("int4", "INT8", "", "int8 ", 8, [])),
        ("slot-short", "unsupported", lambda s: s.header[p.QUANTISATION].pop()),
        ("slot-long", "unsupported", lambda s: s.header[p.QUANTISATION].append(0)),
        ("slot-not-an-array", "bad-header", lambda s: p.place(s.header, SLOT, "int8")),
        # a multiplier over 2^15
        put("scale-of-the-image-too-large", "bad-value", (*CODES, 0), 1023),
        put("scale-of-an-add-too-small", "bad-value", (*CODES, 3), -1024),
        put("scale-of-a-residual-too-large", "bad-value", (*CODES, 9), 1023),
        put("scale-of-a-pool-too-small", "bad-value", (*CODES, 6), -1024),
        put("scale-of-the-output-too-small", "bad-value", (*CODES, 11), -1024),
        # sums over 2^31
        ("sums-of-9-coats", "limit", lambda s: put_all(s, coated(COATS + 1))),
        ("sums-of-a-large-image", "limit", lambda s: put_all(s, pooled(ROWS + 1))),
        *spellings(),
    ]


def spellings() -> list[Risk]:
    """Other bytes for the same slot."""

    def instead(old: bytes, new: bytes) -> Callable[[Pieces], Any]:
        def change(pieces: Pieces) -> None:
            data = write(pieces.header)
            assert data.count(old) == 1
            pieces.encoded = data.replace(old, new)

        return change

    start = b"\x93\xa4int8\xc2\x9c\xd0\xac"  # 12 codes, the first -84
    return [
        ("code-as-int16", "bad-header", instead(start, start[:-2] + b"\xd1\xff\xac")),
        ("code-as-int64", "bad-header", instead(start, start[:-2] + b"\xd3" + 7 * b"\xff" + b"\xac")),
        ("codes-as-array16", "bad-header", instead(start, start[:-3] + b"\xdc\x00\x0c\xd0\xac")),
        ("codes-as-text", "bad-header", instead(start, start[:-3] + b"\xac\xd0\xac")),
        ("codes-as-bytes", "bad-header", instead(start, start[:-3] + b"\xc4\x0c\xd0\xac")),
        ("codes-of-2^32", "bad-header", instead(start, start[:-3] + b"\xdd\xff\xff\xff\xff\xd0\xac")),
        ("slot-as-array16", "unsupported", instead(start, b"\xdc\x00\x03" + start[1:])),
        ("slot-as-map", "bad-header", instead(start, b"\x83" + start[1:])),
        ("type-as-str8", "unsupported", instead(start, b"\x93\xd9\x04int8" + start[6:])),
    ]


def put_all(pieces: Pieces, other: Pieces) -> None:
    pieces.header, pieces.tiles, pieces.affines = other.header, other.tiles, other.affines


def coated(coats: int) -> Pieces:
    """One row of 2^21 weights, each in all coats; 127 · 2^21 · 8 is below 2^31. Class names make the file as
    long as so many positions want it.
    """
    layer = layer_of("f", 0, 1, 2**11, 32, 32, 1, 0, 0, 0, 2**21, "const", 4096, 0, False, [], 1, 0)
    layer[p.TASKS][0][1] = coats * [CONST]
    image = [2**11, 32, 32, [], [], "exact", 20 * ["x" * 200]]
    slot = ["int8", True, [0, 0]]
    nodes = [["conv2d", 0, 0, 1, 0], ["flatten", 1]]
    return Pieces(["f", image, ["philox4x32", 10, 0, *LAWS], [layer], nodes, slot, []], coats * [[]], [b""])


def pooled(height: int) -> Pieces:
    """The mean of an image of height x 2^12; 127 · 4128 · 2^12 is below 2^31, by less than a row."""
    layer = layer_of("f", 0, 2, 1, 1, 1, 1, 0, 0, 0, 2, "const", 4096, 0, False, [], 2, 0)
    nodes = [["global_avg_pool2d", 0], ["linear", 1, 0]]
    header = ["f", [1, height, 2**12, [], [], "exact", []], ["philox4x32", 10, 0, *LAWS], [layer], nodes]
    return Pieces([*header, ["int8", False, [0, 0, 0]], []], [[]], [b""])


QUANTISED_RISKS: list[Risk] = quantised_risks()
