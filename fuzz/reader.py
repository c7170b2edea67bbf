"""Any bytes as a file: refused by TicketError, or read whole, written back as they were, and taken by the
independent decoder too, which must refuse what the package refuses.

    python fuzz/reader.py FOLDER... [-max_total_time=SECONDS] [libFuzzer's other options]

FOLDER... are corpora, the first takes new inputs. Guided by coverage of the Python code where atheris is
installed; else mutations of the seeds at random. A mutation's checksums and lengths are mostly made right, so
that it gets past them.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports(include=["slt_infer"]) if atheris else contextlib.nullcontext():
    slt_infer = importlib.import_module("slt_infer")
    file_format = importlib.import_module("slt_infer.format")
    messagepack = importlib.import_module("tests.independent.messagepack")
    decoder = importlib.import_module("tests.independent.decoder")
    int8 = importlib.import_module("tests.independent.int8")
    quantise = importlib.import_module("slt_infer.quantise")
    pieces = importlib.import_module("tests.hostile.pieces")

# Above this the independent decoder, in plain Python, is too slow to ask.
MOST_POSITIONS = 2**16
# What taking a spoilt file apart, or building one from nonsense, can end in.
UNFIT = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error, MemoryError)


def check(data: bytes) -> None:
    """Raises AssertionError for a finding, and whatever the reader raises but TicketError."""
    try:
        ticket = file_format.loads(data)
    except slt_infer.TicketError:
        ticket = None
    if ticket is not None:
        assert file_format.dumps(ticket) == data, "a file is written back otherwise than it was"
        layers = [layer for task in ticket.tasks for layer in task]
        if sum(la.shape.out * la.shape.row_positions * len(la.streams) for la in layers) > MOST_POSITIONS:
            return
    elif costly(data):
        return
    try:
        file = decoder.decode(data)
    except decoder.Refused:
        assert ticket is None, "the independent decoder refuses what the package reads"
        return
    assert ticket is not None, "the independent decoder reads what the package refuses"
    if ticket.quantisation is not None:
        for value, of in quantise.rounding(ticket).items():
            integers = of.m.tolist(), of.m_r, of.b.tolist(), of.s
            wanted = int8.integers(file.header, file.layers, value)
            assert integers == wanted, "int8 rounds otherwise than in the independent program"


def costly(data: bytes) -> bool:
    """Whether a header asks the independent decoder for more positions than it can have."""
    try:
        header = messagepack.read(data[32 : 32 + int.from_bytes(data[12:16], "little")])
        layers = [dict(zip(decoder.LAYER, layer, strict=True)) for layer in header[pieces.LAYERS]]
        streams = max(1, len(pieces.streams(header)))  # of any layer at most
        return streams * sum(la["out"] * decoder.row_positions(la) for la in layers) > MOST_POSITIONS
    except UNFIT:
        return False


def reseal(data: bytes) -> bytes:
    """The file with lengths and checksums made right, as far as it can be followed."""
    try:
        file = pieces.take_apart(data)
        return file.build()
    except UNFIT:
        pass
    header_bytes = int.from_bytes(data[12:16], "little")
    start = data[:16] + struct.pack("<Q", len(data)) + data[24:28]
    return start + struct.pack("<I", pieces.crc32c(start + data[32 : 32 + header_bytes])) + data[32:]


def change_header(data: bytes, numbers: random.Random) -> bytes:
    """One value somewhere in the header replaced, doubled or taken away, the rest fitting."""
    try:
        file = pieces.take_apart(data)
    except UNFIT:
        return data
    place: Any = file.header
    while True:
        if not place:
            return data
        i = numbers.randrange(len(place))
        if not isinstance(place[i], list) or numbers.random() < 0.05:
            break
        place = place[i]
    old = place[i]
    near = [old + 1, old - 1, 2 * old, old ^ 1] if isinstance(old, int) else [old]
    other = numbers.choice(place)
    numbers_near_bounds = [0, -1, 1, 2, 127, 128, 255, 4096, 2**16, 2**31, 2**32, 2**64 - 1]
    anything = [*numbers_near_bounds, "", "x", "\u00e9" * 129, True, False, None, 0.5, [], other]
    how = numbers.random()
    if how < 0.1:
        del place[i]
    elif how < 0.2:
        place.insert(i, old)
    else:
        place[i] = numbers.choice(near if how < 0.7 else anything)
    try:
        return file.build()
    except UNFIT:
        return data


def mutate(data: bytes, numbers: random.Random) -> bytes:
    """A few bytes flipped, cut, copied or put in."""
    changed = bytearray(data)
    for _ in range(numbers.randrange(1, 5)):
        at, size = numbers.randrange(len(changed) + 1), numbers.randrange(1, 9)
        how = numbers.randrange(5)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << numbers.randrange(8)
        elif how == 1:
            changed[at : at + size] = numbers.randbytes(size)
        elif how == 2:
            del changed[at : at + size]
        elif how == 3:
            changed[at:at] = numbers.randbytes(size)
        else:
            source = numbers.randrange(len(changed) + 1)
            changed[at : at + size] = changed[source : source + size]
    return bytes(changed)


def shape(data: bytes, numbers: random.Random) -> bytes:
    """What is done behind a mutation of the bytes."""
    how = numbers.random()
    if how < 0.1:
        return data
    return change_header(data, numbers) if how < 0.4 else reseal(data)


def custom_mutator(data: bytes, most: int, seed: int) -> bytes:
    numbers = random.Random(seed)
    mutated = data if numbers.random() < 0.3 else atheris.Mutate(data, most)
    return shape(mutated, numbers)[:most]


def without_atheris(arguments: list[str]) -> None:
    """The same for `-max_total_time` seconds, blindly."""
    options = dict(a[1:].partition("=")[::2] for a in arguments if a.startswith("-"))
    seconds = float(options.get("max_total_time", 60))
    folders = [Path(a) for a in arguments if not a.startswith("-")]
    seeds = [path.read_bytes() for folder in folders for path in sorted(folder.iterdir())]
    numbers, executions, end = random.Random(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = shape(mutate(numbers.choice(seeds), numbers), numbers)
        try:
            check(data)
        except BaseException:
            finding = Path(options.get("artifact_prefix", "") + f"crash-{executions}")
            finding.write_bytes(data)
            print(f"Test unit written to {finding}")
            raise
        executions += 1
    print(f"stat::number_of_executed_units: {executions}")


if __name__ == "__main__":
    if atheris is None:
        without_atheris(sys.argv[1:])
    else:
        atheris.Setup(sys.argv, check, custom_mutator=custom_mutator)
        atheris.Fuzz()
