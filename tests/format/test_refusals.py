"""Headers that lie: each is refused with its code, before anything is allocated for what it claims."""

from __future__ import annotations

import re

import msgspec
import pytest

from slt_infer import _core
from slt_infer.errors import TicketError
from slt_infer.format import dumps, loads

from .conftest import make_ticket

DATA = dumps(make_ticket())
HEADER_BYTES = int.from_bytes(DATA[12:16], "little")
HEADER = msgspec.msgpack.decode(DATA[32 : 32 + HEADER_BYTES])
NAME, INPUT, SOURCE, LAYERS, NODES, QUANTISATION, PROVENANCE = range(7)
OUT, INPUTS, ROWS, COLUMNS, GROUPS, BITS, PRUNE, LOCK, TILE_ROWS, PATCHES, AFFINE, TASKS = range(2, 14)
KEPT, COATS, FLIPS = ((TASKS, 0, i) for i in range(3))
MODE, DENSITY, PLANES, SIGN, INTERVALS = ((*COATS, 0, i) for i in range(5))


def with_header(encoded: bytes) -> bytes:
    """The file with another header, lengths and checksum right."""
    rest = DATA[-(-(32 + HEADER_BYTES) // 8) * 8 :]
    body = encoded + bytes(-(32 + len(encoded)) % 8) + rest
    start = DATA[:12] + len(encoded).to_bytes(4, "little") + (32 + len(body)).to_bytes(8, "little") + bytes(4)
    return start + _core.crc32c(encoded, _core.crc32c(start)).to_bytes(4, "little") + body


def refused(encoded: bytes) -> TicketError:
    with pytest.raises(TicketError) as refusal:
        loads(with_header(encoded))
    return refusal.value


def changed(path: list[int], value: object) -> bytes:
    header = msgspec.msgpack.decode(msgspec.msgpack.encode(HEADER))
    place = header
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return msgspec.msgpack.encode(header)


def test_the_header_itself_is_accepted():
    assert loads(with_header(msgspec.msgpack.encode(HEADER))).network.name == "small"


CASES = [
    # path, value, code, text
    ([SOURCE, 0], "mt19937", "bad-header", "mt19937"),
    ([SOURCE, 1], 8, "bad-value", "8 rounds"),
    ([SOURCE, 2], -1, "bad-header", ">= 0"),
    ([INPUT, 0], 0, "bad-header", ">= 1"),
    ([INPUT, 0], 5, "bad-value", "mean and std"),
    ([INPUT, 1], 2**14 + 1, "bad-header", "<="),
    ([INPUT, 3, 0], float("nan"), "bad-value", "finite"),
    ([INPUT, 4, 0], 0.0, "bad-value", "above 0"),
    ([INPUT, 4, 0], float("inf"), "bad-value", "finite"),
    ([INPUT, 5], "zoom", "bad-header", "zoom"),
    ([LAYERS, 0, OUT], 2**20 + 2, "bad-header", "<="),
    ([LAYERS, 0, OUT], 5, "bad-value", "5 rows in 2 groups"),
    ([LAYERS, 0, INPUTS], 2**20, "limit", "tiles of 6 rows"),
    ([LAYERS, 0, INPUTS], 3, "bad-graph", "channels"),
    ([LAYERS, 0, ROWS], 9, "bad-graph", "does not fit"),
    ([LAYERS, 0, BITS], 17, "bad-header", "<= 16"),
    ([LAYERS, 0, BITS], 1, "bad-mask", "number of bits"),
    ([LAYERS, 0, PRUNE], 4, "bad-value", "over 4"),
    ([LAYERS, 1, LOCK], 2, "bad-value", "over 1"),
    ([LAYERS, 0, BITS], 16, "bad-mask", "number of bits"),
    ([LAYERS, 0, *KEPT], 0, "bad-header", ">= 1"),
    ([LAYERS, 0, *KEPT], 2**63, "bad-header", "<="),
    ([LAYERS, 0, *KEPT], 17, "bad-mask", "17 kept"),
    ([LAYERS, 0, *MODE], "nibble", "bad-header", "nibble"),
    ([LAYERS, 0, *MODE], "prior", "bad-value", "a plane at least"),
    ([LAYERS, 0, *DENSITY], 3, "bad-value", "density 3 in mode raw"),
    ([LAYERS, 1, *DENSITY], 3, "bad-value", "density 3 in mode const"),
    ([LAYERS, 1, *DENSITY], 0, "bad-mask", "kept"),
    ([LAYERS, 2, *DENSITY], 0, "bad-value", "density 0 in mode static"),
    ([LAYERS, 2, *DENSITY], 4096, "bad-value", "density 4096 in mode static"),
    ([LAYERS, 2, *DENSITY], 4097, "bad-header", "<= 4096"),
    ([LAYERS, 4, *DENSITY], 1, "bad-value", "density 1 in mode prior"),
    ([LAYERS, 4, *MODE], "raw", "bad-value", "planes, sign or intervals in mode raw"),
    ([LAYERS, 0, *PLANES], 1, "bad-value", "planes, sign or intervals in mode raw"),
    ([LAYERS, 1, *SIGN], True, "bad-value", "planes, sign or intervals in mode const"),
    ([LAYERS, 2, *INTERVALS], [[0, 7]], "bad-value", "planes, sign or intervals in mode static"),
    ([LAYERS, 4, *PLANES], 9, "bad-header", "<= 8"),
    ([LAYERS, 4, *PLANES], -1, "bad-header", ">= 0"),
    ([LAYERS, 4, *PLANES], 0, "bad-value", "a plane at least"),
    ([LAYERS, 4, *PLANES], 1, "bad-value", "starts at .* of 2"),
    ([LAYERS, 4, *SIGN], 1, "bad-header", "bool"),
    ([LAYERS, 4, *SIGN], True, "bad-mask", "tile 0"),
    ([LAYERS, 4, *INTERVALS], [], "bad-value", "start at 0"),
    ([LAYERS, 4, *INTERVALS], [[1, 7]], "bad-value", "start at 0"),
    ([LAYERS, 4, *INTERVALS], [[0, 7], [0, 8]], "bad-value", "strictly ascending"),
    ([LAYERS, 4, *INTERVALS], [[0, 7], [2, 8], [1, 7]], "bad-value", "strictly ascending"),
    ([LAYERS, 4, *INTERVALS], [[0, 7], [1, 7]], "bad-value", "one density"),
    ([LAYERS, 4, *INTERVALS], [[0, 7], [256, 8]], "bad-value", "starts at 256 of"),
    ([LAYERS, 4, *INTERVALS], [[0, 0]], "bad-header", ">= 1"),
    ([LAYERS, 4, *INTERVALS], [[0, 4096]], "bad-header", "<= 4095"),
    ([LAYERS, 4, *INTERVALS], [[0, 7], [512, 8]], "bad-header", "<= 511"),
    ([LAYERS, 4, *INTERVALS], [[0, 7, 1]], "bad-header", "length"),
    ([LAYERS, 4, *INTERVALS], [[i, 1 + i] for i in range(17)], "bad-header", "length"),
    ([LAYERS, 4, *INTERVALS], [[0, 7]], "bad-mask", "tile 0"),
    ([LAYERS, 0, TILE_ROWS], 0, "bad-header", ">= 1"),
    ([LAYERS, 0, TILE_ROWS], 7, "bad-value", "7 rows a tile"),
    ([LAYERS, 1, TILE_ROWS], 1, "bad-value", "tiles of all rows"),
    ([LAYERS, 0, AFFINE], 1, "bad-header", "1"),
    ([LAYERS, 0, PATCHES], 1, "unsupported", "patches"),
    ([QUANTISATION], [8], "unsupported", "quantised"),
    ([SOURCE, 3], "exact", "bad-header", "exact"),
    ([SOURCE, 4], "normal", "unsupported", "normal"),
    ([SOURCE, 5], "normal", "unsupported", "normal"),
    ([LAYERS, 1, 0], "conv", "bad-value", "one name"),
    ([LAYERS, 1, 1], 0, "bad-value", "has the id of"),
    ([LAYERS], [], "bad-header", "length"),
    ([NODES], [], "bad-header", "length"),
    ([NODES, 0], ["conv3d", 0, 0, 1, 1], "bad-header", "conv3d"),
    ([NODES, 0], ["conv2d", 0, 0, 1, 1, 1], "bad-header", "length"),
    ([NODES, 0, 1], 1, "bad-graph", "not made yet"),
    ([NODES, 0, 2], 5, "bad-graph", "names layer 5 of 5"),
    ([NODES, 0, 3], 0, "bad-header", ">= 1"),
    ([NODES, 2, 2], 0, "bad-graph", "channels|used by"),
    ([NODES, 3], ["add", 0, 2], "bad-graph", "cannot add"),
    ([NODES, 4], ["max_pool2d", 4, 3, 2, 2], "bad-graph", "over half"),
    ([NODES, 8], ["relu", 8], "bad-graph", "used by 0 nodes"),
    ([PROVENANCE], [["b", "1"], ["a", "2"]], "bad-value", "ascending"),
    ([PROVENANCE], [["a", "1"], ["a", "2"]], "bad-value", "ascending"),
    ([NAME], "x" * 257, "bad-header", "length"),
    ([NAME], "\u00e9" * 129, "limit", "258 bytes"),
    ([LAYERS, 2, 0], "\u00e9" * 129, "limit", "258 bytes"),
    ([PROVENANCE], [["a", "\u00e9" * 129]], "limit", "258 bytes"),
    ([INPUT, 6], ["\u00e9" * 129], "limit", "258 bytes"),
    ([INPUT], [4, 2**14, 2**14, [], [], "exact", []], "limit", "input"),
]


@pytest.mark.parametrize(("path", "value", "code", "text"), CASES)
def test_a_lying_header_is_refused(path, value, code, text):
    error = refused(changed(path, value))
    assert error.code == code
    assert re.search(text, str(error)), str(error)


def test_headers_that_are_not_canonical_are_refused():
    encoded = msgspec.msgpack.encode(HEADER)
    seed_at = encoded.index(b"philox4x32") + 10 + 1  # behind the name and the rounds
    assert encoded[seed_at] == 1
    longer = encoded[:seed_at] + b"\xcc\x01" + encoded[seed_at + 1 :]
    assert msgspec.msgpack.decode(longer) == HEADER
    assert refused(longer).code == "bad-header"
    assert "canonical" in str(refused(longer))
    assert refused(encoded + b"\0").code == "bad-header"


@pytest.mark.parametrize(
    "encoded", [b"\x93" * 10_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc1", b"\xc7\xff\x05"]
)
def test_bombs_in_messagepack_are_refused(encoded):
    assert refused(encoded).code == "bad-header"


def test_text_that_is_not_utf8_is_refused():
    encoded = msgspec.msgpack.encode(HEADER).replace(b"small", b"sm\xff\xfel")
    assert refused(encoded).code == "bad-header"


def test_a_small_file_cannot_ask_for_much_work():
    """A const layer costs the file nothing, but the reader a freeze pattern: positions are bounded by the
    file's length.
    """
    header = msgspec.msgpack.decode(msgspec.msgpack.encode(HEADER))
    header[LAYERS][3][OUT] = 2**20
    header[LAYERS][3][TILE_ROWS], header[LAYERS][3][TASKS] = 2**20, [[1, [["const", 0, 0, False, []]], []]]
    error = refused(msgspec.msgpack.encode(header))
    assert (error.code, error.segment) == ("limit", "header")


def test_a_magic_number_alone_and_another_version_are_refused():
    with pytest.raises(TicketError, match="fewer than the prefix"):
        loads(DATA[:20])
    with pytest.raises(TicketError, match=r"version 2; this program reads version 1") as refusal:
        loads(DATA[:8] + b"\2" + DATA[9:])
    assert refusal.value.code == "bad-version"
