"""CIFAR-10 and CIFAR-100, binary version: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".

A record is one label byte (CIFAR-100: the coarse, then the fine label), then 3072 bytes: red, green and blue
planes of 32 x 32 pixels, row by row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slt_infer.errors import DataError

PIXELS = 3 * 32 * 32
FILES: dict[int, dict[str, tuple[str, ...]]] = {
    10: {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    100: {"train": ("train.bin",), "test": ("test.bin",)},
}
NAME_FILES = {10: "batches.meta.txt", 100: "fine_label_names.txt"}


def kind_of(folder: Path) -> int | None:
    """10 or 100 for a folder that holds binary CIFAR files, else None."""
    for classes, files in FILES.items():
        if any((folder / name).is_file() for names in files.values() for name in names):
            return classes
    return None


def read_batch(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """pixels uint8 [N, 3, 32, 32] and labels int64 [N] of one binary file. Raises DataError with the byte."""
    record = PIXELS + (1 if classes == 10 else 2)
    size = path.stat().st_size
    if size == 0 or size % record:
        message = f"{size} bytes are not whole records of {record}"
        raise DataError("malformed", message, f"{path} at byte {size // record * record}")
    records = np.fromfile(path, np.uint8).reshape(-1, record)
    labels = records[:, record - PIXELS - 1].astype(np.int64)
    if (labels >= classes).any():
        first = int(np.argmax(labels >= classes))
        place = f"{path} at byte {first * record + record - PIXELS - 1}"
        raise DataError("malformed", f"label {labels[first]} of {classes} classes", place)
    return records[:, record - PIXELS :].reshape(-1, 3, 32, 32), labels


def load_cifar(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """pixels, labels and class names (empty where the folder has no file of them) of a split."""
    classes = kind_of(folder) or 10
    paths = [folder / name for name in FILES[classes][split]]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError("missing-data", f"the {split} split wants {', '.join(missing)} here", str(folder))
    batches = [read_batch(path, classes) for path in paths]
    pixels, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    return pixels, labels, _class_names(folder / NAME_FILES[classes], classes)


def _class_names(path: Path, classes: int) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    names = tuple(path.read_text("utf-8", errors="replace").split())
    if len(names) != classes:
        raise DataError("malformed", f"{len(names)} names of {classes} classes", str(path))
    return names
