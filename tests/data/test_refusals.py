"""Missing, malformed and hostile inputs: one typed error that says what and where."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slt_infer.data import NAMES, load, load_files
from slt_infer.errors import DataError

HEADER = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 3, 3)
GOOD = HEADER + bytes(18)
LABELS = bytes((0, 0, 8, 1)) + struct.pack(">I", 2) + bytes(2)


def refused(source: Path | str, code: str, split: str = "test", data_dir: Path | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        load(source, split, data_dir)
    assert caught.value.code == code, str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_missing_set_says_what_to_get_and_where_to_put_it(name: str, tmp_path: Path) -> None:
    text = str(refused(name, "missing-data", data_dir=tmp_path))
    assert str(tmp_path / name) in text
    assert "download" in text


def test_missing_fashion_mnist_names_the_package(tmp_path: Path) -> None:
    assert "apt-get install dataset-fashion-mnist" in str(
        refused("fashion-mnist", "missing-data", data_dir=tmp_path)
    )


def test_unknown_names_paths_and_splits(tmp_path: Path) -> None:
    assert "fashion-mnist" in str(refused("fashion_mnist", "unknown-data"))
    refused("digits", "unknown-data", split="validation")
    (tmp_path / "notes.txt").write_text("no images")
    refused(tmp_path / "notes.txt", "unknown-data")
    refused(tmp_path, "missing-data")
    with pytest.raises(DataError):
        load("digits", limit=0)


@pytest.mark.parametrize(
    ("content", "text", "offset"),
    [
        (b"", "starts with nothing", 0),
        (b"\0\0\x08\x01" + GOOD[4:], "00 00 08 01 instead of 00 00 08 03", 0),
        (b"\0\0\x0d\x03" + GOOD[4:], "instead of", 0),
        (GOOD[:9], "within its header", 9),
        (GOOD[:-1], "ends after 17 of 18|promises 18", None),
        (GOOD + b"\0", "goes on", 34),
        (HEADER[:4] + b"\xff" * 12 + bytes(40), "promises 79228162458924105385300197375 values", 4),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx(tmp_path: Path, content: bytes, text: str, offset: int | None, zipped: bool) -> None:
    path = tmp_path / ("t10k-images-idx3-ubyte" + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(content) if zipped else content)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(LABELS)
    with pytest.raises(DataError, match=text) as caught:
        load(tmp_path)
    assert caught.value.code == "malformed"
    assert offset is None or caught.value.where == f"{path} at byte {offset}"


def test_idx_of_which_a_part_is_missing(tmp_path: Path) -> None:
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(GOOD)
    assert "t10k-labels-idx1-ubyte" in str(refused(tmp_path, "missing-data"))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(LABELS[:4] + struct.pack(">I", 3) + bytes(3))
    assert "3 labels for 2 images" in str(refused(tmp_path, "malformed"))


def test_damaged_gzip(tmp_path: Path) -> None:
    path, whole = tmp_path / "t10k-images-idx3-ubyte.gz", gzip.compress(GOOD)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(LABELS)
    for content in (whole[:-9], whole[:12], whole[:-8] + b"\0" * 8, whole[:10] + b"\xff" * 20):
        path.write_bytes(content)
        refused(tmp_path, "malformed")


def test_cifar(tmp_path: Path) -> None:
    path = tmp_path / "test_batch.bin"
    path.write_bytes(bytes(3073 * 2 - 1))
    assert refused(tmp_path, "malformed").where == f"{path} at byte 3073"
    path.write_bytes(bytes(3073) + b"\x0a" + bytes(3072))
    assert refused(tmp_path, "malformed").where == f"{path} at byte 3073"
    path.write_bytes(b"")
    refused(tmp_path, "malformed")
    assert "data_batch_1.bin" in str(refused(tmp_path, "missing-data", split="train"))


def test_damaged_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:40], whole[:-30], b"GIF89a" + whole[6:]):
        path.write_bytes(content)
        assert refused(tmp_path, "bad-image").where == str(path)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    assert "8 bits" in str(refused(tmp_path, "bad-image"))


def test_image_that_claims_to_be_huge(tmp_path: Path) -> None:
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6 100000 100000 255\n" + bytes(100))
    refused(tmp_path, "limit")


def test_missing_image_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_files([tmp_path / "none.png"])
    assert caught.value.code == "missing-data"


def test_class_that_was_not_trained(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/c"):
        (tmp_path / name).mkdir(parents=True)
    assert "class c" in str(refused(tmp_path, "malformed"))


def parquet_file(
    path: Path, columns: dict[str, list[object]], metadata: dict[str, str] | None = None
) -> None:
    arrow = pytest.importorskip("pyarrow", reason="parquet files want pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table(columns).replace_schema_metadata(metadata), path)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    parquet_file(path, {"text": ["a"], "label": [0]})
    assert "no column img or image among text, label" in str(refused(path, "malformed"))
    parquet_file(path, {"img": [{"bytes": b"no image", "path": None}], "label": [0]})
    assert refused(path, "bad-image").where == f"{path} at row 0"
    parquet_file(path, {"img": [{"bytes": None, "path": "a.png"}], "label": [0]})
    refused(path, "malformed")
    for label in (-1, 3, "a"):
        parquet_file(path, {"img": [{"bytes": b"", "path": None}], "label": [label]}, {"names": "a,b,c"})
        assert "label" in str(refused(path, "malformed"))
    whole = path.read_bytes()
    for content in (b"PAR1", whole[: len(whole) // 2], whole[:-12] + b"\xff" * 8 + b"PAR1"):
        path.write_bytes(content)
        refused(path, "malformed")
    assert "train.parquet" in str(refused(tmp_path, "missing-data", split="train"))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_no_idx_file_crashes(tmp_path_factory: pytest.TempPathFactory, content: bytes, zipped: bool) -> None:
    """Whatever the bytes: images that are really there, or a DataError."""
    path = tmp_path_factory.mktemp("idx") / "t10k-images-idx3-ubyte"
    content = b"\0\0\x08\x03" + content
    path.write_bytes(b"\x1f\x8b\x08" + content if zipped else content)
    try:
        images = load(path)
    except DataError:
        return
    assert images.pixels.size == len(content) - 16


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=4), st.sampled_from(["test.parquet", "a.png"]))
def test_no_damaged_file_crashes(
    tmp_path_factory: pytest.TempPathFactory, bits: list[int], name: str
) -> None:
    """Flipped bits: images, or a DataError."""
    path = tmp_path_factory.mktemp("damaged") / name
    pixels = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(pixels, "PNG")
    if name == "a.png":
        path.write_bytes(pixels.getvalue())
    else:
        cell = {"bytes": pixels.getvalue(), "path": None}
        parquet_file(path, {"img": [cell] * 2, "label": [0, 1]}, {"names": "a,b"})
    content = bytearray(path.read_bytes())
    for bit in bits:
        content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        images = load(path)
        assert images.pixels.dtype == np.uint8
        assert images.pixels.ndim == 4


def test_packages_that_are_not_installed(tmp_path: Path) -> None:
    """Without scikit-learn and pyarrow the errors say what to install."""
    (tmp_path / "test.parquet").write_bytes(b"PAR1")
    program = """
import sys
sys.modules.update(dict.fromkeys(("sklearn", "sklearn.datasets", "pyarrow")))
from slt_infer.data import load
from slt_infer.errors import DataError
for name in ("digits", sys.argv[1]):
    try:
        load(name)
    except DataError as error:
        print(error.code, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "test.parquet")],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert all(
        line.startswith("missing-package") and "pip install 'slt-infer[data]'" in line for line in lines
    )
