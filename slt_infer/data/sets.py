"""Data sets by name or path: where their files are looked for, and which reader takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slt_infer.data.cifar import kind_of, load_cifar, read_batch
from slt_infer.data.folder import is_split, load_folder
from slt_infer.data.idx import is_idx, load_idx, read_idx
from slt_infer.data.images import SUFFIXES, Fit, Images, Size, load_files
from slt_infer.data.parquet import files_of, load_parquet
from slt_infer.errors import DataError

DEBIAN = Path("/usr/share/datasets")
HERE = Path("data")
_IDX = ", ".join(f"{s}-{k}-ubyte.gz" for s in ("train", "t10k") for k in ("images-idx3", "labels-idx1"))


@dataclass(frozen=True)
class _Named:
    """A data set with a name: the folders it may lie in below a data folder, its classes, how to get it."""

    folders: tuple[str, ...]
    classes: tuple[str, ...]
    get: str


_NAMED = {
    "mnist": _Named(
        ("mnist", "MNIST/raw"),
        tuple("0123456789"),
        f"download {_IDX} from https://ossci-datasets.s3.amazonaws.com/mnist",
    ),
    "fashion-mnist": _Named(
        ("fashion-mnist", "FashionMNIST/raw"),
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        "on Debian or Ubuntu, apt-get install dataset-fashion-mnist; elsewhere download "
        f"{_IDX} from https://github.com/zalandoresearch/fashion-mnist (data/fashion)",
    ),
    "cifar10": _Named(
        ("cifar10", "cifar-10-batches-bin"),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "download https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz and unpack it, "
        "or the parquet files of https://huggingface.co/datasets/uoft-cs/cifar10",
    ),
    "cifar100": _Named(
        ("cifar100", "cifar-100-binary"),
        tuple(map(str, range(100))),
        "download https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz and unpack it, "
        "or the parquet files of https://huggingface.co/datasets/uoft-cs/cifar100",
    ),
}
NAMES = ("digits", *_NAMED)


def load(
    name_or_path: str | Path,
    split: str = "test",
    data_dir: str | Path | None = None,
    *,
    size: Size | None = None,
    resize: str = "exact",
    limit: int | None = None,
) -> Images:
    """The `train` or `test` split of a data set: a name of NAMES, or a file or folder known by its content.

    data_dir: where a named set lies (it, or a subfolder of the set's name); without it ./data and the
    places of Debian's packages are searched. size (channels, height, width) and resize: what image files
    are brought to; without size all must have one size. limit: only the first so many
    images.

    Raises DataError: `missing-data` and `missing-package` say what to get and where to put it;
    `unknown-data`; `malformed`, `bad-image`, `bad-size`, `limit` name the file and the byte, row or file at
    fault.
    """
    if split not in ("train", "test"):
        raise DataError("unknown-data", f"split {split!r}; there are train and test", str(name_or_path))
    if limit is not None and limit < 1:
        raise DataError("limit", f"limit {limit} is below 1", str(name_or_path))
    fit, name = Fit(size, resize), str(name_or_path)
    if name == "digits":
        digits = _digits(split).first(limit)
        return replace(digits, pixels=fit.all(digits.pixels, name))
    if name in _NAMED:
        return _named(name, split, None if data_dir is None else Path(data_dir), fit, limit)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        message = f"no such file or folder, and no data set of that name; names: {', '.join(NAMES)}"
        raise DataError("unknown-data", message, name)
    return _read(path, split, fit, limit)


def splits(name_or_path: str | Path) -> tuple[str, ...]:
    """Those that `load` knows of a data set: train and test, but test alone for a file, and for a folder of
    images without subfolders of these names.
    """
    path = Path(name_or_path).expanduser()
    if str(name_or_path) in NAMES or not path.exists():
        return ("train", "test")
    whole = path.is_file() or (_recognise(path) == "folder" and not is_split(path))
    return ("test",) if whole else ("train", "test")


def _digits(split: str) -> Images:
    """scikit-learn's 1,797 digits of 8 x 8 pixels and 17 grey levels, stretched to 8 bits.

    The test split is every fifth image of each class in the set's order (the fifth, tenth, …), train the
    others.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        message = "it comes with scikit-learn: pip install 'slt-infer[data]'"
        raise DataError("missing-package", message, "digits") from None
    digits = load_digits()
    levels, labels = np.rint(digits.images).astype(np.int64), digits.target.astype(np.int64)
    pixels = ((levels * 255 + 8) // 16).astype(np.uint8)[:, None]
    held_out = np.zeros(len(labels), bool)
    for label in range(10):
        held_out[np.flatnonzero(labels == label)[4::5]] = True
    chosen = held_out if split == "test" else ~held_out
    return Images(pixels[chosen], labels[chosen], tuple("0123456789"), "digits")


def _named(name: str, split: str, data_dir: Path | None, fit: Fit, limit: int | None) -> Images:
    known = _NAMED[name]
    places = [(data_dir or HERE) / folder for folder in known.folders]
    places.append(DEBIAN / name if data_dir is None else data_dir)
    for place in places:
        if place.is_dir() and _recognise(place) in ("idx", "cifar", "parquet"):
            images = _read(place, split, fit, limit)
            classes = known.classes if _unnamed(images.classes) else images.classes
            if images.labels is not None and len(images.labels) and images.labels.max() >= len(classes):
                raise DataError(
                    "malformed", f"label {images.labels.max()} of {len(classes)} classes", str(place)
                )
            return Images(images.pixels, images.labels, classes, name)
    looked = ", ".join(map(str, places))
    raise DataError(
        "missing-data", f"not found in {looked}. To get it: {known.get}; put the files into {places[0]}", name
    )


def _unnamed(classes: tuple[str, ...]) -> bool:
    return classes == _numbered(len(classes))


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _recognise(path: Path) -> str:
    """The layout of a file or folder, by its content: idx, cifar, parquet, folder, image, or nothing
    known."""
    if path.is_dir():
        if is_idx(path):
            return "idx"
        if kind_of(path):
            return "cifar"
        if any(path.glob("*.parquet")) or any(path.glob("*/*.parquet")):
            return "parquet"
        return "folder"
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        return "parquet"
    if start == b"\0\0\x08\x03" or (start[:2] == b"\x1f\x8b" and "idx3" in path.name):
        return "idx"
    if path.suffix == ".bin":
        return "cifar"
    return "image" if path.suffix.lower() in SUFFIXES else ""


def _read(path: Path, split: str, fit: Fit, limit: int | None) -> Images:
    kind = _recognise(path)
    if split not in splits(path):
        message = "no train split: lay train and test (or val) side by side in a folder and name that"
        raise DataError("missing-data", message, str(path))
    labels: np.ndarray | None
    classes: tuple[str, ...] = ()
    if kind == "parquet":
        pixels, labels, classes = load_parquet(
            [path] if path.is_file() else files_of(path, split), fit, limit
        )
    elif kind == "folder":
        pixels, labels, classes = load_folder(path, split, fit, limit)
    elif kind == "idx":
        pixels, labels = load_idx(path, split) if path.is_dir() else (read_idx(path, 3)[:, None], None)
    elif kind == "cifar" and path.is_dir():
        pixels, labels, classes = load_cifar(path, split)
    elif kind == "cifar":
        pixels, labels = read_batch(path, 100 if path.stat().st_size % 3074 == 0 else 10)
    elif kind == "image":
        return Images(load_files([path], fit.size, fit.resize).pixels, None, (), path.name)
    else:
        message = "not an IDX, CIFAR binary, parquet or image file"
        raise DataError("unknown-data", message, str(path))
    if not classes and labels is not None and len(labels):
        classes = _numbered(int(labels.max()) + 1)
    if not len(pixels):
        raise DataError("missing-data", "holds no images", str(path))
    images = Images(pixels, labels, classes, path.name).first(limit)
    return replace(images, pixels=fit.all(images.pixels, str(path)))
