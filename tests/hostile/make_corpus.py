"""Hostile `.slt` files, each named after its risk, with the code of the error that must meet it.

    python -m tests.hostile.make_corpus FOLDER

from the repository's root writes them all, and the sound files that they spoil, as FOLDER/NAME.slt. Every
file has the right checksums and lengths wherever these are not its risk, so that it reaches the check that
it is for.
"""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import pieces as p
from .headers import HEADER_RISKS, put
from .pieces import RAW, Pieces
from .quantised import QUANTISED_RISKS
from .sound import base, narrowed, quantised, rich
from .tasks import TASK_RISKS

BASE, RICH, QUANTISED = base(), rich(), quantised()


@dataclass(frozen=True)
class Hostile:
    """name: the risk. code: of the TicketError that refuses it."""

    name: str
    data: bytes
    code: str


def spoiled(name: str, code: str, change: Callable[[Pieces], Any], sound: Pieces = BASE) -> Hostile:
    pieces = sound.copy()
    change(pieces)
    return Hostile(name, pieces.build(), code)


def with_fields(name: str, code: str, **fields: Any) -> Hostile:
    return spoiled(name, code, lambda pieces: [setattr(pieces, *item) for item in fields.items()])


def prefixes() -> Iterator[Hostile]:
    """The first 32 bytes, and what stands before and behind the file."""
    data, starts = BASE.build_parts()
    yield Hostile("empty-file", b"", "truncated")
    for size in (1, 8, 20, 31):
        yield Hostile(f"prefix-cut-to-{size}", data[:size], "truncated")
    yield with_fields("magic-newlines-mangled", "bad-magic", magic=b"\x89SLT\n\x1a\n\x00")
    yield with_fields("magic-of-png", "bad-magic", magic=b"\x89PNG\r\n\x1a\n")
    for name, before in {
        "shell": b"#!/bin/sh\nexit\n",
        "zip": b"PK\x03\x04" + bytes(26),
        "elf": b"\x7fELF" + bytes(60),
        "gzip": b"\x1f\x8b\x08" + bytes(7),
        "html": b"<script>0</script>",
        "pickle": b"\x80\x04\x95" + bytes(8),
        "zero-block": bytes(512),
    }.items():
        yield Hostile(f"polyglot-{name}-before", before + data, "bad-magic")
        yield Hostile(f"polyglot-{name}-behind", data + before, "trailing")
    for name, behind in {"byte": b"\0", "copy": data, "zip-directory": b"PK\x05\x06" + bytes(18)}.items():
        yield Hostile(f"trailing-{name}", data + behind, "trailing")
        sealed = BASE.copy()
        sealed.file_bytes = len(data) + len(behind)
        yield Hostile(f"trailing-{name}-in-the-length", sealed.build() + behind, "trailing")
    for version in (0, 2, 255, 2**31, 2**32 - 1):
        yield with_fields(f"version-{version}", "bad-version", version=version)
    for size in (0, 2**20 + 1, 2**31, 2**32 - 1):
        yield with_fields(f"header-bytes-{size}", "limit", header_bytes=size)
    yield with_fields("header-bytes-over-the-file", "truncated", header_bytes=2**20)
    yield with_fields("header-bytes-one-more", "bad-header", header_bytes=starts["index"] - 31)
    yield with_fields("header-bytes-one-less", "bad-header", header_bytes=len(p.write(BASE.header)) - 1)
    for delta in (-8, -1):
        yield with_fields(f"file-bytes{delta}", "trailing", file_bytes=len(data) + delta)
    yield with_fields("file-bytes-0", "trailing", file_bytes=0)
    for size in (len(data) + 1, 2**32, 2**63, 2**64 - 1):
        yield with_fields(f"file-bytes-{size}", "truncated", file_bytes=size)
    for value in (1, 2**32 - 1):
        yield with_fields(f"reserved-{value}", "bad-value", reserved=value)
    for value in (0, 2**32 - 1):
        yield with_fields(f"header-crc-{value}", "bad-checksum", header_crc=value)


