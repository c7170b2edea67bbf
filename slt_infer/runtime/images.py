"""What plans and the calibration take for images."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from slt_infer.errors import SltError


def as_numpy(images: Any, size: tuple[int, int, int]) -> np.ndarray:
    """Preprocessed images [N, C, H, W], float32, of NumPy or torch (on the CPU), as an array.

    Raises SltError (`bad-input`) for another shape, type or device.
    """
    kind = getattr(images, "dtype", type(images).__name__)
    if is_torch(images):
        if images.device.type != "cpu":
            raise SltError("bad-input", f"is on {images.device}, wants the CPU", "images")
        images = images.detach().numpy()
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        raise _wrong(f"wants float32 numbers of NumPy or torch, is given {kind}")
    if images.ndim != 4 or images.shape[1:] != size:
        raise _wrong(f"wants shape [N, {', '.join(map(str, size))}], is given {list(images.shape)}")
    return images


def _wrong(what: str) -> SltError:
    return SltError("bad-input", f"{what}; slt_infer.data.preprocess makes what is wanted", "images")


def as_given(logits: np.ndarray, images: Any) -> Any:
    """The logits in torch where the images are."""
    return sys.modules["torch"].from_numpy(logits) if is_torch(images) else logits


def is_torch(images: Any) -> bool:
    """Imports nothing."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(images, torch.Tensor)
