"""Risks of tasks, coats, flips, shared layers and narrow affines: (name, code of the error, what is changed
in the pieces of sound.rich()).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from . import pieces as p
from .headers import Risk, put
from .pieces import Pieces

CONST = ["const", 4096, 0, False, []]
TASKS = (p.LAYERS, 0, p.TASKS)
CONV, AGAIN, WIDE, HEAD = range(4)  # layers
FLIPS, SECOND, THIRD, RAW_FLIPS = 3, 1, 2, 8  # streams: of conv's first task, and of wide's


def task_risks() -> list[Risk]:
    def tasks(layer: int, change: Callable[[list[Any]], Any]) -> Callable[[Pieces], Any]:
        return lambda pieces: change(pieces.header[p.LAYERS][layer][p.TASKS])

    return [
        put("tasks-none-of-the-first-layer", "bad-value", TASKS, []),
        put("tasks-none-of-a-later-layer", "bad-value", (p.LAYERS, WIDE, p.TASKS), []),
        ("tasks-one-less", "bad-value", tasks(WIDE, lambda of: of.pop())),
        ("tasks-one-more", "bad-value", tasks(WIDE, lambda of: of.append(of[0]))),
        ("tasks-257", "bad-header", tasks(HEAD, lambda of: of.extend(255 * [of[0]]))),
        ("task-short", "bad-header", tasks(CONV, lambda of: of[0].pop())),
        ("task-long", "bad-header", tasks(CONV, lambda of: of[0].append([]))),
        ("task-of-a-number", "bad-header", tasks(CONV, lambda of: of.append(1))),
        ("coats-none", "bad-header", tasks(HEAD, lambda of: of[0][1].clear())),
        ("coats-16", "bad-header", tasks(HEAD, lambda of: of[0][1].extend(15 * [CONST]))),
        ("flips-two", "bad-header", tasks(WIDE, lambda of: of[1][2].append(CONST))),
        ("stream-short", "bad-header", tasks(CONV, lambda of: of[1][1][1].pop())),
        ("stream-long", "bad-header", tasks(CONV, lambda of: of[0][2][0].append(0))),
        ("prior-of-a-coat", "bad-value", put_stream((1, 1, 1), ["prior", 0, 1, False, [[0, 5]]])),
        ("prior-of-flips", "bad-value", put_stream((0, 2, 0), ["prior", 0, 1, False, [[0, 5]]])),
        ("planes-of-a-coat", "bad-value", put_stream((0, 1, 2), ["static", 1000, 1, False, []])),
        ("density-0-of-flips", "bad-value", put_stream((0, 2, 0), ["static", 0, 0, False, []])),
        ("density-of-a-coat-other", "bad-mask", put_stream((0, 1, 2), ["static", 1001, 0, False, []])),
        ("const-coat-of-none", "bad-mask", put_stream((1, 1, 1), ["const", 0, 0, False, []])),
        ("const-for-a-tiled-coat", "bad-checksum", put_stream((0, 1, 2), CONST)),
        ("tiled-for-a-const-coat", "bad-checksum", put_stream((1, 1, 1), ["raw", 0, 0, False, []])),
        ("coat-taken-away", "bad-checksum", tasks(CONV, lambda of: of[0][1].pop())),
        ("flips-taken-away", "bad-checksum", tasks(CONV, lambda of: of[0][2].pop())),
        ("ones-over-an-empty-coat", "bad-mask", tasks(HEAD, lambda of: of[1][1].append(CONST))),
        ("kept-of-another-task", "bad-mask", lambda s: p.place(s.header, (*TASKS, 1, 0), 1)),
        put("tile-rows-of-const-streams", "bad-value", (p.LAYERS, HEAD, p.TILE_ROWS), 1),
        ("streams-swapped", "bad-mask", lambda s: swap(s.tiles, 0, FLIPS)),
        ("tasks-swapped", "bad-mask", lambda s: swap(s.header[p.LAYERS][CONV][p.TASKS][0][1], 0, 2)),
        ("count-of-a-coat", "bad-mask", lambda s: change(s, SECOND, 0, free=1)),
        ("count-of-flips", "bad-mask", lambda s: change(s, FLIPS, 1, more=1)),
        ("count-of-flips-under-const", "bad-mask", lambda s: change(s, RAW_FLIPS, 0, more=-1)),
        ("counts-of-a-coat-moved", "bad-mask", lambda s: (change(s, THIRD, 0, 1), change(s, THIRD, 1, -1))),
        ("bits-before-a-tile-of-flips", "bad-mask", lambda s: spoil(s, RAW_FLIPS, 1, 0, 1)),
        ("bits-behind-a-tile-of-flips", "bad-mask", lambda s: spoil(s, RAW_FLIPS, 2, -1, 0x80)),
        ("states-of-a-coat", "bad-mask", lambda s: spoil(s, THIRD, 0, 0, 1)),
        ("states-of-flips", "bad-mask", lambda s: spoil(s, FLIPS, 0, 2, 4)),
        ("words-of-a-coat", "truncated", lambda s: setattr(s.tiles[THIRD][0], "words", 2**31 - 1)),
        ("bomb-of-streams", "limit", lambda s: many(s, 30, [1, [CONST], []])),
        ("bomb-of-coats", "limit", lambda s: many(s, 2, [1, 15 * [CONST], []])),
        ("bomb-of-shared-layers", "limit", lambda s: many(s, 1, [1, [CONST], []], shared=30)),
        ("bomb-of-tasks", "limit", lambda s: many(s, 1, [2**24, [CONST], []], size=2**12)),
        ("bomb-of-shared-positions", "limit", lambda s: many(s, 1, [2**18, 15 * [CONST], []], 30, 2**9)),
    ]


def put_stream(path: tuple[int, int, int], value: list[Any]) -> Callable[[Pieces], Any]:
    """Another stream in conv's task path[0]."""
    return lambda pieces: p.place(pieces.header, (*TASKS, *path), value)


