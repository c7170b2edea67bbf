"""IDX files, the format of MNIST and its kin: http://yann.lecun.com/exdb/mnist, "FILE FORMATS".

Two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit
integer, then the values, last dimension fastest. The files may be gzipped.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from slt_infer.errors import DataError

PREFIXES = {"train": ("train",), "test": ("t10k", "test")}
DEFLATE = 1032  # no deflate stream expands more than this


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of an IDX file of so many dimensions. Raises DataError with the byte at fault."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        room = raw.seek(0, 2) * (DEFLATE if zipped else 1)
        raw.seek(0)
        try:
            return _read(gzip.GzipFile(fileobj=raw) if zipped else raw, dimensions, room, str(path))  # type: ignore[arg-type]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                "malformed", f"damaged gzip data: {error}", f"{path} at byte {raw.tell()}"
            ) from error


def _read(file: BinaryIO, dimensions: int, room: int, path: str) -> np.ndarray:
    magic = bytes((0, 0, 8, dimensions))
    header = 4 + 4 * dimensions
    head = file.read(header)
    if head[:4] != magic[: len(head)] or len(head) < 4:
        found = head[:4].hex(" ") or "nothing"
        raise DataError("malformed", f"starts with {found} instead of {magic.hex(' ')}", f"{path} at byte 0")
    if len(head) < header:
        raise DataError("malformed", "ends within its header", f"{path} at byte {len(head)}")
    shape = struct.unpack(f">{dimensions}I", head[4:])
    count = math.prod(shape)
    if count > room:  # before any allocation
        raise DataError("malformed", f"promises {count} values, more than it can hold", f"{path} at byte 4")
    data = file.read(count + 1)
    if len(data) != count:
        fault = (
            f"ends after {len(data)} of {count} values"
            if len(data) < count
            else "goes on after its last value"
        )
        raise DataError("malformed", fault, f"{path} at byte {header + min(len(data), count)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def is_idx(folder: Path) -> bool:
    return any(folder.glob("*images[-.]idx3-ubyte*"))


def find(folder: Path, split: str, kind: str) -> Path | None:
    """The file of a split; kind is `images-idx3` or `labels-idx1`. Unzipped goes before zipped."""
    for prefix in PREFIXES[split]:
        for dash in (kind, kind.replace("-", ".")):
            for suffix in ("-ubyte", "-ubyte.gz"):
                if (path := folder / f"{prefix}-{dash}{suffix}").is_file():
                    return path
    return None


def load_idx(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """pixels uint8 [N, 1, H, W] and labels int64 [N] of a folder of IDX files."""
    paths = [find(folder, split, kind) for kind in ("images-idx3", "labels-idx1")]
    if paths[0] is None or paths[1] is None:
        wanted = " and ".join(
            f"{PREFIXES[split][0]}-{kind}-ubyte[.gz]" for kind in ("images-idx3", "labels-idx1")
        )
        raise DataError("missing-data", f"the {split} split wants {wanted} here", str(folder))
    pixels, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if len(pixels) != len(labels):
        raise DataError(
            "malformed", f"{len(labels)} labels for {len(pixels)} images", f"{paths[1]} at byte 4"
        )
    return pixels[:, None], labels.astype(np.int64)
