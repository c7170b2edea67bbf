"""Image folders: one subfolder per class, below train/ and test/ (or val/), as ImageNet is unpacked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slt_infer.data.images import SUFFIXES, Fit, decode, stack
from slt_infer.errors import DataError

SPLITS = {"train": ("train",), "test": ("test", "val", "validation")}


def split_folder(folder: Path, split: str) -> Path | None:
    """The subfolder that holds a split, or None."""
    return next((folder / name for name in SPLITS[split] if (folder / name).is_dir()), None)


def is_split(folder: Path) -> bool:
    return any(split_folder(folder, split) for split in SPLITS)


def load_folder(
    folder: Path, split: str, fit: Fit, limit: int | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """pixels uint8 [N, C, H, W], labels int64 [N] and the sorted class names of a folder of image files.

    Images are ordered by class, then by path. A folder without class subfolders has no labels. Classes are
    those of train/ where it is there, so that labels of all splits agree.
    """
    root = split_folder(folder, split) if is_split(folder) else folder
    if root is None:
        raise DataError("missing-data", f"no subfolder {' or '.join(SPLITS[split])}", str(folder))
    classes = _classes(split_folder(folder, "train") or root)
    unknown = sorted(set(_classes(root)) - set(classes))
    if unknown:
        raise DataError("malformed", f"class {unknown[0]} is not in the train split", str(root))
    files = (
        [(p, label) for label, name in enumerate(classes) for p in image_files(root / name)]
        if classes
        else []
    )
    flat = [] if files else [(p, -1) for p in image_files(root)]
    chosen = (files or flat)[:limit]
    decoded = ((decode(path, str(path)), str(path)) for path, _ in chosen)
    pixels = stack(decoded, fit, str(root))
    return (
        pixels,
        None if flat else np.array([label for _, label in chosen], np.int64),
        classes if files else (),
    )


def _classes(root: Path) -> tuple[str, ...]:
    return tuple(
        sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    )


def image_files(root: Path) -> list[Path]:
    """All image files of a folder, and of the folders in it, by path; none where there is no folder."""
    return (
        sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if root.is_dir()
        else []
    )
