"""Preprocessing against docs/format.md, section 4, "input", computed step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from slt_infer.data import preprocess
from slt_infer.errors import DataError

RNG = np.random.Generator(np.random.PCG64(3))


@dataclass
class Rules:
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: str = "exact"


def test_every_value_is_rounded_after_each_operation() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, 1)
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    got = preprocess(pixels, Rules(mean, std), (3, 16, 16))
    assert got.dtype == np.float32
    for channel in range(3):
        for value in range(256):
            # One IEEE operation in float64 of float32 operands, rounded to float32, is the float32 operation.
            scaled = np.float32(np.float64(value) / np.float64(255))
            centred = np.float32(np.float64(scaled) - np.float64(np.float32(mean[channel])))
            wanted = np.float32(np.float64(centred) / np.float64(np.float32(std[channel])))
            assert got[0, channel, value // 16, value % 16] == wanted


def test_empty_lists_only_scale() -> None:
    pixels = RNG.integers(0, 256, (4, 1, 5, 6), dtype=np.uint8)
    got = preprocess(pixels, Rules(), (1, 5, 6))
    np.testing.assert_array_equal(got, pixels.astype(np.float32) / np.float32(255))
    assert preprocess(pixels[:0], Rules(), (1, 5, 6)).shape == (0, 1, 5, 6)
    assert preprocess(pixels[:0], Rules(resize="stretch"), (1, 7, 7)).shape == (0, 1, 7, 7)


def test_stretch_is_pillows_bilinear() -> None:
    pixels = RNG.integers(0, 256, (2, 3, 20, 30), dtype=np.uint8)
    got = preprocess(pixels, Rules(resize="stretch"), (3, 8, 9))
    for image, ours in zip(pixels, got, strict=True):
        pillow = Image.fromarray(image.transpose(1, 2, 0)).resize((9, 8), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(
            ours, np.asarray(pillow).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        )


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (16, 99), (12, 20)])
def test_crop_is_shorter_side_then_middle(height: int, width: int) -> None:
    pixels = RNG.integers(0, 256, (1, 1, height, width), dtype=np.uint8)
    got = preprocess(pixels, Rules(resize="crop"), (1, 16, 16))[0, 0]
    long = max(height, width) * 16 // min(height, width)
    size = (16, long) if height > width else (long, 16)  # Pillow: (width, height)
    whole = np.asarray(Image.fromarray(pixels[0, 0]).resize(size, Image.Resampling.BILINEAR))
    start = (long - 16) // 2
    wanted = whole[start : start + 16] if height > width else whole[:, start : start + 16]
    np.testing.assert_array_equal(got, wanted.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("pixels", "rules", "size", "text"),
    [
        (np.zeros((1, 1, 4, 4), np.uint8), Rules(), (1, 4, 5), "4x4 where 4x5"),
        (np.zeros((1, 1, 4, 4), np.uint8), Rules(), (3, 4, 4), "1 channels where 3"),
        (np.zeros((1, 1, 4, 4), np.uint8), Rules((0.5,), ()), (1, 4, 4), "1 means and 0 stds"),
        (np.zeros((1, 1, 4, 4), np.uint8), Rules((0.5, 0.5), (1.0, 1.0)), (1, 4, 4), "2 means"),
        (np.zeros((1, 1, 4, 4), np.uint8), Rules(resize="crop"), (1, 2, 8), "too narrow"),
        (np.zeros((1, 1, 4, 4), np.uint8), Rules(resize="bicubic"), (1, 2, 8), "unknown resize"),
        (np.zeros((1, 1, 4, 4), np.float32), Rules(), (1, 4, 4), "uint8"),
        (np.zeros((1, 4, 4), np.uint8), Rules(), (1, 4, 4), "uint8"),
    ],
)
def test_refusals(pixels: np.ndarray, rules: Rules, size: tuple[int, int, int], text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        preprocess(pixels, rules, size)
    assert caught.value.code == "bad-size"
