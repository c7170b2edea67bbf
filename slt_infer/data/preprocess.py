"""From 8-bit pixels to a network's input (docs/format.md, section 4, "input")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from slt_infer.data.images import Size, resized
from slt_infer.errors import DataError


class Rules(Protocol):
    """What of a ticket's preprocessing is needed here; ticket.Preprocessing is one."""

    @property
    def mean(self) -> Sequence[float]: ...
    @property
    def std(self) -> Sequence[float]: ...
    @property
    def resize(self) -> str: ...


def preprocess(pixels: np.ndarray, rules: Rules, size: Size) -> np.ndarray:
    """uint8 [N, C, H, W] to float32 [N, *size]: resize, then (v / 255 - mean) / std, each operation in
    float32.

    There are only 256 values per channel, so they are computed once and looked up. Raises DataError
    (`bad-size`) for a shape that `rules.resize` cannot bring to `size` (channels, height, width).
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise DataError("bad-size", f"pixels are uint8 [N, C, H, W], not {pixels.dtype} {list(pixels.shape)}")
    if pixels.shape[1] != size[0]:
        raise DataError("bad-size", f"images of {pixels.shape[1]} channels where {size[0]} are wanted")
    if pixels.shape[2:] != size[1:]:
        fitted = [resized(one, size[1:], rules.resize, f"image {i}") for i, one in enumerate(pixels)]
        pixels = np.stack(fitted) if fitted else np.empty((0, *size), np.uint8)
    table = _values(rules, size[0])
    out = np.empty(pixels.shape, np.float32)
    for channel in range(size[0]):
        np.take(table[channel], pixels[:, channel], out=out[:, channel])
    return out


def _values(rules: Rules, channels: int) -> np.ndarray:
    """float32 [channels, 256]: what each 8-bit value becomes."""
    values = np.tile(np.arange(256, dtype=np.float32) / np.float32(255), (channels, 1))
    if len(rules.mean) != len(rules.std) or len(rules.mean) not in (0, channels):
        raise DataError(
            "bad-size", f"{len(rules.mean)} means and {len(rules.std)} stds for {channels} channels"
        )
    if len(rules.mean) == 0:
        return values
    mean, std = (np.asarray(list(v), np.float32)[:, None] for v in (rules.mean, rules.std))
    return np.asarray((values - mean) / std, np.float32)
