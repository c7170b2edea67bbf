"""Hugging Face image sets: parquet files with a column `img` or `image` {bytes, path} and one of labels.

https://huggingface.co/docs/hub/datasets-image. Row groups are read in turn, so that memory holds one of
encoded images beside the decoded ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slt_infer.data.images import Fit, decode, stack
from slt_infer.errors import DataError

IMAGES = ("img", "image")
LABELS = ("label", "labels", "fine_label")
SPLITS = {"train": ("train",), "test": ("test", "validation", "valid", "val")}


def files_of(folder: Path, split: str) -> list[Path]:
    """The parquet files of a split, found by name: `train.parquet`, `test-00000-of-00001.parquet`,
    `test/…`."""
    for prefix in SPLITS[split]:
        found = [
            p
            for p in (*folder.glob("*.parquet"), *folder.glob("*/*.parquet"))
            if _in_split(p, folder, prefix)
        ]
        if found:
            return sorted(found)
    raise DataError(
        "missing-data", f"no parquet file of the {split} split here ({split}.parquet)", str(folder)
    )


def _in_split(path: Path, folder: Path, prefix: str) -> bool:
    part = path.name if path.stem.startswith(prefix) else path.relative_to(folder).parts[0]
    return part == prefix or (part.startswith(prefix) and not part[len(prefix)].isalnum())


def load_parquet(
    paths: list[Path], fit: Fit, limit: int | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """pixels uint8 [N, C, H, W], labels int64 [N] or None, and class names where the files tell them."""
    labels: list[int] = []
    names: list[str] = []

    def decoded() -> Iterator[tuple[np.ndarray, str]]:
        for path in paths:
            for row, (image, label) in enumerate(_rows(path, names)):
                where = f"{path} at row {row}"
                if not isinstance(image, bytes):
                    raise DataError("malformed", "no image bytes", where)
                if label is not None:
                    labels.append(_label(label, names, where))
                pixels = decode(image, where)
                yield pixels, where
                count[0] += 1
                if limit is not None and count[0] >= limit:
                    return

    count = [0]
    pixels = stack(decoded(), fit, ", ".join(map(str, paths)))
    if labels and len(labels) != len(pixels):
        raise DataError("malformed", f"{len(labels)} labels for {len(pixels)} images", str(paths[-1]))
    return pixels, np.array(labels, np.int64) if labels else None, tuple(names)


def _rows(path: Path, names: list[str]) -> Iterator[tuple[Any, Any]]:
    """(image bytes, label or None) of each row; `names` receives the class names of the first file that has
    any."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(
            "missing-package", "parquet files want pyarrow: pip install 'slt-infer[data]'", str(path)
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            image = next((name for name in IMAGES if name in schema.names), None)
            if image is None:
                raise DataError(
                    "malformed", f"no column img or image among {', '.join(schema.names)}", str(path)
                )
            label = next((name for name in LABELS if name in schema.names), None)
            if not names:
                names.extend(_class_names(schema.metadata or {}, label))
            columns = [image, label] if label else [image]
            for batch in file.iter_batches(batch_size=512, columns=columns):
                cells = batch.column(0)
                if arrow.types.is_struct(cells.type) and cells.type.get_field_index("bytes") >= 0:
                    cells = cells.field("bytes")
                values = batch.column(1).to_pylist() if label else [None] * len(batch)
                yield from zip(cells.to_pylist(), values, strict=True)
    except (arrow.ArrowException, OSError, ValueError) as error:  # ValueError: text that is no UTF-8
        raise DataError("malformed", f"cannot be read as parquet: {error}", str(path)) from error


def _class_names(metadata: dict[bytes, bytes], label: str | None) -> list[str]:
    """From the Hugging Face feature description, or a plain comma-separated `names`."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        plain = metadata.get(b"names", b"").decode("utf-8", errors="replace")
        return plain.split(",") if plain else []


def _label(label: Any, names: list[str], where: str) -> int:
    if not isinstance(label, int) or label < 0 or (names and label >= len(names)):
        raise DataError("malformed", f"label {label!r} of {len(names) or 'unnamed'} classes", where)
    return label
