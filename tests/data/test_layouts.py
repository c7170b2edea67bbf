"""Every layout, written by hand here from its specification and read back."""

from __future__ import annotations

import gzip
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slt_infer.data import load, load_files
from slt_infer.errors import DataError

RNG = np.random.Generator(np.random.PCG64(7))
GREY = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 2, 2, 0])


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def png(pixels: np.ndarray) -> bytes:
    """[H, W] or [3, H, W] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def write_idx(folder: Path, prefix: str, zipped: bool, dash: str = "-") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images", GREY), ("labels", LABELS.astype(np.uint8))):
        path = folder / f"{prefix}-{kind}{dash}idx{array.ndim}-ubyte{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k"), ("test", "test")])
def test_idx_folder(tmp_path: Path, zipped: bool, split: str, prefix: str) -> None:
    write_idx(tmp_path, prefix, zipped)
    images = load(tmp_path, split)
    np.testing.assert_array_equal(images.pixels, GREY[:, None])
    np.testing.assert_array_equal(images.labels, LABELS)
    assert images.labels is not None
    assert images.labels.dtype == np.int64
    assert images.classes == ("0", "1", "2")


def test_idx_of_old_names_and_single_file(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", False, dash=".")
    np.testing.assert_array_equal(load(tmp_path, "train").pixels, GREY[:, None])
    alone = load(tmp_path / "train-images.idx3-ubyte")
    np.testing.assert_array_equal(alone.pixels, GREY[:, None])
    assert alone.labels is None


@pytest.mark.parametrize("where", ["", "mnist", "MNIST/raw"])
def test_named_set_in_a_data_folder(tmp_path: Path, where: str) -> None:
    write_idx(tmp_path / where, "t10k", True)
    images = load("mnist", "test", tmp_path)
    np.testing.assert_array_equal(images.pixels, GREY[:, None])
    assert images.classes == tuple("0123456789")
    assert images.name == "mnist"


def cifar10(labels: np.ndarray) -> bytes:
    return b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, COLOUR, strict=True))


def test_cifar10_binary(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(cifar10((LABELS + number) % 10))
    (tmp_path / "test_batch.bin").write_bytes(cifar10(LABELS))
    train, test = load("cifar10", "train", tmp_path), load("cifar10", "test", tmp_path)
    np.testing.assert_array_equal(train.pixels, np.concatenate([COLOUR] * 5))
    np.testing.assert_array_equal(train.labels, np.concatenate([(LABELS + n) % 10 for n in range(1, 6)]))
    np.testing.assert_array_equal(test.pixels, COLOUR)
    assert test.classes[:3] == ("airplane", "automobile", "bird")
    (tmp_path / "batches.meta.txt").write_text("\n".join(f"c{n}" for n in range(10)) + "\n\n")
    assert load(tmp_path, "test").classes[9] == "c9"
    np.testing.assert_array_equal(load(tmp_path / "test_batch.bin").labels, LABELS)


def test_cifar100_binary_reads_the_fine_label(tmp_path: Path) -> None:
    records = [bytes([19, 90 + n]) + image.tobytes() for n, image in enumerate(COLOUR)]
    (tmp_path / "test.bin").write_bytes(b"".join(records))
    images = load("cifar100", "test", tmp_path)
    np.testing.assert_array_equal(images.labels, np.arange(90, 96))
    np.testing.assert_array_equal(images.pixels, COLOUR)
    assert len(images.classes) == 100


def write_parquet(path: Path, image: str, metadata: dict[str, str], rows: int = 6) -> None:
    arrow = pytest.importorskip("pyarrow", reason="parquet files want pyarrow")
    import pyarrow.parquet as parquet

    cells = [{"bytes": png(pixels), "path": None} for pixels in COLOUR[:rows]]
    table = arrow.table({image: cells, "label": LABELS[:rows]}).replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=2)


@pytest.mark.parametrize("image", ["img", "image"])
@pytest.mark.parametrize(
    "file", ["test.parquet", "data/test-00000-of-00001.parquet", "validation/0000.parquet"]
)
def test_parquet(tmp_path: Path, image: str, file: str) -> None:
    names = {"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}
    write_parquet(tmp_path / file, image, {"huggingface": json.dumps(names)})
    images = load(tmp_path, "test")
    np.testing.assert_array_equal(images.pixels, COLOUR)
    np.testing.assert_array_equal(images.labels, LABELS)
    assert images.classes == ("a", "b", "c")
    np.testing.assert_array_equal(load(tmp_path / file).pixels, COLOUR)


def test_parquet_of_several_files_and_a_limit(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00002.parquet", "img", {"names": "x,y,z"})
    write_parquet(tmp_path / "train-00001-of-00002.parquet", "img", {})
    assert len(load(tmp_path, "train")) == 12
    images = load(tmp_path, "train", limit=7)
    np.testing.assert_array_equal(images.pixels, np.concatenate([COLOUR, COLOUR[:1]]))
    np.testing.assert_array_equal(images.labels, [*LABELS, LABELS[0]])
    assert images.classes == ("x", "y", "z")


def write_folder(root: Path) -> None:
    for n, (pixels, label) in enumerate(zip(COLOUR, LABELS, strict=True)):
        path = root / "abc"[label] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels))


@pytest.mark.parametrize("test", ["test", "val"])
def test_image_folder(tmp_path: Path, test: str) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / test)
    order = np.argsort(LABELS, kind="stable")
    for split in ("train", "test"):
        images = load(tmp_path, split)
        np.testing.assert_array_equal(images.pixels, COLOUR[order])
        np.testing.assert_array_equal(images.labels, LABELS[order])
        assert images.classes == ("a", "b", "c")


def test_folder_without_splits_is_no_training_set(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert len(load(tmp_path, "test")) == 6
    with pytest.raises(DataError, match="no train split") as caught:
        load(tmp_path, "train")
    assert caught.value.code == "missing-data"


def test_images_of_several_kinds_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(COLOUR[0]))
    (tmp_path / "b.png").write_bytes(png(GREY[0]))
    with pytest.raises(DataError, match="5x4, the ones before are 32x32") as caught:
        load(tmp_path)
    assert caught.value.where.endswith("b.png")
    images = load(tmp_path, size=(3, 5, 4), resize="stretch")
    assert images.labels is None
    np.testing.assert_array_equal(images.pixels[1], np.stack([GREY[0]] * 3))
    grey = load_files([tmp_path / "b.png"], (1, 5, 4)).pixels
    np.testing.assert_array_equal(grey, GREY[:1, None])
    np.testing.assert_array_equal(load(tmp_path / "b.png").pixels, GREY[:1, None])


@pytest.mark.parametrize("limit", [None, 2])
def test_size_is_a_matter_of_every_layout(tmp_path: Path, limit: int | None) -> None:
    """An array set and the same images as files give the same pixels, in grey and in colour."""
    (tmp_path / "test_batch.bin").write_bytes(cifar10(LABELS))
    files = []
    for number, pixels in enumerate(COLOUR):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(png(pixels))
    for size in ((3, 20, 24), (1, 20, 24), (1, 32, 32)):
        binary = load(tmp_path / "test_batch.bin", size=size, resize="stretch", limit=limit)
        np.testing.assert_array_equal(binary.pixels, load_files(files[:limit], size, "stretch").pixels)
        assert binary.labels is not None
        assert len(binary.labels) == len(binary)
    grey = np.asarray(Image.fromarray(COLOUR[0].transpose(1, 2, 0)).convert("L"))
    np.testing.assert_array_equal(load_files(files[:1], (1, 32, 32)).pixels[0, 0], grey)
    with pytest.raises(DataError, match="32x32 where 5x5") as caught:
        load(tmp_path / "test_batch.bin", size=(3, 5, 5))
    assert caught.value.code == "bad-size"
    with pytest.raises(DataError, match="3 channels where 2"):
        load(tmp_path / "test_batch.bin", size=(2, 32, 32))


def test_digits() -> None:
    sklearn = pytest.importorskip("sklearn.datasets", reason="digits come with scikit-learn")
    train, test = load("digits", "train"), load("digits", "test")
    assert (len(train), len(test)) == (1442, 355)
    whole = sklearn.load_digits()
    # The split takes the set apart: together the two are the whole set, and each class gives a fifth to test.
    ours = np.concatenate([train.pixels, test.pixels]).reshape(-1, 64)
    theirs = np.floor(whole.data * 255 / 16 + 0.5).astype(np.uint8)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))
    np.testing.assert_array_equal(np.bincount(test.labels), np.bincount(whole.target) // 5)
    zeros = np.flatnonzero(whole.target == 0)
    np.testing.assert_array_equal(test.pixels[test.labels == 0][0].ravel(), theirs[zeros[4]])


def test_debian_fashion_mnist() -> None:
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    test = load("fashion-mnist", "test")
    assert test.pixels.shape == (10000, 1, 28, 28)
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
    # The first test image as the set's authors show it, and the mean that users normalise by (0.2860).
    assert test.classes[test.labels[0]] == "Ankle boot"
    assert abs(load("fashion-mnist", "train").pixels.mean() / 255 - 0.2860) < 5e-5


def test_shared_cifar10() -> None:
    pytest.importorskip("pyarrow", reason="parquet files want pyarrow")
    shared = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10"
    if not shared.is_dir():
        pytest.skip("the shared data folder is not here")
    test = load(shared, "test")
    assert test.pixels.shape == (10000, 3, 32, 32)
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
    assert test.classes[0] == "airplane"
    # The channel means that users normalise CIFAR-10 by, to within what JPEG took.
    np.testing.assert_allclose(test.pixels.mean((0, 2, 3)) / 255, [0.4914, 0.4822, 0.4465], atol=0.01)
