"""Risks of the header: (name, code of the error, what is changed in the sound file's pieces)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import pieces as p
from .pieces import Pieces, get, layer_of, place, write

Risk = tuple[str, str, Callable[[Pieces], Any]]
LAYER = p.LAYERS

# Every integer of the header that has bounds: name, path, lowest, highest.
INTEGERS: list[tuple[str, tuple[int, ...], int, int]] = [
    ("channels", (p.INPUT, p.CHANNELS), 1, 2**16),
    ("height", (p.INPUT, p.HEIGHT), 1, 2**14),
    ("width", (p.INPUT, p.WIDTH), 1, 2**14),
    ("seed", (p.SOURCE, p.SEED), 0, 2**64 - 1),
    ("id", (LAYER, 0, p.ID), 0, 2**32 - 1),
    ("out", (LAYER, 2, p.OUT), 1, 2**20),
    ("inputs", (LAYER, 2, p.INPUTS), 1, 2**20),
    ("kernel-rows", (LAYER, 0, p.ROWS), 1, 64),
    ("kernel-columns", (LAYER, 0, p.COLUMNS), 1, 64),
    ("groups", (LAYER, 0, p.GROUPS), 1, 2**20),
    ("bits", (LAYER, 0, p.BITS), 0, 16),
    ("prune", (LAYER, 0, p.PRUNE), 0, 2**16),
    ("lock", (LAYER, 0, p.LOCK), 0, 2**16),
    ("kept", (LAYER, 0, *p.KEPT), 1, 2**32),
    ("density", (LAYER, 2, *p.DENSITY), 0, 4096),
    ("planes", (LAYER, 3, *p.PLANES), 0, 8),
    ("interval-start", (LAYER, 3, *p.INTERVALS, 1, 0), 0, 511),
    ("interval-f", (LAYER, 3, *p.INTERVALS, 1, 1), 1, 4095),
    ("tile-rows", (LAYER, 2, p.TILE_ROWS), 1, 2**20),
    ("stride", (p.NODES, 0, 3), 1, 64),
    ("padding", (p.NODES, 0, 4), 0, 64),
    ("pool-kernel", (p.NODES, 4, 2), 1, 64),
    ("pool-stride", (p.NODES, 4, 3), 1, 64),
    ("pool-padding", (p.NODES, 4, 4), 0, 64),
]
WRONG_TYPES: dict[str, Any] = {"text": "1", "float": 1.0, "bool": True, "nil": None, "array": [1]}
TEXTS: list[tuple[str, tuple[int, ...]]] = [
    ("name", (p.NAME,)),
    ("resize", (p.INPUT, p.RESIZE)),
    ("class", (p.INPUT, p.CLASSES, 0)),
    ("generator", (p.SOURCE, p.GENERATOR)),
    ("layer-name", (LAYER, 0, p.LAYER_NAME)),
    ("mode", (LAYER, 0, *p.MODE)),
    ("operator", (p.NODES, 0, 0)),
    ("key", (p.PROVENANCE, 1, 0)),
    ("provenance-text", (p.PROVENANCE, 0, 1)),
]


def add(header: list[Any], path: tuple[int, ...], number: int) -> None:
    place(header, path, get(header, path) + number)


def put(name: str, code: str, path: tuple[int, ...], value: Any) -> Risk:
    return name, code, lambda pieces: place(pieces.header, path, value)


def bounds() -> list[Risk]:
    risks = []
    for name, path, low, high in INTEGERS:
        outside = {low - 1, -1, high + 1, 2**32 + 1, 2**63, 2**64 - 1} - {2**64}
        values = sorted(value for value in outside if not low <= value <= high)
        risks += [put(f"{name}-{value}", "bad-header", path, value) for value in values]
        risks += [put(f"{name}-{kind}", "bad-header", path, value) for kind, value in WRONG_TYPES.items()]
    for name, path in TEXTS:
        spoilt: dict[str, Any] = {"long": "x" * 257, "integer": 1, "nil": None, "array": ["x"]}
        risks += [put(f"{name}-{kind}", "bad-header", path, value) for kind, value in spoilt.items()]
        if name not in ("resize", "generator", "mode", "operator"):
            risks.append(put(f"{name}-long-in-bytes", "limit", path, "\u00e9" * 129))
    for value in (0, 1, 8, 11, 2**63):
        risks.append(put(f"rounds-{value}", "bad-value", (p.SOURCE, p.ROUNDS), value))
    risks.append(put("rounds-of-the-other-generator", "bad-value", (p.SOURCE, p.ROUNDS), 20))
    generators = {"empty": "", "unknown": "mt19937", "capital": "PHILOX4x32", "with-nul": "philox4x32\0"}
    for name, generator in generators.items():
        risks.append(put(f"generator-{name}", "bad-header", (p.SOURCE, p.GENERATOR), generator))
    risks.append(put("mode-unknown", "bad-header", (LAYER, 0, *p.MODE), "ans"))
    risks.append(put("resize-unknown", "bad-header", (p.INPUT, p.RESIZE), "zoom"))
    for value in (1, 2, 64, -1, 32.0, True, "32", None):
        risks.append(put(f"affine-{value}", "bad-header", (LAYER, 0, p.AFFINE), value))
    return risks


def images() -> list[Risk]:
    mean, std = (p.INPUT, p.MEAN), (p.INPUT, p.STD)
    numbers = {"nan": float("nan"), "inf": float("inf"), "minus-inf": float("-inf")}
    return [
        *(put(f"mean-{name}", "bad-value", (*mean, 0), value) for name, value in numbers.items()),
        *(put(f"std-{name}", "bad-value", (*std, 3), value) for name, value in numbers.items()),
        *(put(f"std-{value}", "bad-value", (*std, 3), value) for value in (0.0, -0.0, -1.0, 1e-60)),
        put("mean-integer", "bad-header", (*mean, 0), 1),
        put("mean-text", "bad-header", (*mean, 0), "0.5"),
        put("mean-alone", "bad-value", std, []),
        put("mean-short", "bad-value", mean, [0.5] * 3),
        put("mean-long", "bad-value", mean, [0.5] * 5),
        put("means-of-100000-channels", "bad-header", mean, [0.5] * 100_000),
        put("classes-65537", "bad-header", (p.INPUT, p.CLASSES), [""] * (2**16 + 1)),
        put("classes-no-array", "bad-header", (p.INPUT, p.CLASSES), "abc"),
        put("input-short", "bad-header", (p.INPUT,), [4, 6, 5]),
        put("input-long", "bad-header", (p.INPUT,), [4, 6, 5, [], [], "exact", [], 0]),
    ]


def layer_rules() -> list[Risk]:
    def layer(number: int, **fields: Any) -> Callable[[Pieces], Any]:
        def change(pieces: Pieces) -> None:
            for name, value in fields.items():
                path = getattr(p, name)
                place(pieces.header[LAYER][number], path if isinstance(path, tuple) else (path,), value)

        return change

    return [
        ("groups-do-not-divide", "bad-value", layer(0, OUT=5, TILE_ROWS=5)),
        ("thresholds-over", "bad-value", layer(0, PRUNE=4)),
        ("thresholds-sum-over", "bad-value", layer(2, PRUNE=5, LOCK=5)),
        ("thresholds-without-planes", "bad-value", layer(1, PRUNE=1, LOCK=1)),
        ("planes-not-minimal", "bad-value", layer(0, BITS=3, PRUNE=2, LOCK=2)),
        ("planes-without-thresholds", "bad-value", layer(1, BITS=1)),
        ("pattern-of-another-seed", "bad-mask", lambda s: place(s.header, (p.SOURCE, p.SEED), 2)),
        ("pattern-of-another-law", "bad-mask", lambda s: place(s.header, (p.SOURCE, p.FREEZE), "mixed")),
        ("pattern-of-another-id", "bad-mask", layer(0, ID=9)),
        ("pattern-of-other-thresholds", "bad-mask", layer(2, PRUNE=3)),
        ("kept-less", "bad-mask", lambda s: add(s.header, (LAYER, 0, *p.KEPT), -1)),
        ("kept-more", "bad-mask", lambda s: add(s.header, (LAYER, 2, *p.KEPT), 1)),
        ("kept-over-the-weights", "bad-mask", layer(1, KEPT=2**32)),
        ("const-kept-other", "bad-mask", layer(1, KEPT=35)),
        ("const-density-other", "bad-value", layer(1, DENSITY=128)),
        ("const-keeps-none", "bad-mask", layer(1, DENSITY=0)),
        ("const-of-tiles", "bad-value", layer(1, TILE_ROWS=1)),
        ("const-for-raw", "bad-checksum", layer(0, MODE="const", DENSITY=4096)),
        ("raw-for-const", "bad-checksum", layer(1, MODE="raw", DENSITY=0)),
        ("raw-for-coded", "bad-mask", layer(2, MODE="raw", DENSITY=0)),
        ("coded-for-raw", "bad-mask", layer(0, MODE="static", DENSITY=2048)),
        ("raw-of-a-density", "bad-value", layer(0, DENSITY=1)),
        ("density-0-of-a-coded-layer", "bad-value", layer(2, DENSITY=0)),
        ("density-other", "bad-mask", layer(2, DENSITY=321)),
        ("tile-rows-over-the-rows", "bad-value", layer(2, TILE_ROWS=119)),
        ("tile-rows-other", "bad-checksum", layer(2, TILE_ROWS=50)),
        ("names-doubled", "bad-value", layer(1, LAYER_NAME="conv")),
        ("ids-doubled", "bad-value", layer(5, ID=0)),
        ("layers-none", "bad-header", lambda s: place(s.header, (LAYER,), [])),
        ("layer-short", "bad-header", lambda s: s.header[LAYER][0].pop()),
        ("layer-long", "bad-header", lambda s: s.header[LAYER][0].append(0)),
        ("layer-more", "bad-graph", lambda s: s.header[LAYER].append(more_layer())),
        ("layers-4097", "bad-header", lambda s: place(s.header, (LAYER,), many_layers(4097))),
        *prior_rules(layer),
        *reserved(layer),
        # reading would cost more than the file
        ("bomb-of-positions", "limit", layer(1, OUT=2**20, INPUTS=2**10, TILE_ROWS=2**20)),
        ("bomb-of-2^32-positions", "limit", layer(1, OUT=2**20, INPUTS=2**12, TILE_ROWS=2**20)),
        ("bomb-of-2^52-positions", "limit", layer(1, OUT=2**20, INPUTS=2**20, ROWS=64, TILE_ROWS=2**20)),
        ("bomb-of-columns", "limit", layer(1, OUT=1, INPUTS=2**20, ROWS=64, COLUMNS=64, TILE_ROWS=1)),
        ("bomb-of-a-tile", "limit", layer(2, OUT=2**13 + 1, INPUTS=128, TILE_ROWS=2**13 + 1)),
        ("bomb-of-many-layers", "limit", lambda s: place(s.header, (LAYER,), many_layers(4096, 2**13))),
        ("bomb-of-index", "truncated", layer(5, OUT=2**12, TILE_ROWS=1)),
        ("bomb-of-affine", "truncated", layer(5, AFFINE=32)),
    ]


def prior_rules(layer: Callable[..., Callable[[Pieces], Any]]) -> list[Risk]:
    two = [[0, 100], [1, 200]]
    return [
        ("planes-without-a-prior", "bad-value", layer(2, PLANES=1)),
        ("sign-without-a-prior", "bad-value", layer(0, SIGN=True)),
        ("intervals-without-a-prior", "bad-value", layer(1, INTERVALS=two)),
        ("interval-without-a-prior", "bad-value", layer(2, INTERVALS=[[0, 320]])),
        ("prior-without-planes", "bad-value", layer(3, PLANES=0, SIGN=False, INTERVALS=[[0, 100]])),
        ("prior-of-a-density", "bad-value", layer(3, DENSITY=1)),
        ("intervals-none", "bad-value", layer(3, INTERVALS=[])),
        ("intervals-17", "bad-header", layer(3, PLANES=8, INTERVALS=[[i, 1 + i] for i in range(17)])),
        ("intervals-nil", "bad-header", layer(3, INTERVALS=None)),
        ("intervals-nested", "bad-header", layer(3, INTERVALS=[[[0, 1], [1, 2]]])),
        ("interval-short", "bad-header", layer(3, INTERVALS=[[0]])),
        ("interval-long", "bad-header", layer(3, INTERVALS=[[0, 1, 2]])),
        ("intervals-not-from-0", "bad-value", layer(3, INTERVALS=[[1, 100], [2, 200]])),
        ("intervals-descending", "bad-value", layer(3, INTERVALS=[[0, 1], [5, 2], [4, 3]])),
        ("intervals-doubled", "bad-value", layer(3, INTERVALS=[[0, 1], [5, 2], [5, 3]])),
        ("intervals-of-one-density", "bad-value", layer(3, INTERVALS=[[0, 1], [5, 1]])),
        ("interval-behind-the-cells", "bad-value", layer(3, INTERVALS=[[0, 1], [16, 2]])),
        ("interval-far-behind-the-cells", "bad-value", layer(4, INTERVALS=[[0, 1], [511, 2]])),
        ("sign-integer", "bad-header", layer(3, SIGN=1)),
        ("sign-text", "bad-header", layer(3, SIGN="true")),
        ("planes-other", "bad-mask", layer(3, PLANES=4)),
        ("sign-other", "bad-mask", layer(3, PLANES=4, SIGN=False)),
        ("intervals-other", "bad-mask", layer(3, INTERVALS=[[0, 3000], [3, 200], [9, 700], [15, 3899]])),
        ("prior-for-static", "bad-mask", layer(2, MODE="prior", DENSITY=0, PLANES=1, INTERVALS=two)),
        (
            "static-for-prior",
            "bad-mask",
            layer(3, MODE="static", DENSITY=9, PLANES=0, SIGN=False, INTERVALS=[]),
        ),
        ("prior-for-raw", "bad-mask", layer(5, MODE="prior", PLANES=1, INTERVALS=two)),
    ]


def reserved(layer: Callable[..., Callable[[Pieces], Any]]) -> list[Risk]:
    """Slots that this version has no use for."""
    quantised: dict[str, Any] = {"int8": ["int8"], "number": [1], "arrays": [[[]]], "nothing": [None]}
    return [
        *(put(f"quantised-{name}", "unsupported", (p.QUANTISATION,), v) for name, v in quantised.items()),
        *(put(f"quantisation-{v}", "bad-header", (p.QUANTISATION,), v) for v in (0, "", False, None)),
        *(
            put(f"value-law-{law}", "unsupported", (p.SOURCE, p.VALUE), law)
            for law in ("normal", "", "Constant")
        ),
        *(
            put(f"score-law-{law}", "unsupported", (p.SOURCE, p.SCORE), law)
            for law in ("normal", "", "uniform ")
        ),
        *(
            put(f"freeze-law-{law}", "bad-header", (p.SOURCE, p.FREEZE), law)
            for law in ("exact", "", 0, None)
        ),
        put("value-law-no-text", "bad-header", (p.SOURCE, p.VALUE), 1),
        put("score-law-no-text", "bad-header", (p.SOURCE, p.SCORE), ["uniform"]),
        ("patches-1", "unsupported", layer(0, PATCHES=1)),
        ("patches-2^32", "unsupported", layer(1, PATCHES=2**32)),
        ("patches-2^63", "bad-header", layer(1, PATCHES=2**63)),
        ("patches-array", "bad-header", layer(1, PATCHES=[])),
    ]


def more_layer() -> list[Any]:
    return layer_of("more", 9, 6, 6, 1, 1, 1, 0, 0, 0, 36, "const", 4096, 0, False, [], 6, 0)


def many_layers(count: int, out: int = 1) -> list[Any]:
    return [
        layer_of(f"{i}", i, out, 1, 1, 1, 1, 0, 0, 0, out, "const", 4096, 0, False, [], out, 0)
        for i in range(count)
    ]


def graphs() -> list[Risk]:
    def node(name: str, code: str, number: int, *value: Any) -> Risk:
        return put(name, code, (p.NODES, number), list(value))

    return [
        node("cycle-of-itself", "bad-graph", 0, "conv2d", 1, 0, 1, 1),
        node("cycle-of-two", "bad-graph", 1, "relu", 3),
        node("value-dangling", "bad-graph", 3, "add", 2, 9),
        node("value-far", "bad-header", 3, "add", 2, 2**14 + 1),
        node("value-2^63", "bad-header", 1, "relu", 2**63),
        node("value-negative", "bad-header", 1, "relu", -1),
        node("value-text", "bad-header", 1, "relu", "1"),
        node("value-float", "bad-header", 1, "relu", 1.0),
        node("layer-dangling", "bad-graph", 0, "conv2d", 0, 6, 1, 1),
        node("layer-2^63", "bad-header", 0, "conv2d", 0, 2**63, 1, 1),
        node("layer-negative", "bad-header", 0, "conv2d", 0, -1, 1, 1),
        node("layer-used-twice", "bad-graph", 8, "linear", 6, 2),
        node("layer-not-used", "bad-graph", 10, "relu", 10),
        *(
            node(f"operator-{name}", "bad-header", 1, operator, 1)
            for name, operator in {
                "empty": "",
                "unknown": "exec",
                "almost": "relu6",
                "capital": "Relu",
                "with-nul": "relu\0",
                "path": "../relu",
            }.items()
        ),
        node("operator-missing", "bad-header", 1),
        node("operator-alone", "bad-header", 1, "relu"),
        node("operands-missing", "bad-header", 3, "add", 2),
        node("operands-more", "bad-header", 1, "relu", 1, 1),
        node("attributes-left-out", "bad-header", 2, "conv2d", 2, 1),
        put("node-no-array", "bad-header", (p.NODES, 1), "relu"),
        put("nodes-none", "bad-header", (p.NODES,), []),
        put("nodes-16385", "bad-header", (p.NODES,), [["relu", 0]] * 16385),
        put("output-an-image", "bad-graph", (p.NODES,), [["conv2d", 0, 0, 1, 1]]),
        node("linear-of-an-image", "bad-graph", 6, "linear", 5, 2),
        node("linear-of-a-kernel", "bad-graph", 6, "linear", 6, 0),
        node("conv2d-of-a-flat-value", "bad-graph", 7, "conv2d", 7, 1, 1, 0),
        node("pool-of-a-flat-value", "bad-graph", 7, "max_pool2d", 7, 1, 1, 0),
        node("global-pool-of-a-flat-value", "bad-graph", 7, "global_avg_pool2d", 7),
        node("channels-other", "bad-graph", 2, "conv2d", 0, 1, 1, 0),
        node("add-of-two-shapes", "bad-graph", 3, "add", 0, 2),
        node("kernel-over-its-image", "bad-graph", 4, "avg_pool2d", 4, 64, 1, 0),
        node("padding-over-half-the-kernel", "bad-graph", 4, "max_pool2d", 4, 3, 2, 2),
        ("bomb-of-image", "limit", pooled_image),
        ("bomb-of-conv2d", "limit", wide_conv),
        put("provenance-descending", "bad-value", (p.PROVENANCE,), [["b", ""], ["a", ""]]),
        put("provenance-doubled", "bad-value", (p.PROVENANCE,), [["a", "1"], ["a", "2"]]),
        put("provenance-of-three", "bad-header", (p.PROVENANCE,), [["a", "1", "2"]]),
        put("provenance-no-array", "bad-header", (p.PROVENANCE,), "a"),
        put("provenance-65", "bad-header", (p.PROVENANCE,), [[f"{i:02}", ""] for i in range(65)]),
        ("header-short", "bad-header", lambda s: s.header.pop()),
        ("header-long", "bad-header", lambda s: s.header.append(0)),
    ]


def pooled_image(pieces: Pieces) -> None:
    """The image alone is over the bound; what is made of it is small."""
    pieces.header[p.INPUT] = [2**16, 2**14, 2**14, [], [], "exact", []]
    pieces.header[LAYER] = [
        layer_of("head", 0, 1, 2**16, 1, 1, 1, 0, 0, 0, 2**16, "const", 4096, 0, False, [], 1, 0)
    ]
    pieces.header[p.NODES] = [["global_avg_pool2d", 0], ["linear", 1, 0]]
    pieces.tiles, pieces.affines = [[]], [b""]


def wide_conv(pieces: Pieces) -> None:
    pieces.header[p.INPUT] = [1, 2**14, 2**14, [], [], "exact", []]
    pieces.header[LAYER] = [layer_of("c", 0, 2, 1, 1, 1, 1, 0, 0, 0, 2, "const", 4096, 0, False, [], 2, 0)]
    pieces.header[p.NODES] = [["conv2d", 0, 0, 1, 0], ["global_avg_pool2d", 1]]
    pieces.tiles, pieces.affines = [[]], [b""]


def spellings() -> list[Risk]:
    """Bytes that are no MessagePack, or another spelling of the sound header."""

    def encoded(name: str, data: bytes | Callable[[bytes], bytes]) -> Risk:
        def change(pieces: Pieces) -> None:
            pieces.encoded = data(write(pieces.header)) if callable(data) else data

        return f"messagepack-{name}", "bad-header", change

    def instead(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            assert old in data
            return data.replace(old, new, 1)

        return change

    rounds, name = b"philox4x32\x0a", b"\xa4base"
    mean = write([0.5, 0.25, 0.5, 0.5])
    return [
        encoded("integer-as-uint8", instead(rounds, rounds[:-1] + b"\xcc\x0a")),
        encoded("integer-as-uint16", instead(rounds, rounds[:-1] + b"\xcd\x00\x0a")),
        encoded("integer-as-uint32", instead(rounds, rounds[:-1] + b"\xce\x00\x00\x00\x0a")),
        encoded("integer-as-uint64", instead(rounds, rounds[:-1] + b"\xcf" + bytes(7) + b"\x0a")),
        encoded("integer-as-int8", instead(rounds, rounds[:-1] + b"\xd0\x0a")),
        encoded("integer-as-int64", instead(rounds, rounds[:-1] + b"\xd3" + bytes(7) + b"\x0a")),
        encoded("integer-as-float", instead(rounds, rounds[:-1] + write(10.0))),
        encoded("text-as-str8", instead(name, b"\xd9\x04base")),
        encoded("text-as-str16", instead(name, b"\xda\x00\x04base")),
        encoded("text-as-str32", instead(name, b"\xdb\x00\x00\x00\x04base")),
        encoded("text-as-bytes", instead(name, b"\xc4\x04base")),
        encoded("text-not-utf8", instead(name, b"\xa4b\xff\xfee")),
        encoded("text-overlong", instead(name, b"\xa4ba\xc1\xa1")),
        encoded("text-surrogate", instead(name, b"\xa4b\xed\xa0\x80")),
        encoded("text-beyond-unicode", instead(name, b"\xa4\xf4\x90\x80\x80")),
        encoded("text-cut-inside-a-character", instead(name, b"\xa4bas\xc3")),
        encoded("text-of-2^32", instead(name, b"\xdb\xff\xff\xff\xff")),
        encoded("float-as-float32", instead(mean[:10], b"\x94\xca\x3f\x00\x00\x00")),
        encoded("array-as-array16", instead(mean[:1], b"\xdc\x00\x04")),
        encoded("array-as-array32", instead(mean[:1], b"\xdd\x00\x00\x00\x04")),
        encoded("array-as-map", lambda data: b"\x87" + data[1:]),
        encoded("header-as-map", b"\x81\xa4name\xa1x"),
        encoded("nil", b"\xc0"),
        encoded("never-used", b"\xc1"),
        encoded("extension", b"\xc7\xff\x05"),
        encoded("timestamp", b"\xd6\xff\x00\x00\x00\x00"),
        encoded("byte-behind", lambda data: data + b"\0"),
        encoded("two-values", lambda data: data + data),
        encoded("cut", lambda data: data[:-1]),
        encoded("array-of-2^32", b"\xdd\xff\xff\xff\xff"),
        encoded("map-of-2^32", b"\xdf\xff\xff\xff\xff"),
        encoded("bytes-of-2^32", b"\xc6\xff\xff\xff\xff"),
        encoded("text-of-2^32-alone", b"\xdb\xff\xff\xff\xff"),
        encoded("arrays-in-arrays", b"\x91" * 2**20),
        encoded("arrays-of-fifteen-in-arrays", b"\x9f" * 2**20),
        encoded("maps-in-maps", b"\x81\x00" * 2**19),
        encoded("zeros", bytes(2**20)),
        encoded("ones", b"\xff" * 2**20),
        encoded("long-arrays-in-an-array", b"\x97" + b"\xdd\x00\x10\x00\x00" * 1000),
    ]


HEADER_RISKS: list[Risk] = [*bounds(), *images(), *layer_rules(), *graphs(), *spellings()]