def swap(values: list[Any], i: int, j: int) -> None:
    values[i], values[j] = values[j], values[i]


def change(pieces: Pieces, stream: int, tile: int, more: int = 0, free: int | None = None) -> None:
    of = pieces.tiles[stream][tile]
    of.free = of.free + more if free is None else free


def spoil(pieces: Pieces, stream: int, tile: int, at: int, flip: int) -> None:
    """Bits of one byte of a payload turned."""
    of = pieces.tiles[stream][tile]
    payload = bytearray(of.payload)
    payload[at] ^= flip
    of.payload = bytes(payload)


def many(
    pieces: Pieces, layers: int, task: list[Any], shared: int = 0, size: int = 1, tasks: int = 256
) -> None:
    """A chain of layers of size x size, each of so many equal tasks, then some that share the last one's."""
    made = [[str(i), i, size, size, 1, 1, 1, 0, 0, 0, size, 0, 0, tasks * [task]] for i in range(layers)]
    made += [[f"s{i}", layers - 1, size, size, 1, 1, 1, 0, 0, 0, size, 0, 0, []] for i in range(shared)]
    pieces.header[p.INPUT] = [size, 1, 1, [], [], "exact", []]
    pieces.header[p.LAYERS] = made
    pieces.header[p.NODES] = [["flatten", 0], *(["linear", i + 1, i] for i in range(layers + shared))]
    pieces.tiles = [[] for _ in p.streams(pieces.header)]
    pieces.affines = [b"" for _ in made]


def sharing() -> list[Risk]:
    def again(name: str, code: str, at: int, value: Any) -> Risk:
        return put(f"shared-{name}", code, (p.LAYERS, AGAIN, at), value)

    fields = {
        "OUT": 4,
        "INPUTS": 4,
        "ROWS": 1,
        "COLUMNS": 1,
        "GROUPS": 5,
        "PRUNE": 3,
        "LOCK": 3,
        "TILE_ROWS": 5,
    }
    return [
        *(again(f"{name.lower()}-other", "bad-value", getattr(p, name), v) for name, v in fields.items()),
        (
            "shared-with-tasks",
            "bad-value",
            lambda s: p.place(s.header, (p.LAYERS, 1, p.TASKS), s.header[p.LAYERS][0][p.TASKS]),
        ),
        again("with-patches", "unsupported", p.PATCHES, 1),
        again("of-no-layer", "bad-value", p.ID, 5),
        again("of-another-layer", "bad-value", p.ID, 0),
        again("of-one-name", "bad-value", p.LAYER_NAME, "conv"),
        ("shared-before-its-weights", "bad-value", lambda s: swap(s.header[p.LAYERS], CONV, AGAIN)),
        ("shared-used-by-no-node", "bad-graph", lambda s: p.place(s.header, (p.NODES, 2, 2), 0)),
    ]


def affines() -> list[Risk]:
    def row(name: str, layer: int, task: int, change: Callable[[list[Any]], Any]) -> Risk:
        """low, step and codes of the scales of a task's narrow affine changed."""
        code, bits = {WIDE: ("H", 16), HEAD: ("B", 8)}[layer]

        def spoilt(pieces: Pieces) -> None:
            data, out = bytearray(pieces.affines[layer]), pieces.header[p.LAYERS][layer][p.OUT]
            form, at = f"<2f{out}{code}", task * (len(data) // 2)
            values = list(struct.unpack_from(form, data, at))
            change(values)
            struct.pack_into(form, data, at, *values)
            pieces.affines[layer] = bytes(data)

        return f"affine-of-{bits}-{name}-in-task-{task}", "bad-value", spoilt

    def put_at(at: int, value: float) -> Callable[[list[Any]], Any]:
        return lambda values: values.__setitem__(at, value)

    def codes(value: Callable[[int], int]) -> Callable[[list[Any]], Any]:
        return lambda values: values.__setitem__(slice(2, None), map(value, values[2:]))

    changes = {
        "low-nan": put_at(0, math.nan),
        "step-0": put_at(1, 0.0),
        "codes-all-0": codes(lambda q: 0),
    }
    whole = p.LAYERS, AGAIN, p.AFFINE
    return [
        *(
            row(name, layer, layer - WIDE, change)
            for layer in (WIDE, HEAD)
            for name, change in changes.items()
        ),
        (
            "affine-of-a-task-nan",
            "bad-value",
            lambda s: spoil_affine(s, AGAIN, -4, struct.pack("<f", math.nan)),
        ),
        ("affine-of-a-task-missing", "bad-checksum", lambda s: halve(s, AGAIN)),
        ("affine-of-a-task-missing-at-the-end", "truncated", lambda s: halve(s, HEAD)),
        put("affine-of-8-for-32", "bad-checksum", whole, 8),
        put("affine-of-16-for-8", "truncated", (p.LAYERS, HEAD, p.AFFINE), 16),
        put("affine-of-0-for-8", "trailing", (p.LAYERS, HEAD, p.AFFINE), 0),
    ]


def spoil_affine(pieces: Pieces, layer: int, at: int, value: bytes) -> None:
    data = bytearray(pieces.affines[layer])
    data[at : at + len(value) or None] = value
    pieces.affines[layer] = bytes(data)


def halve(pieces: Pieces, layer: int) -> None:
    pieces.affines[layer] = pieces.affines[layer][: len(pieces.affines[layer]) // 2]


TASK_RISKS: list[Risk] = [*task_risks(), *sharing(), *affines()]