def lengths() -> Iterator[Hostile]:
    """Files that end early, gap, or overlap, although they say that they are whole."""
    data, starts = BASE.build_parts()
    for name, start in starts.items():
        part = name.replace(" ", "-")
        for at in (start, start + 1, start + 4):
            yield Hostile(f"cut-in-{part}-at-{at}", data[:at], "truncated")
            pieces = BASE.copy()
            pieces.cut = pieces.file_bytes = at
            yield Hostile(f"cut-in-{part}-at-{at}-resealed", pieces.build(), "truncated")
    for at in (len(data) - 8, len(data) - 4, len(data) - 1):
        pieces = BASE.copy()
        pieces.cut = pieces.file_bytes = at
        yield Hostile(f"cut-at-{at}-resealed", pieces.build(), "truncated")
    # a gap or an overlap moves all that follows, so a checksum or a length behind it cannot fit
    for name, size in itertools.product(starts, (4, 8)):
        code = {"header": "bad-header"}.get(name, "bad-checksum")
        pieces = BASE.copy()
        pieces.gaps = {name: bytes(size)}
        yield Hostile(f"gap-of-{size}-before-{name.replace(' ', '-')}", pieces.build(), code)
        if name != "header":
            whole = bytearray(BASE.build())
            del whole[starts[name] : starts[name] + size]
            whole[16:24] = struct.pack("<Q", len(whole))
            code = "truncated" if (name, size) == ("affine 2", 8) else "bad-checksum"
            yield Hostile(f"overlap-of-{size}-at-{name.replace(' ', '-')}", reseal(bytes(whole)), code)
    size = -len(p.write(BASE.header)) % 8
    behind = bytes(size - 1) + b"\1"
    yield with_fields("padding-of-header", "bad-padding", header_behind=behind)
    index = 12 * sum(map(len, BASE.tiles)) + 4
    yield with_fields("padding-of-index", "bad-padding", index_behind=bytes(-index % 8 - 1) + b"\1")
    yield spoiled("padding-of-a-tile", "bad-padding", lambda s: set_tile(s, 2, 0, behind=b"\1\0"))
    odd = next(i for i, tiles in enumerate(BASE.tiles) if sum(-(-len(t.payload) // 4) for t in tiles) % 2)
    yield with_fields("padding-of-a-segment", "bad-padding", segment_behind={odd: b"\0\0\0\1"})
    yield with_fields("padding-of-an-affine", "bad-padding", affine_behind={0: b"\0\0\0\1"})


def reseal(data: bytes) -> bytes:
    """The prefix's checksum made right."""
    header_bytes = int.from_bytes(data[12:16], "little")
    return data[:28] + struct.pack("<I", p.crc32c(data[:28] + data[32 : 32 + header_bytes])) + data[32:]


def set_tile(pieces: Pieces, layer: int, tile: int, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(pieces.tiles[layer][tile], name, value)


def with_tile(name: str, code: str, layer: int, tile: int, **fields: Any) -> Hostile:
    return spoiled(name, code, lambda pieces: set_tile(pieces, layer, tile, **fields))


def index_lies() -> Iterator[Hostile]:
    yield with_fields("index-crc", "bad-checksum", index_crc=0)
    data = BASE.build()
    start = BASE.build_parts()[1]["index"]
    count = sum(map(len, BASE.tiles))
    entries = data[start : start + 12 * count]
    yield with_fields("index-of-one-entry-less", "bad-checksum", index=entries[:-12])
    yield with_fields("index-of-one-entry-more", "bad-checksum", index=entries + bytes(12))
    yield with_fields("index-all-ones", "truncated", index=b"\xff" * len(entries))
    yield with_fields("index-all-zeros", "bad-checksum", index=bytes(len(entries)))
    coded, raw, flagged = BASE.tiles[2][1], BASE.tiles[0][0], BASE.tiles[2][4]
    for free in (0, coded.free - 1, coded.free + 1, 25 * 54, 25 * 54 + 1, 2**31, 2**32 - 1):
        yield with_tile(f"coded-tile-free-{free}", "bad-mask", 2, 1, free=free)
    for free in (0, raw.free - 1, raw.free + 1, 2**32 - 1):
        yield with_tile(f"raw-tile-free-{free}", "bad-mask", 0, 0, free=free)

    def move(pieces: Pieces, by: int) -> None:
        pieces.tiles[2][0].free -= by
        pieces.tiles[2][1].free += by

    for by in (1, 32, -1):
        yield spoiled(f"free-weights-moved-by-{by}", "bad-mask", lambda pieces, by=by: move(pieces, by))
    for words in (coded.words - 1, coded.words + 1, 0):
        yield with_tile(f"coded-tile-words-{words}", "bad-checksum", 2, 1, words=words)
    for words in (2**31 - 1, 2**30, 2**32 - 1):
        yield with_tile(f"tile-words-{words}", "truncated", 2, 1, words=words)
    yield with_tile("tile-crc", "bad-checksum", 2, 1, crc=0)
    yield with_tile("raw-tile-crc", "bad-checksum", 0, 0, crc=2**32 - 1)
    yield with_tile("raw-flag-on-a-coded-tile", "bad-mask", 2, 1, words=coded.words | RAW)
    yield with_tile("raw-flag-taken-away", "bad-mask", 2, 4, words=flagged.words & ~RAW)
    yield with_tile("raw-flag-in-a-raw-layer", "bad-mask", 0, 0, words=raw.words | RAW)
    yield spoiled("tiles-swapped", "bad-mask", lambda pieces: pieces.tiles[2].reverse())
    yield spoiled("tiles-of-two-layers-swapped", "bad-mask", lambda pieces: swap(pieces, (2, 0), (3, 0)))


def swap(pieces: Pieces, one: tuple[int, int], other: tuple[int, int]) -> None:
    tiles = pieces.tiles
    tiles[one[0]][one[1]], tiles[other[0]][other[1]] = tiles[other[0]][other[1]], tiles[one[0]][one[1]]


def with_payload(name: str, layer: int, number: int, payload: bytes) -> Hostile:
    flag = BASE.tiles[layer][number].words & RAW
    fields = {"payload": payload, "words": len(payload) // 2 | flag}
    return with_tile(name, "bad-mask", layer, number, **fields)


def coded_payloads(layer: int) -> Iterator[Hostile]:
    """Coded tiles whose checksums are right and whose content no encoder gives."""
    mode = p.get(BASE.header[p.LAYERS][layer], p.MODE)
    coded = BASE.tiles[layer][1].payload
    changes = {}
    for lane in (0, 1, 3):  # of 4
        before, behind = coded[: 4 * lane], coded[4 * lane + 4 :]
        (state,) = struct.unpack_from("<I", coded, 4 * lane)
        for start in (0, 1, 2**16 - 1):
            changes[f"start-state-{start}-in-lane-{lane}"] = before + struct.pack("<I", start) + behind
        # a state that may start, and cannot end right
        for flip in (1, 1 << 12, 1 << 16):
            changed = struct.pack("<I", max(state ^ flip, 2**16))
            changes[f"final-state-by-{flip}-in-lane-{lane}"] = before + changed + behind
    changes |= {
        "final-state-by-the-last-word": coded[:-1] + bytes([coded[-1] ^ 1]),
        "words-missing": coded[:-2],
        "words-left": coded + b"\0\0",
        "words-left-many": coded + bytes(2 * 800),
        "states-alone": coded[:16],
        "states-missing": coded[:14],
        "payload-missing": b"",
        "states-all-ones": b"\xff" * len(coded),
        "states-all-zero": bytes(len(coded)),
    }
    for name, payload in changes.items():
        assert payload != coded
        yield with_payload(f"{mode}-{name}", layer, 1, payload)


def raw_payloads() -> Iterator[Hostile]:
    """The same of raw tiles."""
    raw, second = BASE.tiles[0][0].payload, BASE.tiles[5][1].payload
    assert BASE.tiles[5][0].free % 32
    before = bytes([second[0] | 1]) + second[1:]
    yield with_payload("raw-bit-behind-the-tile", 0, 0, raw[:-1] + bytes([raw[-1] | 0x80]))
    yield with_payload("raw-bit-before-the-tile", 5, 1, before)
    yield with_payload("raw-word-missing", 0, 0, raw[:-4])
    yield with_payload("raw-word-more", 0, 0, raw + bytes(4))
    for layer in (2, 3):
        last = BASE.tiles[layer][4].payload
        mode = p.get(BASE.header[p.LAYERS][layer], p.MODE)
        yield with_payload(f"raw-bits-all-set-in-{mode}", layer, 4, b"\xff" * len(last))


def affines() -> Iterator[Hostile]:
    values = {"nan": float("nan"), "inf": float("inf"), "minus-inf": float("-inf")}
    size = len(BASE.affines[0])
    for (name, value), (what, at) in itertools.product(
        values.items(), {"scale": 0, "shift": size - 4}.items()
    ):
        affine = BASE.affines[0][:at] + struct.pack("<f", value) + BASE.affines[0][at + 4 :]
        yield spoiled(
            f"{what}-{name}", "bad-value", lambda s, affine=affine: s.affines.__setitem__(0, affine)
        )
    signalling = struct.pack("<I", 0x7F800001) + BASE.affines[0][4:]
    yield spoiled("scale-signalling-nan", "bad-value", lambda s: s.affines.__setitem__(0, signalling))
    yield with_fields("affine-crc", "bad-checksum", affine_crcs={2: 1})
    short = BASE.affines[0][:-8]
    yield spoiled("affine-short", "bad-checksum", lambda s: s.affines.__setitem__(0, short))
    yield spoiled("affine-missing", "bad-checksum", lambda s: s.affines.__setitem__(0, b""))
    yield spoiled("affine-last-missing", "truncated", lambda s: s.affines.__setitem__(2, b""))
    yield spoiled("affine-not-announced", "trailing", lambda s: s.affines.__setitem__(5, bytes(24)))


def narrow_affines() -> Iterator[Hostile]:
    """Forms of 8 and 16 bits that are not the one form of their values, or end early."""
    for bits, code in ((8, "B"), (16, "H")):
        narrow, top = narrowed(BASE, bits), 2**bits - 1
        out = narrow.header[p.LAYERS][0][p.OUT]
        forms = {
            "low-nan": (float("nan"), 0.5, 0, top),
            "low-minus-inf": (float("-inf"), 0.5, 0, top),
            "low-minus-0": (-0.0, 0.5, 0, top),
            "step-nan": (1.0, float("nan"), 0, top),
            "step-inf": (1.0, float("inf"), 0, top),
            "step-negative": (1.0, -0.5, 0, top),
            "step-minus-0": (1.0, -0.0, 0, 0),
            "step-denormal": (1.0, 2.0**-149, 0, top),
            "value-inf": (3e38, 1e38, 0, top),
            "no-code-0": (1.0, 0.5, 1, top),
            "no-code-of-all-bits": (1.0, 0.5, 0, top - 1),
            "codes-without-step": (1.0, 0.0, 0, top),
        }
        for name, (low, step, *codes) in forms.items():
            scales = [*codes, *[codes[0]] * (out - 2)]
            pieces = narrow.copy()
            shifts = bytes(8 + out * bits // 8)
            pieces.affines[0] = struct.pack(f"<ff{out}{code}", low, step, *scales) + shifts
            yield Hostile(f"affine-of-{bits}-{name}", pieces.build(), "bad-value")
        pieces = narrow.copy()
        pieces.affines[0] = pieces.affines[0][:-2]
        yield Hostile(f"affine-of-{bits}-short", pieces.build(), "bad-checksum")
        pieces = BASE.copy()
        pieces.header[p.LAYERS][0][p.AFFINE] = bits
        yield Hostile(f"affine-of-32-as-of-{bits}", pieces.build(), "bad-checksum")


def headers() -> Iterator[Hostile]:
    for name, code, change in HEADER_RISKS:
        yield spoiled(name, code, change)


def tasks() -> Iterator[Hostile]:
    for name, code, change in TASK_RISKS:
        yield spoiled(name, code, change, RICH)


def scales() -> Iterator[Hostile]:
    for name, code, change in QUANTISED_RISKS:
        yield spoiled(name, code, change, QUANTISED)
    codes = [0] * 5  # as many as it would have
    change = put("scales-of-two-tasks", "bad-value", (p.QUANTISATION,), ["int8", False, codes])
    yield spoiled(*change, RICH)


def corpus() -> list[Hostile]:
    """Every hostile file; names differ."""
    coded = itertools.chain(coded_payloads(2), coded_payloads(3), raw_payloads())
    found = [*prefixes(), *lengths(), *headers(), *tasks(), *scales(), *index_lies(), *coded]
    found += [*affines(), *narrow_affines()]
    names = [hostile.name for hostile in found]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise AssertionError(f"two files with one name: {doubled}")
    return found


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sound.slt").write_bytes(BASE.build())
    (folder / "sound-tasks.slt").write_bytes(RICH.build())
    (folder / "sound-int8.slt").write_bytes(QUANTISED.build())
    found = corpus()
    for hostile in found:
        (folder / f"{hostile.name}.slt").write_bytes(hostile.data)
    print(f"{len(found)} hostile files, {sum(len(hostile.data) for hostile in found)} bytes")


if __name__ == "__main__":
    main()
